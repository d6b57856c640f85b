"""Runs one stage, with a barrier where the ranks must meet, and returns each rank's row."""

from __future__ import annotations

import logging
import pickle
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, Final

from spark_strategy.outcome import Outcome
from spark_strategy.parameter_server import placed
from spark_strategy.seal import Seal
from spark_strategy.spark.broadcasts import for_one_run
from spark_strategy.spark.capacity import is_connect
from spark_strategy.spark.progress import Progress, running_tasks
from spark_strategy.spark.reports import COLUMNS, absence_in, outcomes_of
from spark_strategy.spark.session import own_python
from spark_strategy.spark.stage_failure import text_of, translate
from spark_strategy.spark.tagged_job import TaggedJob
from spark_strategy.topology import forms_cluster

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

    from spark_strategy.spark.broadcasts import Parcel
    from spark_strategy.spark.task_order import TaskOrder

_log = logging.getLogger(__name__)

# PySpark broadcasts a function of more than 1 MiB itself, and keeps it on the driver's disk until
# the session ends.
_LARGE_BYTES: Final = 256 << 10


class Stage:
    """One stage, as a job that the caller can give up at any moment.

    Args:
        spark: classic or Connect.
        order: what every rank is told.
        frame: the rows to feed the ranks with, one partition for each task; None for none.
        profile: resource profile for stage-level scheduling; None for the session's.

    Attributes:
        tag: what Spark knows its job by.
    """

    def __init__(
        self,
        spark: SparkSession,
        order: TaskOrder,
        *,
        frame: DataFrame | None = None,
        profile: Any = None,
    ) -> None:
        self._spark = spark
        self._order = order
        self._frame = frame
        self._profile = profile
        self.tag = f"spark_strategy-{order.fence.run_id}-{uuid.uuid4().hex[:8]}"
        self._job = TaggedJob(spark, self.tag, self._collect)

    def start(self) -> None:
        """Submit it."""
        self._job.start()

    def wait(self, timeout_s: float) -> bool:
        """Whether the stage has ended, after at most ``timeout_s`` seconds."""
        return self._job.wait(timeout_s)

    @property
    def progress(self) -> Progress:
        """How far Spark said the tasks were a moment ago; a barrier stage starts all at once."""
        return self._job.progress

    def running_tasks(self) -> dict[int, str]:
        """The host by partition of the tasks that run; empty where Spark does not say."""
        if is_connect(self._spark):
            return {}
        with suppress(Exception):  # it only adds to an error that is raised in any case
            return running_tasks(self._spark, self.tag)
        return {}

    def close(self, timeout_s: float) -> None:
        """End this stage's job, and no other; nothing if it has ended. Safe to call again."""
        self._job.close(timeout_s)

    def outcomes(self) -> tuple[Outcome, ...]:
        """Each rank's outcome, in rank order, of a stage that has ended; some if others are absent.

        Raises:
            SparkStrategyError: Spark ended the stage before the ranks could report.
        """
        seal = Seal(self._order.secret, self._order.fence)
        error = self._job.error
        if error is not None:
            _log.debug("Spark ended the stage", exc_info=error)
            if known := absence_in(seal, text_of(error)):
                return known
            # Not "from" it: a hundred lines of JVM frames would bury what translate() found.
            topology = self._order.topology
            first_rank = len(topology.tasks) - len(placed(topology))
            raise translate(error, first_rank) from None
        tasks, topology = self._order.topology.tasks, self._order.topology
        ranks = [tasks.index(task) for task in placed(topology)]
        return outcomes_of(seal, self._job.rows or [], ranks)

    def _collect(self) -> list[dict[str, Any]]:
        tasks = len(placed(self._order.topology))
        if not is_connect(self._spark):
            self._spark.sparkContext.setLocalProperty(
                "spark.job.description", f"spark_strategy {self._order.topology}"
            )
        frame = self._frame or self._spark.range(0, tasks, 1, tasks)
        with ExitStack() as held:  # what is left when Spark has ended the job
            body = self._body(held)
            with own_python(self._spark):
                mapped = frame.mapInArrow(
                    body,
                    COLUMNS,
                    barrier=forms_cluster(self._order.topology),
                    profile=self._profile,
                )
            rows: list[dict[str, Any]] = mapped.toArrow().to_pylist()
        return rows

    def _body(self, held: ExitStack) -> Any:
        """The function that Spark sends; what is large goes beside it, until the stage ends."""
        order = self._order
        large = len(order.function) + len(order.evaluator) > _LARGE_BYTES
        if not large or is_connect(self._spark):
            return _body(order)
        sent = for_one_run(self._spark.sparkContext, pickle.dumps(order))
        return _body(held.enter_context(sent))


def _body(order: TaskOrder | Parcel) -> Any:
    """The function that Spark sends; imports inside, so that it is sent by value and small."""

    def body(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        from spark_strategy.spark import task

        # A parcel is the driver's as well: Spark's broadcast brought it.
        return task.run(pickle.loads(order()) if callable(order) else order, batches)

    return body
