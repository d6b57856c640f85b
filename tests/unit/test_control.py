"""The hub between the ranks' tasks, over real sockets."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from spark_strategy.data.row_ledger import Arrived
from spark_strategy.data.steps import Shard
from spark_strategy.errors import RendezvousError
from spark_strategy.patience import Patience
from spark_strategy.spark.control import Hub
from spark_strategy.spark.line_server import LineServer
from spark_strategy.spark.rendezvous import reserve
from spark_strategy.spark.seat import Seat
from spark_strategy.spark.verdicts import State, Tally, Verdict
from spark_strategy.spark.wire import Line, connect, new_secret

SECRET = new_secret()
FAILED = json.dumps({"state": "failed", "clock": 0.0}).encode()


@contextmanager
def serving(hub: Hub) -> Iterator[str]:
    """The address of a hub."""
    server = LineServer(reserve(None), SECRET, hub)
    try:
        yield f"127.0.0.1:{server.port}"
    finally:
        server.close()


@pytest.fixture
def hub() -> Iterator[str]:
    """The address of a hub for two ranks."""
    with serving(Hub(2)) as address:
        yield address


def until(condition: Callable[[], bool]) -> bool:
    """Whether it becomes true within a generous deadline."""
    deadline = time.monotonic() + 30
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def verdict_heard(line: Line) -> dict[str, str]:
    """The first verdict that a rank without a seat hears."""
    for body in line:
        if body.startswith(b"{") and "verdict" in (fields := json.loads(body)):
            return dict(fields)
    raise AssertionError(line.ended)


@pytest.mark.parametrize(
    ("states", "verdict"),
    [
        ({}, Verdict.GO_ON),
        ({0: State.FINISHED}, Verdict.GO_ON),
        ({0: State.FINISHED, 1: State.RUNNING}, Verdict.GO_ON),
        ({0: State.FINISHED, 1: State.FINISHED}, Verdict.RELEASE),
        ({0: State.FINISHED, 1: State.FAILED}, Verdict.ABORT),
        ({1: State.FAILED}, Verdict.ABORT),
    ],
)
def test_one_failure_aborts_and_only_all_finished_release(
    states: dict[int, State], verdict: Verdict
) -> None:
    """A rank that has not been heard of counts as running."""
    assert told(Tally(2), states) is verdict


@pytest.mark.parametrize(
    ("states", "verdict"),
    [
        ({0: State.FINISHED}, Verdict.GO_ON),
        ({0: State.FINISHED, 2: State.FAILED}, Verdict.GO_ON),
        ({0: State.FINISHED, 1: State.FINISHED}, Verdict.CLOSE),
        ({0: State.FINISHED, 1: State.FINISHED, 2: State.FINISHED}, Verdict.RELEASE),
        ({0: State.FINISHED, 1: State.FINISHED, 2: State.FAILED}, Verdict.RELEASE),
        ({0: State.FAILED, 2: State.FINISHED}, Verdict.ABORT),
    ],
)
def test_an_evaluator_ends_after_the_others_and_its_failure_is_its_own(
    states: dict[int, State], verdict: Verdict
) -> None:
    """Rank 2 evaluates: it is told when the others have finished, and they wait for it."""
    assert told(Tally(3, frozenset({2})), states) is verdict


def told(tally: Tally, states: dict[int, State]) -> Verdict:
    """The verdict when the ranks have said their states, some of them twice."""
    for rank, state in [*states.items(), *states.items()]:
        tally.say(rank, state)
    return tally.verdict


def test_a_rank_may_start_again_and_one_that_has_failed_may_not() -> None:
    """A server's process that is lost after all have finished is replaced first."""
    tally = Tally(2)
    for state in (State.FINISHED, State.RUNNING):
        tally.say(1, state)
    tally.say(0, State.FINISHED)
    assert tally.verdict is Verdict.GO_ON
    tally.say(1, State.FINISHED)
    assert tally.verdict is Verdict.RELEASE
    tally.say(1, State.FAILED)
    tally.say(1, State.RUNNING)
    assert tally.verdict is Verdict.ABORT


def test_an_evaluator_that_leaves_early_is_not_missed() -> None:
    """Its line breaks; the others are released when they have finished."""
    with serving(Hub(3, frozenset({2}))) as hub, ExitStack() as held:
        seats = seated(hub, range(3), held)
        for seat in seats[:2]:
            seat.report(State.FINISHED)
        assert until(lambda: seats[2].training_ended)
        assert seats[2].verdict is Verdict.GO_ON
        seats[2].close()
        assert until(lambda: all(seat.verdict is Verdict.RELEASE for seat in seats[:2]))


def seated(hub: str, ranks: range, held: ExitStack) -> list[Seat]:
    """Seats of these ranks at a hub."""
    seats = [Seat(hub, SECRET, rank) for rank in ranks]
    for seat in seats:
        held.callback(seat.close)
    return seats


