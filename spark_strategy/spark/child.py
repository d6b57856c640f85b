"""Starts, watches and stops one child process tree."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Final

import psutil

from spark_strategy.folder import ChildFolder
from spark_strategy.outcome import Reason
from spark_strategy.plan import Orders
from spark_strategy.spark import gpus
from spark_strategy.spark.guard import ENDING_SIGNALS

_GUARD: Final = "spark_strategy.spark.guard"
_GUARD_END_S: Final = 5.0
_STACKS_S: Final = 3.0
# The fault handler writes in many small pieces; what stands still for so long is whole.
_WHOLE_S: Final = 0.2
_SPARE_HEAP_BYTES: Final = 64 << 20
_CRASHES: Final = frozenset(
    {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE}
)

# Spark's own channel secrets and the variables that would make the child a Spark worker, or the
# driver that it is started from.
_NOT_PASSED_ON: Final = (
    *("PYTHON_WORKER_FACTORY_SECRET", "PYTHON_WORKER_FACTORY_SOCK_PATH"),
    *("PYSPARK_GATEWAY_PORT", "PYSPARK_GATEWAY_SECRET"),
)


def environment(
    base: Mapping[str, str],
    *,
    python_path: Sequence[str],
    cpus: int,
    settings: Mapping[str, str],
) -> dict[str, str]:
    """The child's environment.

    Args:
        base: the environment of the Spark worker, or of the driver.
        python_path: folders to import from, in order.
        cpus: the task's cpus; thread pools are sized by it unless ``base`` or ``settings``
            say otherwise.
        settings: what goes above all; its PYTHONPATH is put before ``python_path``.
    """
    threads = str(cpus)
    defaults = {
        "OMP_NUM_THREADS": threads,
        "TF_NUM_INTRAOP_THREADS": threads,
        # A collective and the computation it waits for need a thread each.
        "TF_NUM_INTEROP_THREADS": str(max(2, cpus)),
        "TF_CPP_MIN_LOG_LEVEL": "1",
        "PYTHONUNBUFFERED": "1",
        # glibc gives the end of its heap back to the kernel as soon as 128 KiB of it are free, and
        # each block of rows then faults its pages in again: four times the time (measured).
        "MALLOC_TOP_PAD_": str(_SPARE_HEAP_BYTES),
    }
    passed_on = {name: value for name, value in base.items() if name not in _NOT_PASSED_ON}
    own_path = settings.get("PYTHONPATH")
    path = os.pathsep.join([*([own_path] if own_path else []), *python_path])
    fixed = {"PYTHONPATH": path, "TF_GRPC_REUSE_PORT": "true"}
    return defaults | passed_on | dict(settings) | fixed


def child_settings(orders: Orders, devices: tuple[str, ...] | None) -> dict[str, str]:
    """Variables that options ask for; ``env=`` has the last word, except over GPUs."""
    settings = dict(orders.env)
    if orders.interface and "/" not in orders.interface:
        settings.setdefault("NCCL_SOCKET_IFNAME", orders.interface)
    return settings | gpus.environment(devices)


class Child:
    """One guard with one child below it.

    Args:
        folder: prepared by ``ChildFolder.prepare``; removed when the child is stopped.
        others: other folders that go with it; removed as well.
        env: the child's environment.
    """

    def __init__(self, folder: ChildFolder, others: Sequence[str], env: Mapping[str, str]) -> None:
        self.folder = folder
        self._others = tuple(others)
        with signals_wait():  # the guard inherits that they are blocked
            self._guard = subprocess.Popen(
                [sys.executable, "-P", "-m", _GUARD, str(folder.path), *others],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=dict(env),
                # Out of the Spark worker's process group: Spark ends that group at once.
                start_new_session=True,
            )
        self._stopped_since: float | None = None

    @property
    def output(self) -> IO[bytes]:
        """Standard output and error of the whole tree."""
        assert self._guard.stdout is not None
        return self._guard.stdout

    @property
    def guard_code(self) -> int | None:
        """How the guard ended, as ``Popen.returncode``; None while it watches, as it should."""
        return self._guard.poll()

    @property
    def has_died(self) -> bool:
        """Whether its process has ended; the guard says how when all below it has ended as well."""
        pid = self.folder.read_pid()
        try:
            return pid is not None and psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    def frozen_since(self) -> float | None:
        """When the child was first seen stopped (SIGSTOP), in seconds since the epoch."""
        pid = self.folder.read_pid()
        status = None
        with contextlib.suppress(psutil.NoSuchProcess):
            status = psutil.Process(pid).status() if pid is not None else None
        if status not in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP):
            self._stopped_since = None
        elif self._stopped_since is None:
            self._stopped_since = time.time()
        return self._stopped_since

    def kill(self) -> None:
        """End the child's process, and leave the guard to report it."""
        pid = self.folder.read_pid()
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def stacks(self) -> str:
        """Ask the child where it is; empty if it does not answer."""
        pid = self.folder.read_pid()
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGUSR1)
        deadline = time.monotonic() + _STACKS_S
        said = before = ""
        while (not said or said != before) and time.monotonic() < deadline:
            time.sleep(_WHOLE_S)
            said, before = self.folder.read_stacks(), said
        return said

    def stop(self) -> None:
        """End the tree and remove the folder. Safe to call again."""
        assert self._guard.stdin is not None
        with contextlib.suppress(OSError):
            self._guard.stdin.close()
        try:
            self._guard.wait(_GUARD_END_S)
        except subprocess.TimeoutExpired:
            self._end_without_guard()
        # The guard did this, unless it was killed.
        for place in (str(self.folder.path), *self._others):
            shutil.rmtree(place, ignore_errors=True)

    def _end_without_guard(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in psutil.Process(self._guard.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        self._guard.kill()
        self._guard.wait()


@contextlib.contextmanager
def signals_wait() -> Iterator[None]:
    """Have signals that would end this process wait until the block is left, for this thread.

    What a task makes before its guard runs would otherwise be left behind by a SIGTERM in between.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def new_folder(parent: str) -> ChildFolder:
    """An empty folder below ``parent`` that only this user can enter."""
    # Standalone executors say "."; a child may change its directory, so its paths are absolute.
    where = Path(parent).absolute()
    return ChildFolder(Path(tempfile.mkdtemp(prefix="spark_strategy-", dir=where)))


def address_space_note() -> str:
    """What limits this process's address space, and its child's; empty where nothing does."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return ""
    return (
        f"; its address space is limited to {limit / 2**20:,.0f} MiB (RLIMIT_AS, which "
        "spark.executor.pyspark.memory sets): unset that, and raise spark.executor.memoryOverhead"
    )


def explain_exit(code: int, note: str = "") -> tuple[Reason, str]:
    """What an exit code says about a child that left neither value nor failure.

    Args:
        code: exit code, or minus the signal number.
        note: what limits its memory; see :func:`address_space_note`.
    """
    if code >= 0:
        return Reason.EXITED, f"ended its process with exit code {code} (os._exit?)"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    if -code == signal.SIGKILL:
        return Reason.KILLED, "was killed by SIGKILL"
    if -code in _CRASHES:
        return Reason.CRASHED, f"crashed in native code ({name}){note}"
    return Reason.EXITED, f"was ended by {name}"
