"""The calls of a map, without Spark: their items, their output, a seat without a hub."""

from __future__ import annotations

import logging
import pickle
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from spark_strategy.data.row_ledger import Arrived
from spark_strategy.data.steps import Shard
from spark_strategy.errors import PlanError
from spark_strategy.independent import check_map, payloads_of
from spark_strategy.spark.alone import OwnSeat
from spark_strategy.spark.listener import OutputListener
from spark_strategy.spark.verdicts import State, Verdict
from spark_strategy.spark.wire import connect, new_secret
from spark_strategy.topology import Independent, MultiWorker


def test_items_are_taken_and_pickled_when_their_turn_comes() -> None:
    """The first one early, so that what is wrong with all of them is said before Spark starts."""
    given: list[int] = []

    def items() -> Iterator[dict[str, Any]]:
        for n in range(10_000):
            given.append(n)
            yield {"n": n}

    taken: list[Any] = []
    payloads = payloads_of(dict, items(), taken)

    assert given == [0]
    for n in range(3):
        payload = next(payloads)
        assert isinstance(payload, bytes)
        assert pickle.loads(payload) == (dict, (), {"n": n})
    assert given == [0, 1, 2]
    assert taken == [{"n": 0}, {"n": 1}, {"n": 2}]


def test_a_later_item_that_makes_no_sense_fails_alone() -> None:
    """The calls before and after it go on; the item has its error in its place."""
    taken: list[Any] = []
    items = iter([{"n": 1}, {"n": threading.Lock()}, 3, {"n": 4}])
    first, unpicklable, no_item, last = payloads_of(dict, items, taken)

    assert isinstance(first, bytes)
    assert isinstance(last, bytes)
    assert isinstance(unpicklable, PlanError)
    assert "argument 'n', a lock, cannot be pickled" in str(unpicklable)
    assert isinstance(no_item, PlanError)
    assert "item 2 is 3" in str(no_item)
    assert len(taken) == 4


def test_the_first_item_and_a_list_are_looked_at_before_anything_starts() -> None:
    """What is wrong there is raised at once."""
    with pytest.raises(PlanError, match="argument 'n', a lock, cannot be pickled"):
        payloads_of(dict, iter([{"n": threading.Lock()}]), [])
    with pytest.raises(PlanError, match="item 0 is 1"):
        payloads_of(dict, iter([1]), [])
    with pytest.raises(PlanError, match="no item to map over"):
        payloads_of(dict, iter([]), [])
    with pytest.raises(PlanError, match="item 2 is 'x'"):
        check_map(Independent(1), [{}, {}, "x"], None)
    with pytest.raises(PlanError, match=r"MultiWorker\(2\) work on one call together"):
        check_map(MultiWorker(2), [{}], None)


def test_calls_share_one_listener_and_each_sees_its_own_task() -> None:
    """One port for all; a call that ends takes its own lines along and leaves the others."""
    secret, lines = new_secret(), []
    listener = OutputListener("127.0.0.1", secret, lines.append, port_range=None)
    first, second = listener.of("item:0"), listener.of("item:1")
    assert first.address == second.address == listener.address

    said = connect(first.address, secret, "item:0@here", timeout_s=10)
    other = connect(first.address, secret, "item:1@there", timeout_s=10)
    said.send(b"one")
    said.close()
    other.send(b"two")
    _until(lambda: second.hosts == {"item:1": "there"} and len(lines) == 2)
    first.close(10)

    assert first.hosts == {}
    other.send(b"three")
    other.close()
    second.close(10)
    assert sorted(lines) == ["item:0 | one", "item:1 | three", "item:1 | two"]
    listener.close(10)


def test_output_that_nobody_could_send_is_missed_once(caplog: pytest.LogCaptureFixture) -> None:
    """Not once for each of ten thousand calls, and not where any call was heard."""
    listener = OutputListener("127.0.0.1", new_secret(), print, port_range=None)
    with caplog.at_level(logging.WARNING):
        for index in range(3):
            listener.of(f"item:{index}").warn_if_unheard()
    assert caplog.text.count("its output was lost") == 1
    listener.close(0)


def test_a_rank_without_peers_is_released_or_aborted_by_its_own_word() -> None:
    """As the hub would, without a port, a line or a thread."""
    threads = threading.active_count()
    seat = OwnSeat()
    assert seat.verdict is Verdict.GO_ON
    assert seat.rows == {}
    seat.report_rows({"train": Shard(5)})
    assert seat.rows == {"train": Arrived(1, 5)}
    seat.report_rows({"train": Shard(5, True)})
    assert seat.rows == {"train": Arrived(1, 5, {0: 5})}
    seat.report(State.FINISHED)
    assert seat.verdict is Verdict.RELEASE
    seat.report(State.FAILED)
    assert (seat.verdict, seat.why, seat.hub_gone) == (Verdict.ABORT, "", None)
    assert threading.active_count() == threads


def _until(condition: Any) -> None:
    ended = threading.Event()
    for _ in range(1500):
        if condition():
            return
        ended.wait(0.01)
    raise AssertionError("it did not come true within 15 s")
