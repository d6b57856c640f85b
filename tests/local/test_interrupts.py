"""A run that is interrupted leaves no Spark job, whatever the moment."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from py4j.protocol import Py4JNetworkError
from pyspark.sql import SparkSession

from spark_strategy import Independent, Launcher
from spark_strategy.spark.tagged_job import THREAD, TaggedJob

pytestmark = pytest.mark.usefixtures("leaves_nothing")

_SOON_S = 30.0
_LONG_S = 120.0


def sleeping(spark: SparkSession) -> Any:
    """A job of one task that sleeps for far longer than a test lasts."""

    def body(batches: Any) -> Any:
        time.sleep(_LONG_S)
        yield from batches

    return spark.range(0, 1, 1, 1).mapInArrow(body, "id long").toArrow()


def until(what: Callable[[], bool]) -> bool:
    """Whether it becomes so before a deadline."""
    deadline = time.monotonic() + _SOON_S
    while not what() and time.monotonic() < deadline:
        time.sleep(0.02)
    return what()


def active(spark: SparkSession) -> list[int]:
    """Spark's active jobs.

    The first call of a thread that was interrupted inside Py4J fails, in 7 of 30 cases (measured,
    PySpark 4.3.0): Py4J shuts its connection down, and the next one is refused once.
    """
    with suppress(Py4JNetworkError):
        return list(spark.sparkContext.statusTracker().getActiveJobsIds())
    return list(spark.sparkContext.statusTracker().getActiveJobsIds())


def threads() -> list[threading.Thread]:
    """Threads of runs that have not come to their end."""
    return [one for one in threading.enumerate() if one.name == THREAD]


def interrupt(go: threading.Event, delays_s: list[float], sent: threading.Event) -> None:
    """Ctrl-C to this process after each delay."""
    go.wait()
    for delay_s in delays_s:
        sent.wait(delay_s)
        os.kill(os.getpid(), signal.SIGINT)
    sent.set()


@pytest.fixture
def plain_interrupts() -> Iterator[None]:
    """Ctrl-C as in a notebook: PySpark's own handler, which cancels every job, is not there."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_job_that_spark_has_not_seen_is_cancelled_when_it_appears(spark: SparkSession) -> None:
    """Its caller gives up, and is long gone, before the job is submitted."""
    reached, submits = threading.Event(), threading.Event()

    def collect() -> Any:
        reached.set()
        submits.wait()
        return sleeping(spark)

    job = TaggedJob(spark, "spark_strategy-test-late", collect)
    job.start()
    assert reached.wait(_SOON_S)
    job.close(0.0)  # as one whose wait is interrupted at once
    submits.set()

    assert job.wait(_SOON_S)
    assert job.error is not None
    assert until(lambda: not threads())
    assert active(spark) == []


def test_a_job_that_was_given_up_before_its_thread_ran_is_never_submitted(
    spark: SparkSession,
) -> None:
    """An interrupt between any two steps of ``start``."""
    submitted: list[bool] = []
    job = TaggedJob(spark, "spark_strategy-test-early", lambda: submitted.append(True))

    job.close(_SOON_S)
    job.start()

    assert job.wait(_SOON_S)
    assert until(lambda: not threads())
    assert not submitted


@pytest.mark.usefixtures("plain_interrupts")
@pytest.mark.parametrize("again", [False, True], ids=["once", "twice"])
def test_no_job_is_left_whenever_the_interrupt_comes(spark: SparkSession, *, again: bool) -> None:
    """From before the submission to the running function; also with a second Ctrl-C on top."""
    launcher = Launcher(Independent(1), spark=spark, logs=None)
    for delay_s in (0.0, 0.01, 0.03, 0.1, 0.3, 1.0):
        go, sent = threading.Event(), threading.Event()
        delays_s = [delay_s, 0.05] if again else [delay_s]
        threading.Thread(target=interrupt, args=(go, delays_s, sent), daemon=True).start()
        interrupts = 0
        try:
            go.set()
            launcher.run(time.sleep, _LONG_S)
        except KeyboardInterrupt:
            interrupts += 1
        while not sent.is_set() or interrupts == 0:
            try:  # the second one may come when the run is over
                time.sleep(0.02)
            except KeyboardInterrupt:
                interrupts += 1
        assert until(lambda: not threads()), delay_s
        assert active(spark) == [], delay_s
    assert spark.range(3).count() == 3
