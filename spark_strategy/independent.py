"""Runs the calls of an ``Independent`` topology, so many at a time, one Spark job each.

The theory. A job of one task is what Spark places best: it waits for a slot like any other, is
started again when its executor is lost (``spark.task.maxFailures``), works with dynamic
allocation, and is never run twice by speculation (a stage of one task is exempt,
``TaskSetManager.checkSpeculatableTasks``). What the function does wrong comes back as a value, so
that Spark sees nothing to repeat. The queue of calls stays on the driver.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from spark_strategy.attempt import Attempt, Halted
from spark_strategy.errors import PlanError, SparkStrategyError
from spark_strategy.outcome import Failure, Outcome, Reason, Success
from spark_strategy.plan import LaunchPlan
from spark_strategy.spark.frames import Feeding
from spark_strategy.spark.tagged_job import inheriting
from spark_strategy.topology import Independent, Item, Topology, is_count

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# A job that Spark itself could not bring to its end has an error instead of an outcome.
End = Outcome | SparkStrategyError


class Calls:
    """Calls that know nothing of each other.

    Args:
        spark: the session.
        plan: of an ``Independent`` topology, which says how many run at the same time.
        functions: pickled function and arguments of each call.
        feeding: rows that every call is fed with, all of them; None for none.
        run_id: the run's name.
    """

    def __init__(
        self,
        spark: SparkSession,
        plan: LaunchPlan,
        functions: Sequence[bytes],
        *,
        feeding: Feeding | None,
        run_id: str,
    ) -> None:
        self._spark = spark
        self._plan = plan
        self._halt = threading.Event()
        self._attempts = [
            Attempt(
                spark,
                replace(plan, topology=Item(index)),
                function,
                feeding=feeding,
                run_id=f"{run_id}-{index}",
                number=0,
                halt=self._halt,
                queued=self._any_runs,
            )
            for index, function in enumerate(functions)
        ]

    def ends(
        self, profile: Any, show: Callable[[str], None] | None, *, max_failures: int | None
    ) -> tuple[End, ...]:
        """Make the calls, and say how each ended, in their order.

        Args:
            profile: resource profile of the jobs, or None.
            show: gets each line the calls print, one at a time.
            max_failures: how many may fail before the rest is stopped; None for any number.
        """
        if show is not None:
            show = _one_at_a_time(show)
        spare = None if max_failures is None else threading.Semaphore(max_failures)

        def end(index: int) -> End:
            ended = self._end(index, profile, show)
            failed = not isinstance(ended, Success)
            # Counted here, before this thread takes the next call, which must not begin then.
            if failed and spare is not None and not spare.acquire(blocking=False):
                self._halt.set()
            return ended

        with ThreadPoolExecutor(len(self._plan.topology.tasks)) as pool:
            # Wrapped anew for each: they would share one set of Spark's local properties.
            ends = [
                pool.submit(inheriting(self._spark, end), index)
                for index in range(len(self._attempts))
            ]
            try:
                for done in as_completed(ends):
                    done.result()
            except BaseException:
                self._halt.set()
                raise
        return tuple(done.result() for done in ends)

    def _any_runs(self) -> bool:
        return any(attempt.running for attempt in self._attempts)

    def _end(self, index: int, profile: Any, show: Callable[[str], None] | None) -> End:
        if self._halt.is_set():
            return _stopped(index, "was not called, because other calls had failed")
        try:
            (outcome,) = self._attempts[index].outcomes(profile, show)
        except Halted:
            return _stopped(index, "was stopped, because other calls had failed")
        except SparkStrategyError as error:
            return error
        return replace(outcome, rank=index)


def checked_items(
    topology: Topology, items: Any, max_failures: int | None
) -> tuple[dict[str, Any], ...]:
    """The arguments of each call.

    Raises:
        PlanError: the topology has no independent calls, or an argument makes no sense.
    """
    if not isinstance(topology, Independent):
        raise PlanError(
            f"map makes calls that know nothing of each other, and the tasks of {topology} work "
            "on one call together. Use Independent(n), or run()."
        )
    if max_failures is not None and not is_count(max_failures):
        raise PlanError(f"max_failures is a whole number of at least 0, found {max_failures!r}.")
    if isinstance(items, Mapping) or not isinstance(items, Iterable):
        raise PlanError(f"map takes a list of dictionaries of arguments, found {items!r}.")
    calls = tuple(items)
    for index, item in enumerate(calls):
        if not isinstance(item, Mapping) or not all(isinstance(name, str) for name in item):
            raise PlanError(
                f"Each item is a dictionary of arguments by name, as in map([{{'rate': 0.1}}]); "
                f"item {index} is {item!r}."
            )
    if not calls:
        raise PlanError("There is no item to map over; give at least one.")
    return tuple(map(dict, calls))


def _one_at_a_time(show: Callable[[str], None]) -> Callable[[str], None]:
    lock = threading.Lock()

    def locked(line: str) -> None:
        with lock:
            show(line)

    return locked


def _stopped(index: int, message: str) -> Failure:
    return Failure(index, str(Item(index)), "", time.time(), Reason.STOPPED, message)