def test_all_finished_releases_every_rank(hub: str) -> None:
    """Nobody is released before the last one has finished."""
    with ExitStack() as held:
        seats = seated(hub, range(2), held)
        seats[0].report(State.FINISHED)
        assert seats[0].verdict is Verdict.GO_ON
        seats[1].report(State.FINISHED)
        assert until(lambda: all(seat.verdict is Verdict.RELEASE for seat in seats))


def test_a_failure_aborts_every_rank_also_one_that_comes_later(hub: str) -> None:
    """The peers hear of it at once."""
    with ExitStack() as held:
        (failed,) = seated(hub, range(1, 2), held)
        failed.report(State.FAILED)
        assert until(lambda: failed.verdict is Verdict.ABORT)
        (late,) = seated(hub, range(1), held)
        assert until(lambda: late.verdict is Verdict.ABORT)
        assert late.why == ""


def test_a_rank_that_fails_learns_how_its_clock_differs(hub: str) -> None:
    """So that what fails on two hosts can be put in order, whatever their clocks say."""
    with ExitStack() as held:
        ahead = Seat(hub, SECRET, 1, clock=lambda: time.time() + 3600)
        held.callback(ahead.close)
        ahead.report(State.FAILED)
        difference = ahead.ahead_s(15)
        assert difference is not None
        assert abs(difference + 3600) < 15


@pytest.mark.parametrize("finishes", [False, True])
def test_a_rank_whose_line_breaks_has_failed(hub: str, *, finishes: bool) -> None:
    """Its task was killed before it could say so, or before its value was taken."""
    with ExitStack() as held:
        seats = seated(hub, range(2), held)
        if finishes:
            seats[1].report(State.FINISHED)
        seats[1].close()
        assert until(lambda: seats[0].verdict is Verdict.ABORT)
        assert "rank 1 left without a word" in seats[0].why


def test_a_hub_that_goes_away_aborts() -> None:
    """Rank 0's task is gone."""
    with ExitStack() as held:
        with serving(Hub(2)) as address:
            (seat,) = seated(address, range(1, 2), held)
        assert until(lambda: seat.verdict is Verdict.ABORT)
        assert seat.why.startswith("rank 0 left without a word")
        assert seat.ahead_s(15) is None


def test_a_silent_rank_is_named_and_one_that_never_came_as_well() -> None:
    """Both count from when the hub last had a reason to expect them."""
    with serving(Hub(3, patience=Patience(silence_s=2.0))) as hub, ExitStack() as held:
        (seat,) = seated(hub, range(1), held)
        assert until(lambda: seat.verdict is Verdict.ABORT)
        assert seat.why == (
            "rank 1 has been silent for 2 s: its host is gone, or the network is cut"
        )


class Silent(Hub):
    """A hub that nothing is heard of."""

    def arrived(self, peer: object) -> None:
        """Take no note."""

    def look(self) -> float:
        """Do nothing."""
        return 1.0


def test_a_host_that_cannot_be_reached_names_the_settings_that_help() -> None:
    """A firewall, or an interface that is dead: the address, the system's words, what to set."""
    with reserve(None) as held:  # bound, and not listening
        address = f"127.0.0.1:{held.getsockname()[1]}"
        with pytest.raises(RendezvousError) as caught:
            Seat(address, SECRET, 1, patience=Patience(connect_s=0.5))

    text = str(caught.value)
    assert text.startswith(f"could not reach {address}: [Errno 111] Connection refused. ")
    assert "port_range=" in text
    assert "interface=" in text


def test_a_hub_that_is_silent_is_missed_unless_silence_counts_for_nothing() -> None:
    """What listens there accepts the line and never says a word."""
    with serving(Silent(2)) as hub, ExitStack() as held:
        patient = Seat(hub, SECRET, 0, patience=Patience(silence_s=None))
        held.callback(patient.close)
        seat = Seat(hub, SECRET, 1, patience=Patience(silence_s=2.0))
        held.callback(seat.close)
        assert until(lambda: seat.verdict is Verdict.ABORT)
        assert "rank 0 has been silent for 2 s" in seat.why
        assert patient.verdict is Verdict.GO_ON


def test_a_rank_that_stood_still_itself_does_not_blame_the_hub() -> None:
    """Stopped and continued, or starved: what the hub sent meanwhile is read first."""
    patience = Patience(silence_s=2.0)
    with ExitStack() as held:
        server = LineServer(reserve(None), SECRET, Silent(2))
        held.callback(server.close)
        seat = Seat(f"127.0.0.1:{server.port}", SECRET, 1, patience=patience)
        held.callback(seat.close)
        came = time.monotonic()
        assert until(lambda: time.monotonic() > came + 3.0)  # nobody asks for the verdict
        assert seat.verdict is Verdict.GO_ON
        assert until(lambda: seat.verdict is Verdict.ABORT)


