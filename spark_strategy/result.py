"""What a run gave: outcomes of all ranks -> its result, or the error to raise."""

from __future__ import annotations

import logging
import pickle
import queue
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from spark_strategy.bounds import shown, text_of
from spark_strategy.data.feed import FeedStats
from spark_strategy.errors import ResultError, SparkStrategyError
from spark_strategy.evaluator import Evaluation, EvaluatorReport
from spark_strategy.outcome import Failure, Outcome, Reason, Success, Timings, to_error
from spark_strategy.topology import EVALUATOR, TaskId

R = TypeVar("R")

_log = logging.getLogger(__name__)

# For a user's exception to come out of its pickle.
_ORIGINAL_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class RunResult(Generic[R]):
    """What a run gave.

    Attributes:
        value: the chief's return value.
        values: every caller's return value, in rank order.
        timings: for each phase, the slowest rank's time in seconds.
        attempts: barrier stages it took.
        hosts: where each rank ran, in rank order.
        peak_rss_bytes: each child's peak resident memory, in rank order.
        settings: interconnect settings the run was given (communication, interface, and the
            NCCL, UCX and TensorFlow variables of ``env``, whose values are "(set)" but for some
            that are known to be harmless).
        feed: how each rank was fed, in rank order; empty where Spark fed nothing.
        evaluations: what the evaluator found, in the order of the checkpoints.
        evaluator_problem: why the evaluator ended before training did; empty if it did not.
        restarts: how often each rank's process was lost and started again, in rank order.
    """

    value: R
    values: tuple[R, ...]
    timings: Timings
    attempts: int
    hosts: tuple[str, ...]
    peak_rss_bytes: tuple[int, ...]
    settings: Mapping[str, str]
    feed: tuple[FeedStats, ...] = ()
    evaluations: tuple[Evaluation, ...] = ()
    evaluator_problem: str = ""
    restarts: tuple[int, ...] = ()

    @property
    def rows(self) -> int:
        """Rows that Spark delivered to all ranks."""
        return sum(stats.rows for stats in self.feed)

    @property
    def rows_per_s(self) -> float:
        """Rows that Spark delivered to all ranks, per second that the function ran."""
        return self.rows / self.timings.function_s if self.timings.function_s else 0.0

    def summary(self) -> str:
        """The run in a few lines, for people."""
        phases = {
            name.removesuffix("_s"): getattr(self.timings, name)
            for name in Timings.__dataclass_fields__
        }
        hosts = ", ".join(sorted(set(self.hosts)))
        lines = [
            f"{len(self.hosts)} ranks on {hosts}, {self.attempts} attempt(s)",
            ", ".join(f"{name} {seconds:.1f} s" for name, seconds in phases.items()),
            f"peak memory per rank {max(self.peak_rss_bytes) / 2**20:.0f} MiB",
            *(f"{name}={value}" for name, value in self.settings.items()),
            *([f"{self.rows:,} rows, {self.rows_per_s:,.0f} per second"] if self.feed else []),
            *(f"rank {rank} was fed {stats}" for rank, stats in enumerate(self.feed)),
        ]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class MapResult(Generic[R]):
    """What the calls of a ``map`` gave.

    Attributes:
        items: the arguments of each call.
        runs: each call's result or its error, in the order of the items.
    """

    items: tuple[Mapping[str, Any], ...]
    runs: tuple[RunResult[R] | SparkStrategyError, ...]

    @property
    def values(self) -> tuple[R, ...]:
        """Every call's return value, in the order of the items.

        Raises:
            SparkStrategyError: a call failed; the first one in the order of the items that was
                not merely stopped because of others.
        """
        if self.failed:
            raise min(self.failed.values(), key=_was_stopped)
        return tuple(self.succeeded.values())

    @property
    def succeeded(self) -> dict[int, R]:
        """The return values of the calls that have one, by the number of the item."""
        return {
            index: run.value for index, run in enumerate(self.runs) if isinstance(run, RunResult)
        }

    @property
    def failed(self) -> dict[int, SparkStrategyError]:
        """The errors of the calls that failed or were stopped, by the number of the item."""
        return {
            index: run for index, run in enumerate(self.runs) if isinstance(run, SparkStrategyError)
        }

    def summary(self) -> str:
        """One line for each item, for people."""
        return "\n".join(
            f"{shown(item)} {_brief(run)}" for item, run in zip(self.items, self.runs, strict=True)
        )


