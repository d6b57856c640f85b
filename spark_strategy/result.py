"""What a run gave: outcomes of all ranks -> its result, or the error to raise."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from spark_strategy.data.feed import FeedStats
from spark_strategy.errors import ResultError
from spark_strategy.outcome import Failure, Outcome, Success, Timings, to_error

R = TypeVar("R")


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
            NCCL, UCX and TensorFlow variables of ``env``).
        feed: how each rank was fed, in rank order; empty where Spark fed nothing.
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


def result_of(outcomes: Sequence[Outcome], settings: Mapping[str, str]) -> RunResult[Any]:
    """The result of a run whose ranks all succeeded.

    Args:
        outcomes: each rank's, in rank order.
        settings: interconnect settings the run was given.

    Raises:
        SparkStrategyError: a rank failed; raised from the user's own exception.
    """
    failures = [one for one in outcomes if isinstance(one, Failure)]
    if failures:
        error = to_error(failures)
        raise error from _original(error.failures[0])
    successes = [one for one in outcomes if isinstance(one, Success)]
    # A rank that only served others has no value.
    values = tuple(_unpickled(success) for success in successes if success.value)
    return RunResult(
        value=values[0],
        values=values,
        timings=Timings.longest([success.timings for success in successes]),
        attempts=1,
        hosts=tuple(success.host for success in successes),
        peak_rss_bytes=tuple(success.peak_rss_bytes for success in successes),
        settings=settings,
        feed=tuple(success.feed for success in successes if success.feed),
        restarts=tuple(success.restarts for success in successes),
    )


def _original(failure: Failure) -> BaseException | None:
    """The user's own exception, where it could travel."""
    try:
        error = pickle.loads(failure.error) if failure.error else None
    # Its class may not exist here; the failure's text has the whole traceback anyway.
    except Exception:  # noqa: BLE001
        return None
    return error if isinstance(error, BaseException) else None


def _unpickled(success: Success) -> Any:
    try:
        return pickle.loads(success.value)
    # Unpickling runs the value's own code: anything can come out of it.
    except Exception as error:
        raise ResultError(
            f"The value of {success.task} arrived but cannot be unpickled on the driver: "
            f"{error}. The driver needs the packages the value is made of."
        ) from error