@pytest.mark.parametrize("who", ["2", "-1", "x", "", "1e3", "0"])
def test_a_line_of_nobody_or_a_second_one_ends_and_changes_nothing(hub: str, who: str) -> None:
    """The ranks of the run go on, rank 0 with its first line."""
    with ExitStack() as held:
        seats = seated(hub, range(2), held)
        second = connect(hub, SECRET, who, timeout_s=5)
        held.callback(second.close)
        assert list(second) == []
        for seat in seats:
            seat.report(State.FINISHED)
        assert until(lambda: all(seat.verdict is Verdict.RELEASE for seat in seats))


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"\xff",
        b"[]",
        b"7",
        b'{"state": "dancing", "clock": 0}',
        b'{"state": "failed"}',
        b'{"state": "failed", "clock": "x"}',
        b'{"rows": 7}',
        b'{"rows": {"a": [1.5, true]}}',
        b'{"rows": {"a": [true, true]}}',
        b'{"rows": {"a": [-1, true]}}',
        b'{"rows": {"a": [1]}}',
        b'{"rows": {"fine": [1, true], "a": [1, "yes"]}}',
        b"[" * 100_000,
    ],
)
def test_a_message_without_sense_changes_nothing(hub: str, body: bytes) -> None:
    """Neither for the others nor for the rank that sent it."""
    with ExitStack() as held:
        (seat,) = seated(hub, range(1), held)
        line = connect(hub, SECRET, "1", timeout_s=5)
        held.callback(line.close)
        line.send(body)
        line.send(json.dumps({"rows": {"b": [5, True]}}).encode())
        seat.report_rows({"b": Shard(4, complete=True)})
        known = {"b": Arrived(2, 0, {0: 4, 1: 5})}
        assert until(lambda: seat.rows == known)
        assert seat.verdict is Verdict.GO_ON


def test_ranks_hear_what_has_changed_and_late_ones_everything(hub: str) -> None:
    """Rows that still arrive by their least, final counts once."""
    with ExitStack() as held:
        (seat,) = seated(hub, range(1), held)
        seat.report_rows({"a": Shard(4, complete=True), "b": Shard(2)})
        assert until(lambda: seat.rows.get("a") == Arrived(2, 0, {0: 4}))
        (late,) = seated(hub, range(1, 2), held)
        late.report_rows({"a": Shard(3), "b": Shard(1)})
        known = {"a": Arrived(2, 3, {0: 4}), "b": Arrived(2, 1)}
        assert until(lambda: late.rows == seat.rows == known)
        late.report_rows({"a": Shard(3, complete=True), "b": Shard(7)})
        known = {"a": Arrived(2, 0, {0: 4, 1: 3}), "b": Arrived(2, 2)}
        assert until(lambda: late.rows == seat.rows == known)


def test_a_rank_that_does_not_read_delays_nobody_and_is_missed_in_the_end() -> None:
    """Though it shows that it lives: what it does not read is kept for it, up to a bound."""
    patience = Patience(silence_s=2.0)
    names = [secrets.token_hex(60) for _ in range(8_000)]  # cannot be compressed well
    made = Hub(3, patience=patience)
    with serving(made) as hub, ExitStack() as held:
        seat = Seat(hub, SECRET, 0, patience=patience)
        held.callback(seat.close)
        deaf = connect(hub, SECRET, "1", timeout_s=5)
        held.callback(deaf.close)
        other = Seat(hub, SECRET, 2, patience=patience)
        held.callback(other.close)
        deaf.send(json.dumps({"rows": {name: [0, True] for name in names}}).encode())
        rows = 0
        deadline = time.monotonic() + 60
        while 1 not in made.gone and time.monotonic() < deadline:
            rows += 1
            deaf.send(b"")
            for rank in (seat, other):
                rank.report_rows(dict.fromkeys(names, Shard(rows)))
            until(lambda: bool(other.rows) and other.rows[names[0]].least == rows)  # noqa: B023
        assert set(made.gone) == {1}
        assert until(lambda: seat.verdict is Verdict.ABORT)
        assert "rank 1" in seat.why
        assert len(other.rows) == len(names)


def test_one_thread_serves_all_ranks() -> None:
    """300 of them, fed and then told of a failure; each knows all final counts."""
    ranks = 300
    patience = Patience(silence_s=600.0)  # these show no signs of life
    with serving(Hub(ranks, patience=patience)) as hub, ExitStack() as held:
        before = threading.active_count()
        lines = [connect(hub, SECRET, str(rank), timeout_s=15) for rank in range(1, ranks)]
        for line in lines:
            held.callback(line.close)
        for rank, line in enumerate(lines, 1):
            line.send(json.dumps({"rows": {"train": [rank, True]}}).encode())
        assert threading.active_count() <= before
        (seat,) = seated(hub, range(1), held)
        seat.report_rows({"train": Shard(7, complete=True)})
        final = {0: 7} | {rank: rank for rank in range(1, ranks)}
        assert until(lambda: bool(seat.rows) and seat.rows["train"].complete)
        assert seat.rows["train"].final == final
        lines[-1].send(FAILED)
        assert all(verdict_heard(line) == {"verdict": "abort", "why": ""} for line in lines)
        assert until(lambda: seat.verdict is Verdict.ABORT)
