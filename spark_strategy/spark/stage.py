"""Runs one stage, with a barrier where the ranks must meet, and returns each rank's row."""

from __future__ import annotations

import logging
import pickle
import re
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

from spark_strategy import errors
from spark_strategy.outcome import Outcome
from spark_strategy.parameter_server import placed
from spark_strategy.seal import Seal
from spark_strategy.spark.broadcasts import for_one_run
from spark_strategy.spark.capacity import is_connect
from spark_strategy.spark.progress import Progress
from spark_strategy.spark.reports import COLUMNS, absence_in, outcomes_of
from spark_strategy.spark.session import own_python
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
_CHOOSE_PYTHON: Final = (
    "Choose the executors' Python with spark.pyspark.python or PYSPARK_PYTHON, set before the "
    "session starts."
)


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
            if known := absence_in(seal, str(error)):
                return known
            # Not "from" it: a hundred lines of JVM frames would bury what translate() found.
            raise translate(error) from None
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


def translate(error: BaseException) -> errors.SparkStrategyError:
    """What Spark's own failure of a barrier stage means to the user."""
    if isinstance(error, ImportError):
        return errors.PlanError(f"The driver's own Python cannot run this: {error}")
    text = str(error)
    for pattern, meaning in _MEANINGS:
        if match := re.search(pattern, text):
            return meaning(text, match)
    return errors.WorkerError(f"Spark ended the stage: {_reason(text)}")


def _missing(_: str, match: re.Match[str]) -> errors.SparkStrategyError:
    return errors.ExecutorEnvironmentError(
        f"The executors' Python has no module {match[1]!r}. Install spark_strategy and its "
        f"dependencies there. {_CHOOSE_PYTHON}"
    )


def _mismatch(_: str, match: re.Match[str]) -> errors.SparkStrategyError:
    return errors.ExecutorEnvironmentError(f"{match[0].strip()} {_CHOOSE_PYTHON}")


def _too_large(_: str, match: re.Match[str]) -> errors.SparkStrategyError:
    return errors.ResultError(
        f"The ranks' values together are too large for Spark ({match[0]}). Return less (save "
        "models with get_context().save(...)), or raise spark.driver.maxResultSize, "
        "spark.driver.memory and spark.executor.memory."
    )


def _no_capacity(text: str, _: re.Match[str]) -> errors.SparkStrategyError:
    return errors.CapacityError(_first_line(text))


def _lost(text: str, _: re.Match[str]) -> errors.SparkStrategyError:
    rank = re.search(r"ResultTask\(\d+, (\d+)\)", text)
    why = re.search(r"ExecutorLostFailure[^\n]*", text)
    return errors.ExecutorLostError(
        f"Spark lost the executor of rank {rank[1] if rank else '?'}: "
        f"{why[0] if why else _first_line(text)}\nIf nobody stopped it, memory is the usual "
        "suspect (exit code 137): see the executor's log and spark.executor.memoryOverhead."
    )


def _reason(text: str) -> str:
    found = re.search(r"Most recent failure reason:(.*?)(?:\n\tat |\Z)", text, re.DOTALL)
    return found[1].strip() if found else _first_line(text)


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "no reason given")


# The first pattern found in Spark's text says what it means.
_MEANINGS: Final = (
    (r"No module named '([\w.]+)'", _missing),
    (r"[^\n]*PYTHON_VERSION_MISMATCH[^\n]*", _mismatch),
    (r"spark\.driver\.maxResultSize|Java heap space|OutOfMemoryError", _too_large),
    (r"ExecutorLostFailure|[Ee]xecutor lost", _lost),
    (r"[Bb]arrier.*(slots|dynamic resource)", _no_capacity),
)
