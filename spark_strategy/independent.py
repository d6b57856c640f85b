"""Runs the calls of an ``Independent`` topology, so many at a time, one Spark job each.

The theory. A job of one task is what Spark places best: it waits for a slot like any other, is
started again when its executor is lost (``spark.task.maxFailures``), works with dynamic
allocation, and is never run twice by speculation (a stage of one task is exempt,
``TaskSetManager.checkSpeculatableTasks``). What the function does wrong comes back as a value, so
that Spark sees nothing to repeat. The queue of calls stays on the driver: one call's arguments are
taken, and pickled, when a place for it is free, and ten thousand calls need no more threads,
descriptors and memory than those that run at the same time (docs/decisions/0007).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from spark_strategy.attempt import Attempt, Halted
from spark_strategy.bounds import shown
from spark_strategy.call_queue import LOOK_S, in_turn
from spark_strategy.errors import PlanError, SparkStrategyError
from spark_strategy.outcome import Failure, Outcome, Reason, Success
from spark_strategy.plan import Capacity, LaunchPlan
from spark_strategy.shipping import SharedFunction
from spark_strategy.spark import listener, wire
from spark_strategy.spark.executors import slots
from spark_strategy.spark.frames import Feeding
from spark_strategy.spark.tagged_job import inheriting
from spark_strategy.topology import Independent, Item, Topology, is_count
from spark_strategy.train_function import check_call

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from spark_strategy.spark.listener import OutputListener

# A job that Spark itself could not bring to its end has an error instead of an outcome.
End = Outcome | SparkStrategyError
# Pickled function and arguments, or why they cannot be.
Payload = bytes | PlanError

# Jobs in flight where the number of slots is unknown, or Spark makes slots for jobs that wait: each
# has two threads and about four descriptors on the driver, of which 1,024 are the usual limit.
_AHEAD: Final = 128
_DRAIN_S: Final = 2.0


class Calls:
    """Calls that know nothing of each other.

    Args:
        spark: the session.
        plan: of an ``Independent`` topology, which says how many run at the same time.
        feeding: rows that every call is fed with, all of them; None for none.
        run_id: the run's name.
        profile: resource profile of the jobs, or None.
    """

    def __init__(
        self,
        spark: SparkSession,
        plan: LaunchPlan,
        *,
        feeding: Feeding | None,
        run_id: str,
        profile: Any,
    ) -> None:
        self._spark = spark
        self._plan = plan
        self._feeding = feeding
        self._run_id = run_id
        self._profile = profile
        self._secret = wire.new_secret()
        self._halt = threading.Event()
        self._in_flight: set[Attempt] = set()
        self._places, self._look_at = 0, 0.0
        self._lock = threading.Lock()

    def ends(
        self,
        payloads: Iterable[Payload],
        show: Callable[[str], None] | None,
        *,
        max_failures: int | None,
    ) -> Generator[tuple[int, End], None, None]:
        """Make the calls; the number of each that has ended, and how, as they end.

        Args:
            payloads: taken one at a time, in the caller's thread.
            show: gets each line the calls print, one at a time.
            max_failures: how many may fail before the rest is stopped; None for any number.
        """
        spare = None if max_failures is None else threading.Semaphore(max_failures)
        ports = self._plan.orders.port_range
        output = listener.listen(
            self._spark, self._secret, show, port_range=ports, lines=self._at_once()
        )

        def end(index: int, payload: Payload) -> End:
            ended = self._end(index, payload, output)
            failed = not isinstance(ended, Success)
            # Counted here, before the next call is taken, which must not begin then.
            if failed and spare is not None and not spare.acquire(blocking=False):
                self._halt.set()
            return ended

        try:
            yield from in_turn(
                payloads,
                end,
                # Anew for each: they would share one set of Spark's local properties.
                wrap=lambda target: inheriting(self._spark, target),
                at_once=self._at_once,
                halt=self._halt,
            )
        finally:
            if output is not None:
                output.close(_DRAIN_S)

    def _at_once(self) -> int:
        """How many jobs may be in flight; executors come and go while ten thousand calls run."""
        if time.monotonic() < self._look_at:
            return self._places
        topology, found = self._plan.topology, self._plan.capacity
        assert isinstance(topology, Independent)
        if found.slots is not None:
            # Of a session that is gone, the calls say what has become of it.
            with suppress(Exception):
                found = replace(found, slots=slots(self._spark.sparkContext))
        self._places = at_once(topology.n, found, own_profile=self._profile is not None)
        self._look_at = time.monotonic() + LOOK_S
        return self._places

    def _any_runs(self) -> bool:
        with self._lock:
            return any(attempt.running for attempt in self._in_flight)

    def _end(self, index: int, payload: Payload, output: OutputListener | None) -> End:
        if self._halt.is_set():
            return _stopped(index, "was not called, because other calls had failed")
        if isinstance(payload, PlanError):
            return payload
        with self._attempt(index, payload) as attempt:
            item = str(Item(index).tasks[0])
            try:
                (outcome,) = attempt.outcomes(
                    self._profile, None, shared=output.of(item) if output else None
                )
            except Halted:
                return _stopped(index, "was stopped, because other calls had failed")
            except SparkStrategyError as error:
                # It is kept, and its frames would keep the pickled call and more.
                return error.with_traceback(None)
        return replace(outcome, rank=index)

    @contextmanager
    def _attempt(self, index: int, payload: bytes) -> Iterator[Attempt]:
        attempt = Attempt(
            self._spark,
            replace(self._plan, topology=Item(index)),
            payload,
            feeding=self._feeding,
            run_id=f"{self._run_id}-{index}",
            number=0,
            secret=self._secret,
            halt=self._halt,
            queued=self._any_runs,
        )
        with self._lock:
            self._in_flight.add(attempt)
        try:
            yield attempt
        finally:
            with self._lock:
                self._in_flight.discard(attempt)


def at_once(n: int, found: Capacity, *, own_profile: bool) -> int:
    """How many jobs may be in flight: as many as run at the same time, or wait for a good reason.

    Args:
        n: how many the user wants at most.
        found: what the session can host now.
        own_profile: whether the jobs have a resource profile of their own, for which Spark counts
            other slots.
    """
    if found.slots is None or own_profile:
        return min(n, _AHEAD)
    if found.dynamic_allocation:
        return min(n, found.slots + _AHEAD)  # Spark asks for executors by the tasks that wait
    return min(n, max(1, found.slots))


def check_map(topology: Topology, items: Any, max_failures: int | None) -> None:
    """Refuse what can be seen to make no sense before any item is taken.

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
        raise PlanError(f"map takes a list of dictionaries of arguments, found {shown(items)}.")
    if isinstance(items, Sequence):
        for index, item in enumerate(items):
            _check_item(index, item)


