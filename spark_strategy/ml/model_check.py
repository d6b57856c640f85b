"""Has a model function checked in another process while Spark starts the ranks.

The theory. Whether a function returns a compiled model that takes the columns shows only when it is
called, and TensorFlow must stay out of the driver's process. Waiting for a process that imports
TensorFlow would make each correct run slower by seconds, so the check runs beside the launch: its
word ends the launch when it finds a mistake, and nobody waits for it when it finds none. Where the
ranks run on the driver's machine (``local[n]``), its import takes only the time that they leave.
The process stays for some minutes, so that a mended function is judged in a moment, and a function
that was found right for the same columns is not checked again.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import logging
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from spark_strategy.data.paths import FileRoot
from spark_strategy.errors import PlanError
from spark_strategy.parameter_server import ParameterServer
from spark_strategy.spark.capacity import file_root, is_local_master
from spark_strategy.spark.child import environment
from spark_strategy.spark.environment import import_path
from spark_strategy.worker.check_folder import Answer, CheckFolder, CheckOrder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyspark.sql import DataFrame

    from spark_strategy.data.columns import ColumnSpec
    from spark_strategy.launcher import Launcher
    from spark_strategy.worker.selection import Selection

_log = logging.getLogger(__name__)

_POLL_S: Final = 0.05
_POLITE: Final = 19


class _Passed:
    """What was found right in this process; two fits may run at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._digests: set[str] = set()

    def add(self, digest: str) -> None:
        """Remember one."""
        with self._lock:
            self._digests.add(digest)

    def __contains__(self, digest: str) -> bool:
        with self._lock:
            return digest in self._digests


class _Checker:
    """The process that checks, started when it is first needed and when it has ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._env: dict[str, str] = {}

    @property
    def lives(self) -> bool:
        """Whether an answer can still come."""
        return self._process is not None and self._process.poll() is None

    def ask(self, folder: CheckFolder, *, polite: bool) -> None:
        """Have the order in a folder checked; a process that ends meanwhile checks nothing."""
        env = environment(
            os.environ,
            python_path=import_path(),
            cpus=1,
            settings={"CUDA_VISIBLE_DEVICES": "-1"},
        )
        with self._lock, contextlib.suppress(BrokenPipeError):
            # What is read while TensorFlow is imported may have changed.
            if not self.lives or env != self._env:
                self._start(env, polite=polite)
            assert self._process is not None
            assert self._process.stdin is not None
            self._process.stdin.write(os.fsencode(folder.path) + b"\n")
            self._process.stdin.flush()

    def close(self) -> None:
        """End the process, which sees the end of its input."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()

    def _start(self, env: dict[str, str], *, polite: bool) -> None:
        self.close()
        nice = str(_POLITE if polite else 0)
        self._env = env
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "spark_strategy.worker.model_check", nice],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=env,
            start_new_session=True,
        )


_PASSED: Final = _Passed()
_CHECKER: Final = _Checker()
atexit.register(_CHECKER.close)


def checking(
    launcher: Launcher,
    df: DataFrame,
    model: bytes,
    selection: Selection,
    specs: Sequence[ColumnSpec],
) -> ModelCheck:
    """The check that belongs to a fit.

    A model for parameter servers is not checked: it may be larger than one machine.

    Args:
        launcher: what the model is trained with.
        df: the rows.
        model: the pickled model function.
        selection: which columns become features, label and weight.
        specs: the columns.
    """
    spark = df.sparkSession
    order = CheckOrder(model, selection, tuple(specs), FileRoot(), str(Path.cwd()), import_path())
    if isinstance(launcher.topology, ParameterServer) or _digest(order) in _PASSED:
        return ModelCheck(None, polite=True)
    # Last, because it asks Spark for Hadoop's whole configuration.
    order = replace(order, files=file_root(spark))
    return ModelCheck(order, polite=is_local_master(spark.conf.get("spark.master", None) or ""))


def _digest(order: CheckOrder) -> str:
    """What an order is known by; the files are the session's and do not change."""
    return hashlib.sha256(pickle.dumps(replace(order, files=FileRoot()))).hexdigest()


class ModelCheck:
    """One check; a context manager that forgets it.

    Args:
        order: what is to be checked; None for nothing.
        polite: whether the ranks run on this machine and go first.
    """

    def __init__(self, order: CheckOrder | None, *, polite: bool) -> None:
        self._digest = "" if order is None else _digest(order)
        self._folder: CheckFolder | None = None
        self._mistake: PlanError | None = None
        if order is not None and self._digest not in _PASSED:
            self._folder = CheckFolder(Path(tempfile.mkdtemp(prefix="spark_strategy-")))
            self._folder.prepare(order)
            _CHECKER.ask(self._folder, polite=polite)

    def __enter__(self) -> ModelCheck:
        return self

    def __exit__(self, *_: object) -> None:
        self._forget()

    def mistake(self, timeout_s: float = 0.0) -> PlanError | None:
        """What is wrong with the model; None if nothing is, or nothing is known yet.

        Args:
            timeout_s: seconds to wait for the answer.
        """
        deadline = time.monotonic() + timeout_s
        while not self._settled() and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        return self._mistake

    def _settled(self) -> bool:
        """Whether nothing is awaited any more; keeps what was found."""
        if self._folder is None:
            return True
        answer = self._folder.read()
        if answer is None and _CHECKER.lives:
            return False
        if answer is not None:
            self._take(answer)
        self._forget()
        return True

    def _take(self, answer: Answer) -> None:
        if answer.mistake:
            self._mistake = PlanError(answer.mistake)
        elif answer.doubt:
            _log.warning("The model function failed on the driver: %s", answer.doubt)
        else:
            _PASSED.add(self._digest)

    def _forget(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder.path, ignore_errors=True)
            self._folder = None
