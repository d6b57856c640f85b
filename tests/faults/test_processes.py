"""What the driver reads when a rank's process fails, and that nothing stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from spark_strategy import Independent, Launcher, MultiWorker, get_context
from spark_strategy.errors import (
    CapacityError,
    DeadlineError,
    PlanError,
    ResultError,
    SparkStrategyError,
    WorkerError,
)
from spark_strategy.outcome import Reason

pytestmark = [pytest.mark.faults, pytest.mark.usefixtures("leaves_nothing")]

TWO = Launcher(MultiWorker(2), logs=None)


def wait_in_a_collective() -> None:
    """Blocks until the other worker takes part, which it never does."""
    import tensorflow as tf

    strategy = get_context().strategy

    @tf.function
    def step() -> Any:
        return strategy.reduce("SUM", strategy.run(lambda: tf.constant(1.0)), axis=None)

    for _ in range(1000):
        step()


def failed(function: Any, *, launcher: Launcher = TWO) -> SparkStrategyError:
    """The error that running ``function`` raises."""
    with pytest.raises(SparkStrategyError) as caught:
        launcher.run(function)
    return caught.value


def test_an_exception_in_one_worker_is_raised_with_its_own_traceback(spark: SparkSession) -> None:
    """worker:1 raises while worker:0 waits in a collective: worker:1's error is the error."""

    def train() -> None:
        if get_context().rank == 1:
            raise ZeroDivisionError("one worker only")
        wait_in_a_collective()

    error = failed(train)

    assert isinstance(error, WorkerError)
    assert str(error).startswith("worker:1 (rank 1) on ")
    assert "raised ZeroDivisionError: one worker only" in str(error)
    assert 'raise ZeroDivisionError("one worker only")' in str(error)
    assert isinstance(error.__cause__, ZeroDivisionError)
    assert error.failures[0].rank == 1
    assert {failure.rank for failure in error.failures} == {0, 1}
    assert all(failure.reason is not Reason.LOST for failure in error.failures)
    assert TWO.run(lambda: 1).value == 1


def test_an_exception_in_all_workers_is_raised_once() -> None:
    """Every rank's failure is kept; one of them is the error."""

    def train() -> None:
        raise KeyError("everywhere")

    error = failed(train)

    assert isinstance(error.__cause__, KeyError)
    assert {failure.reason for failure in error.failures} <= {Reason.RAISED, Reason.STOPPED}


@pytest.mark.parametrize(
    ("end", "text"),
    [
        (lambda: __import__("sys").exit("bye"), "called sys.exit('bye')"),
        (lambda: os._exit(3), "exit code 3"),
        (lambda: os._exit(0), "exit code 0"),
    ],
    ids=["sys.exit", "os._exit(3)", "os._exit(0)"],
)
def test_a_function_that_ends_its_process_is_named(end: Any, text: str) -> None:
    """Leaving is not returning, whatever the exit code."""

    def train() -> None:
        if get_context().rank == 1:
            end()
        wait_in_a_collective()

    error = failed(train)

    assert isinstance(error, WorkerError)
    assert str(error).startswith("worker:1 ")
    assert text in str(error)
    assert error.failures[0].reason is Reason.EXITED


def test_sigkill_is_named_with_memory_as_the_suspect() -> None:
    """The peak memory is in the message and in the failure."""

    def train() -> None:
        if get_context().rank == 1:
            print("last words")
            os.kill(os.getpid(), signal.SIGKILL)
        wait_in_a_collective()

    error = failed(train)

    assert error.failures[0].reason is Reason.KILLED
    assert error.failures[0].rank == 1
    assert error.failures[0].peak_rss_bytes > 100 * 2**20
    assert "Memory is the usual suspect" in str(error)
    assert "Peak resident memory" in str(error)
    assert "last words" in str(error)


def test_a_dead_worker_is_the_cause_however_late_its_guard_says_so(tmp_path: Path) -> None:
    """What TensorFlow says of it in its peer is known first."""
    dies = tmp_path / "dies"

    def train() -> None:
        import tensorflow as tf

        if get_context().rank == 1:
            guard = os.getppid()
            os.kill(guard, signal.SIGSTOP)
            subprocess.Popen(["bash", "-c", f"sleep 3; kill -CONT {guard}"])
            dies.touch()
            os._exit(7)
        while not dies.exists():
            time.sleep(0.05)
        raise tf.errors.UnavailableError(None, None, "recvmsg:Connection reset by peer")

    error = failed(train)

    assert str(error).startswith("worker:1 ")
    assert "exit code 7" in str(error)


def test_a_segmentation_fault_shows_the_native_stack() -> None:
    """The child's fault handler wrote where it happened."""

    def train() -> None:
        if get_context().rank == 1:
            import ctypes

            ctypes.string_at(0)
        wait_in_a_collective()

    error = failed(train)

    assert error.failures[0].reason is Reason.CRASHED
    assert "SIGSEGV" in str(error)
    assert "string_at" in error.failures[0].traceback


