"""A place for one cluster and its driver programs: a folder, an environment, and what runs in it.

Everything a test starts gets its temporary files below one folder and carries that folder in its
environment, so that what is left behind can be told from the work of others on this machine.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil
import pyspark

PROGRAMS = Path(__file__).parent / "programs"
# Spark's own configuration of the machine must not leak in.
_UNSET = ("SPARK_REMOTE", "SPARK_CONF_DIR", "PYTHONPATH", "TF_CONFIG", "PYSPARK_DRIVER_PYTHON")
_MARK = "SPARK_STRATEGY_TEST_SITE"


def wait_until(condition: Callable[[], Any], within_s: float, what: str) -> Any:
    """The condition's first true value; fails the test when ``within_s`` seconds have passed."""
    deadline = time.monotonic() + within_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        time.sleep(0.1)
    return value


def free_ports(count: int) -> list[int]:
    """Ports for servers that bind them later, below those that systems give to whoever asks."""
    found: list[int] = []
    for port in random.sample(range(10_000, 32_000), 200):
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            return found
    raise AssertionError("of 200 ports hardly one is free")


def _die_with_parent() -> None:
    """Clusters end with the test process, also when a deadline of the whole suite ends it."""
    set_parent_death_signal = 1  # linux/prctl.h
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL, 0, 0, 0)


class Program:
    """A process whose output goes to files.

    Args:
        command: what to run.
        env: its environment.
        log: where its standard output and error go (``.out`` and ``.err``).
    """

    def __init__(self, command: list[str], env: Mapping[str, str], log: Path) -> None:
        self._out, self._err = log.with_suffix(".out"), log.with_suffix(".err")
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                command,
                env=dict(env),
                cwd=log.parent,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - pytest runs no threads
            )

    @property
    def out(self) -> str:
        """Standard output so far."""
        return self._out.read_text(errors="replace")

    @property
    def err(self) -> str:
        """Standard error so far."""
        return self._err.read_text(errors="replace")

    def says(self, pattern: str, within_s: float) -> str:
        """The first match of ``pattern`` in either output, once it is there."""

        def found() -> str | None:
            match = re.search(pattern, self.out + self.err)
            if match is None and self.process.poll() is not None:
                raise AssertionError(f"ended without saying {pattern!r}:\n{self.tail()}")
            return match and match[0]

        try:
            return str(wait_until(found, within_s, pattern))
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.tail()}") from None

    def ends(self, within_s: float) -> int:
        """Its exit code."""
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still runs after {within_s:g} s:\n{self.tail()}") from None

    def answer(self, within_s: float) -> dict[str, Any]:
        """The JSON of its last line, after it has ended well."""
        assert self.ends(within_s) == 0, self.tail()
        answer: dict[str, Any] = json.loads(self.out.strip().splitlines()[-1])
        return answer

    def tail(self) -> str:
        """What it said last."""
        return f"--- stdout\n{self.out[-3000:]}\n--- stderr\n{self.err[-6000:]}"


class Site:
    """A folder for one cluster and its programs.

    Args:
        root: an empty folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.work = root / "home" / "work"
        self._count = 0
        for name in ("home", "tmp", "local", "conf"):
            (root / name).mkdir()
        # local-cluster keeps its executors' folders below SPARK_HOME: not in site-packages.
        spark_home = Path(str(pyspark.__file__)).parent
        for entry in spark_home.iterdir():
            if entry.name not in {"work", "logs"}:
                (root / "home" / entry.name).symlink_to(entry)
        self.env = {name: value for name, value in os.environ.items() if name not in _UNSET} | {
            _MARK: str(root),
            "SPARK_HOME": str(root / "home"),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_LOCAL_DIRS": str(root / "local"),
            "TMPDIR": str(root / "tmp"),
            "PYSPARK_PYTHON": sys.executable,
        }

    def start(self, command: list[str], **env: str) -> Program:
        """Run a command here."""
        self._count += 1
        name = f"{self._count:02d}-{Path(command[1]).stem}"
        return Program(command, {**self.env, **env}, self.root / name)

    def program(self, name: str, *arguments: object, **env: str) -> Program:
        """Run ``programs/NAME.py`` here as a driver program."""
        command = [sys.executable, str(PROGRAMS / f"{name}.py"), *map(str, arguments)]
        return self.start(command, **env)

    def processes(self) -> Iterator[psutil.Process]:
        """Everything that was started here and still lives."""
        for process in psutil.process_iter():
            try:
                here = process.environ().get(_MARK) == str(self.root)
                if here and process.status() != psutil.STATUS_ZOMBIE:
                    yield process
            except psutil.Error:
                continue

    def left_by_runs(self) -> list[str]:
        """Guards and children that live, folders and temporary files of runs."""
        # os.walk, not rglob: Spark removes folders meanwhile.
        found = [f"{at}/{name}" for at, names, _ in os.walk(self.root) for name in names]
        left = [path for path in found if Path(path).name.startswith("spark_strategy-")]
        left += [str(path) for path in (self.root / "tmp").glob("__autograph*")]
        for process in self.processes():
            try:
                line = " ".join(process.cmdline())
            except psutil.Error:
                continue
            if "spark_strategy.spark.guard" in line or "spark_strategy.worker.entry" in line:
                left.append(f"{process.pid} {line}")
        return left

    def executor_logs(self) -> str:
        """The standard error of every executor that ran here, by Spark's own layout."""
        logs = sorted(self.work.glob("app-*/*/stderr"))
        return "\n".join(log.read_text(errors="replace") for log in logs)

    def close(self) -> None:
        """End everything that was started here."""
        for process in list(self.processes()):
            try:
                process.send_signal(signal.SIGKILL)
            except psutil.Error:
                continue
        wait_until(lambda: not list(self.processes()), 20, "all processes of the site are gone")


class Standalone:
    """A Standalone master, and workers as they are added.

    Args:
        site: where they run.

    Attributes:
        url: the master's.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._deploy = [str(site.root / "home" / "bin" / "spark-class"), "org.apache.spark.deploy"]
        port, self._ui = free_ports(2)
        self.url = f"spark://127.0.0.1:{port}"
        options = ["--host", "127.0.0.1", "--port", str(port), "--webui-port", str(self._ui)]
        self._started = [self._start("master.Master", *options)]
        wait_until(lambda: self._workers() == 0, 120, "the master answers")

    def add_worker(self, *, cores: int) -> None:
        """One more worker, which has registered when this returns."""
        size = ["--cores", str(cores), "--memory", "2g", "--webui-port", "0"]
        place = ["--host", "127.0.0.1", "--port", "0"]
        self._started.append(self._start("worker.Worker", *place, *size, self.url))
        count = len(self._started) - 1
        wait_until(lambda: self._workers() == count, 120, f"{count} workers have registered")

    def _start(self, name: str, *arguments: str) -> Program:
        places = {
            "SPARK_WORKER_DIR": str(self._site.work),
            "SPARK_LOG_DIR": str(self._site.root / "logs"),
        }
        command = [self._deploy[0], f"{self._deploy[1]}.{name}", *arguments]
        return self._site.start(command, **places)

    def _workers(self) -> int:
        for program in self._started:
            assert program.process.poll() is None, program.tail()
        try:
            with urlopen(f"http://127.0.0.1:{self._ui}/json/", timeout=5) as answer:
                return int(json.load(answer)["aliveworkers"])
        except (OSError, ValueError):  # not yet, or no JSON yet
            return -1


@dataclass(frozen=True)
class Target:
    """A master (or Connect) URL and the site where its processes run."""

    url: str
    site: Site