def payloads_of(
    function: Callable[..., Any], items: Iterable[Any], taken: list[Mapping[str, Any]]
) -> Iterator[Payload]:
    """What each call gets, made when it is taken; the function's part is made once, now.

    Args:
        function: what to call.
        items: the arguments of each call; the first is taken now.
        taken: where each item is added that was taken.

    Raises:
        PlanError: the function or the first item makes no sense, or there is no item. Of later
            items this is what they are given instead of a payload.
    """
    shared = SharedFunction(function)
    numbered = enumerate(items)

    def made(index: int, item: Any) -> bytes:
        taken.append(dict(item) if isinstance(item, Mapping) else item)
        _check_item(index, item)
        check_call(function, (), item)
        return shared.with_arguments(item)

    def later() -> Iterator[Payload]:
        for index, item in numbered:
            try:
                payload: Payload = made(index, item)
            except PlanError as error:
                payload = error
            yield payload

    if (first := next(numbered, None)) is None:
        raise PlanError("There is no item to map over; give at least one.")
    return chain([made(*first)], later())


def _check_item(index: int, item: Any) -> None:
    if not isinstance(item, Mapping) or not all(isinstance(name, str) for name in item):
        raise PlanError(
            f"Each item is a dictionary of arguments by name, as in map([{{'rate': 0.1}}]); "
            f"item {index} is {shown(item)}."
        )


def _stopped(index: int, message: str) -> Failure:
    return Failure(index, str(Item(index)), "", time.time(), Reason.STOPPED, message)
