"""The guard cleans up after its child, whatever ends the two of them."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from spark_strategy.child_order import ChildOrder
from spark_strategy.cluster import Fence
from spark_strategy.spark.child import Child, environment, new_folder, signals_wait
from spark_strategy.topology import MultiWorker

ORDER = ChildOrder(MultiWorker(2), 1, Fence("r", 0), "ring", scope=True, gpus=None, deadline_s=60.0)
WAIT_S = 30.0


def started(folder: Path) -> tuple[Child, list[Path]]:
    """A child that waits for its cluster, and all that it must leave behind."""
    own, rows = new_folder(str(folder)), folder / "rows"
    rows.mkdir()
    (rows / "0").write_bytes(b"rows of somebody")
    own.prepare(ORDER, b"")
    env = environment(os.environ, python_path=[one for one in sys.path if one], cpus=1, settings={})
    return Child(own, [str(rows)], env), [own.path, rows]


def processes(child: Child) -> list[psutil.Process]:
    """The guard and its child, once the child runs."""
    deadline = time.monotonic() + WAIT_S
    while (pid := child.folder.read_pid()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    below = psutil.Process(pid)
    guard = below.parent()
    assert guard is not None
    return [guard, below]


def end(child: Child) -> None:
    """Stop it, and close its output, which in a task the relay reads to its end."""
    child.stop()
    child.output.close()


def guard_code(child: Child) -> int | None:
    """How the guard has ended, once it has."""
    deadline = time.monotonic() + WAIT_S
    while child.guard_code is None and time.monotonic() < deadline:
        time.sleep(0.01)
    return child.guard_code


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_all_processes_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    """systemd, Slurm and a pod's end send it to guard and child at once, and again."""
    child, places = started(tmp_path)
    both = processes(child)
    for _ in range(2):
        for process in both:
            if process.is_running():
                process.send_signal(number)
    assert guard_code(child) == -number
    assert not both[1].is_running()
    assert [place for place in places if place.exists()] == []
    end(child)


def test_a_guard_that_has_hardly_started_cleans_up_as_well(tmp_path: Path) -> None:
    """A signal waits from before its process exists until it has cleaned up."""
    child, places = started(tmp_path)
    (guard,) = psutil.Process().children()
    guard.send_signal(signal.SIGTERM)
    assert guard_code(child) == -signal.SIGTERM
    assert [place for place in places if place.exists()] == []
    end(child)


def test_the_child_hears_signals_and_so_does_the_task(tmp_path: Path) -> None:
    """Only the guard works with them blocked, and a task for the moment that it takes to start."""
    child, _ = started(tmp_path)
    guard, below = processes(child)
    assert blocked(guard.pid) & {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    assert not blocked(below.pid)
    with signals_wait():
        assert signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    end(child)


def blocked(pid: int) -> set[int]:
    """The signals that a process has blocked."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    mask = int(next(line for line in lines if line.startswith("SigBlk:")).split()[1], 16)
    return {number for number in range(1, 65) if mask >> (number - 1) & 1}