def test_a_frozen_child_is_the_cause_not_its_peers() -> None:
    """worker:1 is stopped by SIGSTOP; worker:0 only waits for it."""

    def train() -> None:
        if get_context().rank == 1:
            os.kill(os.getpid(), signal.SIGSTOP)
        wait_in_a_collective()

    error = failed(train)

    assert error.failures[0].rank == 1
    assert error.failures[0].reason is Reason.FROZEN
    assert "frozen" in str(error)


def test_the_run_deadline_shows_what_the_ranks_waited_for() -> None:
    """timeout_s passes: DeadlineError with a stack of the function."""

    def stuck_here() -> None:
        threading.Event().wait(600)

    error = failed(stuck_here, launcher=Launcher(MultiWorker(2), logs=None, timeout_s=30))

    assert isinstance(error, DeadlineError)
    assert "timeout_s=30" in str(error)
    assert "stuck_here" in str(error)


def test_the_start_deadline_names_the_rank_that_is_not_ready() -> None:
    """An argument takes for ever to unpickle: the rank says where it hangs."""

    class Slow:
        def __reduce__(self) -> Any:
            return time.sleep, (600,)

    with pytest.raises(DeadlineError, match="had not reached the function") as caught:
        Launcher(MultiWorker(2), logs=None, start_timeout_s=30).run(str, Slow())

    assert "start_timeout_s=30" in str(caught.value)
    assert "_unpickled" in caught.value.failures[0].traceback


def test_slots_held_by_other_work_end_in_the_start_deadline(spark: SparkSession) -> None:
    """Another job holds both slots: the run gives up in time, the other job goes on."""

    def hold(batches: Any) -> Any:
        time.sleep(40)
        yield from batches

    done: list[int] = []
    other = threading.Thread(
        target=lambda: done.append(
            len(spark.range(0, 2, 1, 2).mapInArrow(hold, "id long").collect())
        )
    )
    other.start()
    deadline = time.monotonic() + 20
    while not spark.sparkContext.statusTracker().getActiveJobsIds():
        assert time.monotonic() < deadline
        time.sleep(0.05)

    error = failed(lambda: 1, launcher=Launcher(MultiWorker(2), logs=None, start_timeout_s=5))

    assert isinstance(error, CapacityError)
    assert "other work holds them" in str(error)
    other.join(120)
    assert done == [2]


def test_too_few_slots_are_answered_before_anything_is_launched() -> None:
    """Needs N, has M, how to get more; in seconds."""
    began = time.monotonic()

    error = failed(lambda: 1, launcher=Launcher(MultiWorker(3), logs=None))

    assert isinstance(error, CapacityError)
    assert "MultiWorker(3) needs 3 tasks at once but Spark has 2 slots" in str(error)
    assert time.monotonic() - began < 10


def test_a_return_value_that_cannot_be_pickled_is_named() -> None:
    """The value's type is in the message."""
    error = failed(threading.Lock)

    assert isinstance(error, ResultError)
    assert "lock" in str(error)
    assert "cannot be pickled" in str(error)


def test_a_function_that_cannot_be_pickled_names_the_variable() -> None:
    """Nothing is launched; the offending variable is named."""
    a_lock = threading.Lock()

    def train() -> bool:
        return a_lock.locked()

    with pytest.raises(PlanError, match="variable 'a_lock', a lock, cannot be pickled"):
        TWO.run(train)
    with pytest.raises(PlanError, match="argument 1, a lock, cannot be pickled"):
        TWO.run(print, a_lock)


def test_grandchildren_end_with_the_run() -> None:
    """A process that the function started, detached, and forgot does not survive it."""

    def train() -> int:
        import subprocess

        return subprocess.Popen(["sleep", "600"], start_new_session=True).pid

    pid = Launcher(MultiWorker(1), logs=None, scope=False).run(train).value

    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_ctrl_c_cancels_the_job_and_ends_the_children(spark: SparkSession) -> None:
    """KeyboardInterrupt reaches the caller; the session runs the next function."""
    lines: list[str] = []
    main = threading.main_thread().ident
    assert main is not None

    def interrupt(line: str) -> None:
        lines.append(line)
        if line.endswith("running"):
            signal.pthread_kill(main, signal.SIGINT)

    def train() -> None:
        print("running")
        threading.Event().wait(600)

    with pytest.raises(KeyboardInterrupt):
        Launcher(MultiWorker(1), logs=interrupt, scope=False).run(train)
    with pytest.raises(KeyboardInterrupt):
        Launcher(Independent(1), logs=interrupt).map(train, [{}, {}])

    assert Launcher(MultiWorker(1), logs=None, scope=False).run(lambda: 5).value == 5
