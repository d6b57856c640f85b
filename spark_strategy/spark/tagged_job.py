"""Runs a Spark job in a thread of its own, so that its caller can give up at any moment.

The theory. A caller may be interrupted between any two of its steps (Ctrl-C, a notebook's stop
button), again while it clears up, and at a moment when Spark has not seen the job yet and cannot
cancel it. So the caller does nothing but wait and set a flag. A second thread, which no interrupt
reaches, asks Spark how far the job is, and once the flag is set it cancels by the job's tag, again
and again, until the first thread has ended and Spark knows no active job of that tag. Spark can
refuse later jobs of a job group (``cancelJobGroupAndFutureJobs``) but not those of a tag, and the
group is the user's.

How a thread ended is told by events: CPython 3.11 takes a thread for stopped when ``join`` is
interrupted, so ``is_alive`` says nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from spark_strategy.spark import progress
from spark_strategy.spark.capacity import is_connect
from spark_strategy.spark.progress import ConnectProgress, Progress

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_log = logging.getLogger(__name__)

THREAD: Final = "spark_strategy-job"
_LOOK_S: Final = 0.2
# How far a job is that has started.
_LOOK_AGAIN_S: Final = 2.0
# Between two cancellations, while Spark may still have to see the job.
_CANCEL_AGAIN_S: Final = 0.5
# From the end of the first thread to the end of the job in Spark's own books.
_SETTLE_S: Final = 30.0


class TaggedJob:
    """One job.

    Args:
        spark: classic or Connect.
        tag: of this job alone; Spark finds it by that.
        collect: submits the job and returns its rows; called in a thread.

    Attributes:
        rows: what ``collect`` returned; None before.
        error: what it raised; None if it did not.
        progress: how far Spark was at the last look.
    """

    def __init__(self, spark: SparkSession, tag: str, collect: Callable[[], Any]) -> None:
        self._spark = spark
        self._tag = tag
        self._collect = collect
        self._connect_progress: ConnectProgress | None = None
        self._abandoned = False
        self._begun = False
        self._beginning = threading.Lock()
        self._ended = threading.Event()
        self._settled = threading.Event()
        self.rows: Any = None
        self.error: BaseException | None = None
        self.progress = Progress()
        self._watcher = _thread(self._watch)
        self._runner = _thread(inheriting(spark, self._run))

    def start(self) -> None:
        """Submit it."""
        self._watcher.start()
        self._runner.start()

    def wait(self, timeout_s: float) -> bool:
        """Whether it has ended, after at most ``timeout_s`` seconds."""
        return self._ended.wait(timeout_s)

    def close(self, timeout_s: float) -> None:
        """Cancel it unless it has ended, and wait at most ``timeout_s`` seconds for that.

        Also before it was started, and again after an interrupt. Cancelling goes on when the wait
        is over, or is interrupted.
        """
        if self._ended.is_set():
            return
        self._abandoned = True  # before anything else: the watcher needs no more than that
        with self._beginning:
            if not self._begun:
                self._ended.set()
                return
        if not self._settled.wait(timeout_s):
            _log.warning("Spark has not ended a cancelled job after %g s", timeout_s)

    def _run(self) -> None:
        with self._beginning:
            if self._abandoned:
                return
            self._begun = True
        try:
            self._mark()
            self.rows = self._collect()
        # Spark raises Py4J, gRPC and its own errors; whichever it is, the caller sorts it.
        except BaseException as error:  # noqa: BLE001
            self.error = error
        finally:
            self._ended.set()

    def _mark(self) -> None:
        """Have Spark know this thread's jobs by the tag."""
        if is_connect(self._spark):
            self._spark.addTag(self._tag)
            self._connect_progress = ConnectProgress()
            self._spark.registerProgressHandler(self._connect_progress)  # type: ignore[arg-type]
        else:
            self._spark.sparkContext.addJobTag(self._tag)

    def _watch(self) -> None:
        next_look = 0.0
        while not self._ended.wait(_CANCEL_AGAIN_S if self._abandoned else _LOOK_S):
            if self._abandoned:
                self._try(self._cancel)
            elif time.monotonic() >= next_look:
                self._try(self._look)
                next_look = time.monotonic() + (_LOOK_AGAIN_S if self.progress.started else 0.0)
        if self._connect_progress is not None:
            self._try(lambda: self._spark.removeProgressHandler(self._connect_progress))  # type: ignore[arg-type]
        if self._abandoned:
            self._try(self._settle)
        self._settled.set()

    def _try(self, ask: Callable[[], None]) -> None:
        try:
            ask()
        # A session that is being stopped raises anything; the job's own thread ends as well.
        except Exception:  # noqa: BLE001
            _log.debug("Could not ask Spark about a job", exc_info=True)

    def _look(self) -> None:
        if self._connect_progress is not None:
            self.progress = self._connect_progress.progress
        elif not is_connect(self._spark):
            self.progress = progress.of_jobs(self._spark, self._tag)

    def _cancel(self) -> None:
        if is_connect(self._spark):
            self._spark.interruptTag(self._tag)
        else:
            # Not SparkSession.interruptTag: it finds no execution started by toArrow, whose
            # job runs in a thread of the JVM's own (measured, PySpark 4.3.0).
            self._spark.sparkContext.cancelJobsWithTag(self._tag)

    def _settle(self) -> None:
        """Cancel until Spark says that no job of this tag is active."""
        if is_connect(self._spark):
            self._cancel()  # there is no other answer than the end of the operation
            return
        deadline = time.monotonic() + _SETTLE_S
        while progress.any_active(self._spark, self._tag) and time.monotonic() < deadline:
            self._cancel()
            time.sleep(_LOOK_S)


def _thread(target: Callable[[], None]) -> threading.Thread:
    return threading.Thread(target=target, daemon=True, name=THREAD)


def inheriting(spark: SparkSession, target: Any) -> Any:
    """The target, in a thread that keeps the caller's Spark properties (scheduler pool...)."""
    from pyspark.util import inheritable_thread_target

    return inheritable_thread_target(spark)(target)