def run_or_error(
    end: Outcome | SparkStrategyError, settings: Mapping[str, str]
) -> RunResult[Any] | SparkStrategyError:
    """The result of a run of one rank, or the error that it ended with."""
    try:
        return result_of([end], settings)
    except SparkStrategyError as error:
        return error


def _was_stopped(error: SparkStrategyError) -> bool:
    return bool(error.failures) and error.failures[0].reason is Reason.STOPPED


def _brief(run: RunResult[Any] | SparkStrategyError) -> str:
    if isinstance(run, RunResult):
        return f"{run.timings.function_s:.1f} s on {run.hosts[0]}"
    return str(run).partition("\n")[0]


def result_of(
    ends: Sequence[Outcome | SparkStrategyError], settings: Mapping[str, str]
) -> RunResult[Any]:
    """The result of a run whose ranks all succeeded.

    Args:
        ends: each rank's outcome, in rank order; an error where Spark itself could not bring a
            rank to its end.
        settings: interconnect settings the run was given.

    Raises:
        SparkStrategyError: a rank failed; raised from the user's own exception.
    """
    for end in ends:
        if isinstance(end, SparkStrategyError):
            raise end
    outcomes = [end for end in ends if not isinstance(end, SparkStrategyError)]
    failures = [one for one in outcomes if isinstance(one, Failure)]
    if failures:
        error = to_error(failures)
        raise error from _original(error.failures[0])
    successes = [one for one in outcomes if isinstance(one, Success)]
    evaluating = [one for one in successes if TaskId.parse(one.task).job == EVALUATOR]
    # A rank that only served others has no value, and what the evaluator found is another thing.
    values = tuple(
        _unpickled(success) for success in successes if success.value and success not in evaluating
    )
    report = EvaluatorReport.from_json(evaluating[0].value) if evaluating else EvaluatorReport()
    if report.problem:
        _log.warning("The evaluator %s; training went on without it", report.problem)
    return RunResult(
        value=values[0],
        values=values,
        timings=Timings.longest([success.timings for success in successes]),
        attempts=1,
        hosts=tuple(success.host for success in successes),
        peak_rss_bytes=tuple(success.peak_rss_bytes for success in successes),
        settings=settings,
        feed=tuple(success.feed for success in successes if success.feed),
        evaluations=report.evaluations,
        evaluator_problem=report.problem,
        restarts=tuple(success.restarts for success in successes),
    )


def _original(failure: Failure) -> BaseException | None:
    """The user's own exception, where it could travel."""
    if not failure.error:
        return None
    found: queue.SimpleQueue[object] = queue.SimpleQueue()

    def unpickle() -> None:
        # Its class may not exist here; the failure's text has the whole traceback anyway.
        try:
            found.put(pickle.loads(failure.error))
        except BaseException:  # noqa: BLE001
            found.put(None)

    # Unpickling runs the exception's own code, which may block.
    threading.Thread(target=unpickle, daemon=True).start()
    try:
        error = found.get(timeout=_ORIGINAL_S)
    except queue.Empty:
        return None
    return error if issubclass(type(error), BaseException) else None  # type: ignore[return-value]


def _unpickled(success: Success) -> Any:
    try:
        return pickle.loads(success.value)
    # Unpickling runs the value's own code: anything can come out of it.
    except Exception as error:
        raise ResultError(
            f"The value of {success.task} arrived but cannot be unpickled on the driver: "
            f"{text_of(error)}. The driver needs the packages the value is made of."
        ) from error
