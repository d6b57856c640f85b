"""Ten thousand calls over eight places, with a function in place of Spark."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Iterator

import psutil
import pytest

from spark_strategy.call_queue import in_turn
from spark_strategy.independent import at_once
from spark_strategy.plan import Capacity


def plain(target: object) -> object:
    """A thread needs nothing of its parent here."""
    return target


def test_ten_thousand_items_need_no_more_than_those_that_run() -> None:
    """Threads, descriptors and memory stay flat; an item is taken when a place for it is free."""
    taken = ended = most_ahead = most_threads = most_files = 0
    process, threads = psutil.Process(), threading.active_count()
    files = process.num_fds()

    def items() -> Iterator[bytes]:
        nonlocal taken, most_ahead
        for index in range(10_000):
            taken += 1
            most_ahead = max(most_ahead, taken - ended)
            yield bytes(10_000 + index)

    def call(index: int, item: bytes) -> int:
        return len(item) - index

    tracemalloc.start()
    seen = set()
    for index, value in in_turn(
        items(), call, wrap=plain, at_once=lambda: 8, halt=threading.Event()
    ):
        ended += 1
        seen.add(index)
        assert value == 10_000
        if index % 100 == 0:
            most_threads = max(most_threads, threading.active_count())
            most_files = max(most_files, process.num_fds())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert seen == set(range(10_000))
    assert most_ahead <= 9
    assert most_threads - threads <= 9
    assert most_files - files <= 2
    # All items together have 150 MB.
    assert peak < 5e6


def test_no_more_run_at_once_than_asked_for_and_more_when_there_is_room() -> None:
    """Executors that come later are used by the same map."""
    places, running, most = 2, 0, 0
    lock, both, four = threading.Lock(), threading.Barrier(2), threading.Barrier(4)

    def call(index: int, item: int) -> int:
        nonlocal running, most, places
        with lock:
            running += 1
            most = max(most, running)
        if index < 2:
            both.wait(60)
            assert most == 2
            both.wait(60)  # both have looked before there is room for more
            places = 4
        elif index < 6:
            four.wait(60)  # only four at once come through here
        with lock:
            running -= 1
        return item

    halt = threading.Event()
    ended = dict(in_turn(range(40), call, wrap=plain, at_once=lambda: places, halt=halt))

    assert ended == {index: index for index in range(40)}
    assert most == 4
    assert not halt.is_set()


def test_leaving_early_halts_the_rest_and_waits_for_what_runs() -> None:
    """Ctrl-C, and whatever else the caller's thread raises: no call outlives the map."""
    halt, left = threading.Event(), []

    def call(index: int, item: int) -> int:
        if index:
            assert halt.wait(60)
            left.append(index)
        return item

    calls = in_turn(range(1000), call, wrap=plain, at_once=lambda: 4, halt=halt)
    assert next(calls) == (0, 0)
    calls.close()

    assert halt.is_set()
    assert sorted(left) == [1, 2, 3]


@pytest.mark.parametrize("where", ["items", "call"])
def test_what_the_items_or_a_call_raise_reaches_the_caller(where: str) -> None:
    """An error in a generator of items is the caller's own, and ends the map."""
    halt = threading.Event()

    def items() -> Iterator[int]:
        yield from range(5)
        if where == "items":
            raise LookupError("items")

    def call(index: int, item: int) -> int:
        if where == "call" and index == 3:
            raise LookupError("call")
        return item

    with pytest.raises(LookupError, match=where):
        dict(in_turn(items(), call, wrap=plain, at_once=lambda: 2, halt=halt))


@pytest.mark.parametrize(
    ("capacity", "own_profile", "jobs"),
    [
        (Capacity("spark://x", 8), False, 8),
        (Capacity("spark://x", 2000), False, 1000),
        (Capacity("spark://x", 0), False, 1),
        (Capacity("spark://x", 8), True, 128),
        (Capacity("sc://x", None, connect=True), False, 128),
        (Capacity("yarn", 0, dynamic_allocation=True), False, 128),
        (Capacity("yarn", 64, dynamic_allocation=True), False, 192),
    ],
)
def test_as_many_jobs_as_slots_and_more_only_where_spark_makes_slots_for_them(
    capacity: Capacity, own_profile: bool, jobs: int
) -> None:
    """Never more than the user wants, never none, and a fixed number where Spark does not say."""
    assert at_once(1000, capacity, own_profile=own_profile) == jobs
    assert at_once(1, capacity, own_profile=own_profile) == 1


class Interrupted(threading.Thread):
    """A thread whose start is interrupted when it has begun, as Ctrl-C can."""

    def start(self) -> None:
        """As ever, and then the interrupt."""
        super().start()
        raise KeyboardInterrupt


def test_an_interrupt_while_a_call_begins_halts_that_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not counted yet, and would run for ever."""
    halt, halted = threading.Event(), threading.Event()

    def call(index: int, item: int) -> None:
        assert halt.wait(60)
        halted.set()

    monkeypatch.setattr(threading, "Thread", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(in_turn(range(1), call, wrap=plain, at_once=lambda: 1, halt=halt))

    assert halted.wait(60)
