"""The hub between the ranks' tasks, over real sockets."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator

import pytest

from spark_strategy.errors import RendezvousError
from spark_strategy.spark.control import Hub, State, Verdict, decide
from spark_strategy.spark.rendezvous import reserve
from spark_strategy.spark.seat import Seat
from spark_strategy.spark.wire import Line, Listener, connect, new_secret

SECRET = new_secret()


@pytest.fixture
def hub() -> Iterator[str]:
    """The address of a hub for two ranks."""
    listener = Listener(reserve(None), SECRET, Hub(2).serve)
    yield f"127.0.0.1:{listener.port}"
    listener.close()


def until(condition: Callable[[], bool]) -> bool:
    """Whether it becomes true within a generous deadline."""
    deadline = time.monotonic() + 15
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


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
    assert decide(states, 2) is verdict


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
    assert decide(states, 3, frozenset({2})) is verdict


def test_an_evaluator_that_leaves_early_is_not_missed() -> None:
    """Its line breaks; the others are released when they have finished."""
    listener = Listener(reserve(None), SECRET, Hub(3, frozenset({2})).serve)
    hub = f"127.0.0.1:{listener.port}"
    seats = [Seat(hub, SECRET, rank, timeout_s=5) for rank in range(3)]
    try:
        for seat in seats[:2]:
            seat.report(State.FINISHED)
        assert until(lambda: seats[2].training_ended)
        assert seats[2].verdict is Verdict.GO_ON
        seats[2].close()
        assert until(lambda: all(seat.verdict is Verdict.RELEASE for seat in seats[:2]))
    finally:
        for seat in seats:
            seat.close()
        listener.close()


def test_all_finished_releases_every_rank(hub: str) -> None:
    """Nobody is released before the last one has finished."""
    seats = [Seat(hub, SECRET, rank, timeout_s=5) for rank in range(2)]
    try:
        seats[0].report(State.FINISHED)
        assert seats[0].verdict is Verdict.GO_ON
        seats[1].report(State.FINISHED)
        assert until(lambda: all(seat.verdict is Verdict.RELEASE for seat in seats))
    finally:
        for seat in seats:
            seat.close()


def test_a_failure_aborts_every_rank(hub: str) -> None:
    """The peers hear of it at once."""
    seats = [Seat(hub, SECRET, rank, timeout_s=5) for rank in range(2)]
    try:
        seats[1].report(State.FAILED)
        assert until(lambda: seats[0].verdict is Verdict.ABORT)
    finally:
        for seat in seats:
            seat.close()


def test_a_rank_whose_line_breaks_has_failed(hub: str) -> None:
    """Its task was killed before it could say so."""
    seats = [Seat(hub, SECRET, rank, timeout_s=5) for rank in range(2)]
    seats[1].close()
    assert until(lambda: seats[0].verdict is Verdict.ABORT)
    seats[0].close()


def test_a_hub_that_goes_away_aborts(hub: str) -> None:
    """Rank 0's task is gone."""
    listener = Listener(reserve(None), SECRET, Hub(2).serve)
    seat = Seat(f"127.0.0.1:{listener.port}", SECRET, 1, timeout_s=5)
    listener.close()
    assert until(lambda: seat.verdict is Verdict.ABORT)
    seat.close()


def test_a_wrong_secret_is_turned_away(hub: str) -> None:
    """Whoever does not know the run's secret is not heard."""
    with pytest.raises(RendezvousError, match="could not reach"):
        connect(hub, new_secret(), "0", timeout_s=5)


def test_a_listener_that_does_not_know_the_secret_is_not_trusted() -> None:
    """The listener proves itself too: a stolen port cannot give orders."""
    served: list[str] = []

    def serve(who: str, line: Line) -> None:
        served.append(who)

    impostor = Listener(reserve(None), new_secret(), serve)
    try:
        with pytest.raises(RendezvousError, match="could not reach"):
            connect(f"127.0.0.1:{impostor.port}", SECRET, "0", timeout_s=5)
    finally:
        impostor.close()
    assert served == []


def test_a_stranger_who_says_nothing_keeps_nobody_out(hub: str) -> None:
    """A connection that never answers the challenge does not block the others."""
    with socket.create_connection(tuple_of(hub), timeout=5):
        Seat(hub, SECRET, 0, timeout_s=5).close()


def tuple_of(address: str) -> tuple[str, int]:
    """``host:port`` as the socket module wants it."""
    host, _, port = address.rpartition(":")
    return host, int(port)
