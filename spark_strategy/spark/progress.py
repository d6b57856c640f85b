"""How far the tasks of a tagged job are, as Spark itself counts them."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_RUNNING: Final = "RUNNING"


@dataclass(frozen=True, slots=True)
class Progress:
    """What Spark says of a job.

    Attributes:
        started: whether any task has started, also of an earlier stage (a shuffle).
        tasks: tasks of the newest stage; 0 when none is known.
        ended: how many of them have ended well.
    """

    started: bool = False
    tasks: int = 0
    ended: int = 0


def of_jobs(spark: SparkSession, tag: str) -> Progress:
    """How far the jobs with ``tag`` are; for classic sessions."""
    tracker = spark.sparkContext.statusTracker()
    stage_ids = [one for job in _jobs(spark, tag) for one in job.stageIds]
    stages = [stage for one in sorted(stage_ids) if (stage := tracker.getStageInfo(one))]
    touched = [
        stage
        for stage in stages
        if stage.numActiveTasks + stage.numCompletedTasks + stage.numFailedTasks
    ]
    if not touched:
        return Progress()
    newest = touched[-1]
    return Progress(started=True, tasks=newest.numTasks, ended=newest.numCompletedTasks)


def any_active(spark: SparkSession, tag: str) -> bool:
    """Whether a job with ``tag`` runs; for classic sessions."""
    return any(job.status == _RUNNING for job in _jobs(spark, tag))


def running_tasks(spark: SparkSession, tag: str) -> dict[int, str]:
    """The host by partition of the tasks that run in the newest stage; for classic sessions."""
    context = spark.sparkContext
    stage_ids = [one for job in _jobs(spark, tag) for one in job.stageIds]
    if not stage_ids:
        return {}
    # The status store behind Spark's UI; no API of PySpark's leads to single tasks.
    tasks = context._jsc.sc().statusStore().taskList(max(stage_ids), 0, 2**31 - 1)  # noqa: SLF001
    each = (tasks.apply(index) for index in range(tasks.size()))
    return {task.index(): task.host() for task in each if task.status() == _RUNNING}


def _jobs(spark: SparkSession, tag: str) -> list[Any]:
    context = spark.sparkContext
    tracker = context.statusTracker()
    # Neither PySpark nor Spark's Java API wraps getJobIdsForGroup's sibling for tags.
    ids = context._jsc.sc().statusTracker().getJobIdsForTag(tag)  # noqa: SLF001
    return [job for one in ids if (job := tracker.getJobInfo(one))]


class ConnectProgress:
    """A progress handler of a Spark Connect session that hears one thread's operations.

    Connect reports progress per operation and calls the handlers in the thread that waits for
    it, so the thread tells which operation is meant.
    """

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        self.progress = Progress()

    def __call__(
        self,
        stages: Iterable[Any] | None,
        inflight_tasks: int,
        operation_id: str | None,
        done: bool,  # noqa: FBT001 - as pyspark.sql.connect.shell.progress.ProgressHandler
    ) -> None:
        """Called by PySpark, in the thread of the operation."""
        del operation_id, done
        if threading.get_ident() != self._thread:
            return
        known = sorted(stages or (), key=lambda stage: stage.stage_id)
        ended = sum(stage.num_completed_tasks for stage in known)
        self.progress = Progress(
            self.progress.started or inflight_tasks + ended > 0,
            known[-1].num_tasks if known else 0,
            known[-1].num_completed_tasks if known else 0,
        )
