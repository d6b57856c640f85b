"""Stands between a Spark task and its child process; ends the whole tree when either ends.

Run as ``python -m spark_strategy.spark.guard FOLDER PLACE...`` in a session of its own, with a
pipe from the Spark task as standard input. Nothing is ever written to that pipe: its end is the
message. The kernel closes it in every case, also when the task's Python is killed with
SIGKILL, so this small process, which imports nothing heavy and runs no user code, can still
end the child's tree and remove its folder and the other places it used. The child in turn dies
with the guard (Linux parent-death signal), and orphans of the child come back to the guard (child
subreaper).

Whoever stops a machine's service sends SIGTERM to all its processes at once: systemd, Slurm, the
end of a pod. The guard is one of them and would be the only one left that cleans up. So it is
started with these signals blocked, never unblocks them before it has cleaned up, and looks at which
ones are pending; the child starts with none blocked.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import psutil

from spark_strategy.folder import ChildFolder, Exit

# linux/prctl.h
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36

# What stops a service, a shell's job, a terminal. ``Child`` blocks them before the guard starts.
ENDING_SIGNALS: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})

_POLL_S: Final = 0.02
_TERMINATE_S: Final = 0.5


def main(path: str, *others: str) -> None:
    """Start the child, report its end, clean up when the task closes the pipe."""
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
    folder = ChildFolder(Path(path))
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    try:
        _watch(folder, _Output())
    finally:
        _end_tree()
        for place in (path, *others):
            shutil.rmtree(place, ignore_errors=True)
        # One that is pending ends this process now, so that its exit code says so.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)


class _Output:
    """Where the child writes to, which must end when the child has written its last."""

    def __init__(self) -> None:
        self._descriptor = os.dup(1)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        os.close(null)

    def start(self, folder: ChildFolder) -> int:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "spark_strategy.worker.entry", str(folder.path)],
            stdin=subprocess.DEVNULL,
            stdout=self._descriptor,
            stderr=self._descriptor,
            preexec_fn=_begin_child,  # noqa: PLW1509 - this process has one thread
        )
        folder.write_pid(child.pid)
        return child.pid

    def close(self) -> None:
        os.close(self._descriptor)


def _watch(folder: ChildFolder, output: _Output) -> None:
    """Until the task closes the pipe or a signal comes. Reports the child's end on the way."""
    restarts = folder.read_restarts()
    pid: int | None = output.start(folder)
    if not restarts:
        output.close()
    while not _is_over(timeout_s=_POLL_S if pid is not None or restarts else 1.0):
        if pid is not None and (end := _reaped(pid)):
            pid = None
            _end_tree()
            if restarts and not end.code:
                restarts = 0
                output.close()
            try:
                folder.write_exit(end)
            except OSError:
                return  # a full disk; the task takes the guard's own end for a sign
        elif pid is None and restarts and folder.take_again():
            restarts -= 1
            pid = output.start(folder)
            if not restarts:
                output.close()


def _is_over(timeout_s: float) -> bool:
    """Whether the task has closed the pipe, or a signal asks this process to end."""
    readable, _, _ = select.select([0], [], [], timeout_s)
    closed = bool(readable) and not os.read(0, 1024)
    return closed or bool(signal.sigpending() & ENDING_SIGNALS)


def _begin_child() -> None:
    """Run in the child before its program: it dies with the guard, and hears every signal."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)


def _reaped(pid: int) -> Exit | None:
    try:
        done, status, usage = os.wait4(pid, os.WNOHANG)
    except ChildProcessError:
        return Exit(-signal.SIGKILL, 0, time.time())
    if not done:
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes there, KiB on Linux
    return Exit(os.waitstatus_to_exitcode(status), usage.ru_maxrss * unit, time.time())


def _end_tree() -> None:
    """SIGTERM, then SIGKILL, to every descendant; a frozen one hears only the last."""
    tree = psutil.Process().children(recursive=True)
    for process in tree:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(tree, timeout=_TERMINATE_S)
    # Whoever was started meanwhile belongs to us as well.
    for process in [*alive, *psutil.Process().children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=_TERMINATE_S)


def _prctl(option: int, value: int) -> None:
    """prctl(2); does nothing where there is none (macOS)."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
