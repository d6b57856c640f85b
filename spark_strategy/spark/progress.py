"""Whether a stage's tasks have started, as Spark itself counts them."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def has_started(spark: SparkSession, tag: str) -> bool:
    """Whether any task of the jobs with ``tag`` runs or has run; for classic sessions."""
    context = spark.sparkContext
    tracker = context.statusTracker()
    # Neither PySpark nor Spark's Java API wraps getJobIdsForGroup's sibling for tags.
    for job_id in context._jsc.sc().statusTracker().getJobIdsForTag(tag):  # noqa: SLF001
        job = tracker.getJobInfo(job_id)
        for stage_id in job.stageIds if job else ():
            stage = tracker.getStageInfo(stage_id)
            if stage and stage.numActiveTasks + stage.numCompletedTasks + stage.numFailedTasks:
                return True
    return False


class ConnectProgress:
    """A progress handler of a Spark Connect session that hears one thread's operations.

    Connect reports progress per operation and calls the handlers in the thread that waits for
    it, so the thread tells which operation is meant.
    """

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        self.started = False

    def __call__(
        self,
        stages: Iterable[Any] | None,
        inflight_tasks: int,
        operation_id: str | None,
        done: bool,  # noqa: FBT001 - as pyspark.sql.connect.shell.progress.ProgressHandler
    ) -> None:
        """Called by PySpark, in the thread of the operation."""
        del operation_id, done
        if threading.get_ident() == self._thread:
            ended = sum(stage.num_completed_tasks for stage in stages or ())
            self.started = self.started or inflight_tasks + ended > 0
