"""Who is missed by a rank that has failed."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from dataclasses import replace

from spark_strategy.outcome import Failure, Reason
from spark_strategy.patience import USUAL, Patience
from spark_strategy.spark.absence import absent, missing
from spark_strategy.spark.control import Gone, Hub
from spark_strategy.spark.line_peer import Peer
from spark_strategy.spark.line_server import LineServer
from spark_strategy.spark.on_driver import one_of_each
from spark_strategy.spark.rendezvous import reserve
from spark_strategy.spark.seat import Seat
from spark_strategy.spark.verdicts import State, Verdict
from spark_strategy.spark.wire import connect, new_secret

SECRET = new_secret()


def failure(rank: int, *, error: bytes = b"") -> Failure:
    """Of a rank."""
    text = "é\n: a peer, 'quoted'\n" * 20
    return Failure(rank, f"worker:{rank}", "host", 1.5, Reason.LOST, text, error=error)


def test_what_a_rank_says_of_itself_counts_more_than_that_it_is_missed() -> None:
    """The chief is on the driver, and each end has seen the line to the other break."""
    chief, worker = replace(failure(0), message="own"), replace(failure(1), message="own")
    chiefs = (failure(1), chief)
    assert one_of_each(chiefs, (failure(0), worker)) == (chief, worker)
    assert one_of_each(chiefs, ()) == (chief, failure(1))
    assert one_of_each((), (worker, failure(2))) == (worker, failure(2))


def test_nobody_is_missed_where_all_end_and_rank_0_waits_for_it() -> None:
    """Neither by rank 0, which keeps the hub, nor by another rank; evaluators may stay."""
    hub = Hub(4, frozenset({3}))
    with ExitStack() as held:
        server = LineServer(reserve(None), SECRET, hub)
        held.callback(server.close)
        address = f"127.0.0.1:{server.port}"
        seats = [Seat(address, SECRET, rank) for rank in range(4)]
        for seat in seats:
            held.callback(seat.close)
        for seat in seats[:3]:
            seat.report(State.FAILED)
        assert absent(seats[1], None) == {}
        seats[1].close()
        leaves = threading.Timer(0.5, seats[2].close)
        leaves.start()
        began = time.monotonic()
        assert absent(seats[0], hub) == {}
        assert time.monotonic() - began > 0.3


def test_a_rank_that_left_without_a_word_is_missed_and_one_that_never_came_is_not() -> None:
    """By rank 0; its line broke while it was running."""
    hub = Hub(3)
    with ExitStack() as held:
        server = LineServer(reserve(None), SECRET, hub)
        held.callback(server.close)
        address = f"127.0.0.1:{server.port}"
        seats = [Seat(address, SECRET, rank) for rank in range(2)]
        held.callback(seats[0].close)
        time.sleep(0.3)
        seats[1].close()
        seats[0].report(State.FAILED)
        (gone,) = absent(seats[0], hub, patience=Patience(grace_s=0.5)).items()
        assert gone[0] == 1
        assert "left without a word" in gone[1].why
        assert time.time() - 30 < gone[1].at < time.time()


def test_a_hub_that_went_away_is_missed() -> None:
    """By a rank that keeps none."""
    with ExitStack() as held:
        server = LineServer(reserve(None), SECRET, Hub(2))
        seat = Seat(f"127.0.0.1:{server.port}", SECRET, 1)
        held.callback(seat.close)
        server.close()
        (gone,) = absent(seat, None, patience=Patience(grace_s=0.5)).items()
        assert gone[0] == 0
        assert "left without a word" in gone[1].why


class SpeaksLate(Hub):
    """A hub behind a network that is cut for a while."""

    def __init__(self, speaks: threading.Event) -> None:
        super().__init__(2)
        self._speaks = speaks

    def look(self) -> float:
        """Hold everything back until then."""
        return super().look() if self._speaks.is_set() else 0.05

    def arrived(self, peer: Peer) -> None:
        """Say nothing yet."""
        self._speaks.wait(30)
        super().arrived(peer)


def test_a_hub_that_speaks_again_is_not_missed() -> None:
    """The network was cut for a while: the run has failed, and rank 0 says so itself."""
    speak = threading.Event()
    patience = Patience(silence_s=2.0, grace_s=15.0)
    with ExitStack() as held:
        server = LineServer(reserve(None), SECRET, SpeaksLate(speak))
        held.callback(server.close)
        seat = Seat(f"127.0.0.1:{server.port}", SECRET, 1, patience=patience)
        held.callback(seat.close)
        while seat.verdict is Verdict.GO_ON:
            time.sleep(0.05)
        assert seat.hub_gone is not None
        threading.Timer(0.5, speak.set).start()
        assert absent(seat, None, patience=patience) == {}


def test_a_rank_that_falls_silent_just_before_is_missed() -> None:
    """All of the silence and all of the grace lie ahead."""
    patience = Patience(silence_s=2.0, grace_s=3.0)
    hub = Hub(2, patience=patience)
    with ExitStack() as held:
        server = LineServer(reserve(None), SECRET, hub)
        held.callback(server.close)
        address = f"127.0.0.1:{server.port}"
        seat = Seat(address, SECRET, 0)
        held.callback(seat.close)
        silent = connect(address, SECRET, "1", timeout_s=5)
        held.callback(silent.close)
        next(iter(silent))  # the hub knows it now
        seat.report(State.FAILED)
        assert absent(seat, hub, patience=patience).keys() == {1}


def test_where_spark_is_left_to_say_who_is_gone_nobody_is_missed() -> None:
    """And rank 0 keeps the hub a while for those that are about to end."""
    hub = Hub(2)
    with ExitStack() as held:
        server = LineServer(reserve(None), SECRET, hub)
        held.callback(server.close)
        address = f"127.0.0.1:{server.port}"
        seats = [Seat(address, SECRET, rank) for rank in range(2)]
        held.callback(seats[0].close)
        seats[1].report(State.FAILED)
        while seats[0].verdict is Verdict.GO_ON:
            time.sleep(0.01)
        seats[1].close()
        assert absent(seats[0], hub, patience=Patience(grace_s=None)) == {}


def test_a_missed_rank_is_put_in_order_by_the_clock_that_saw_it_last() -> None:
    """The hub's, where rank 0 misses it; else the clock of the host that misses rank 0."""
    gone = {1: Gone("left", 5.0)}
    (by_hub,) = missing(gone, ["chief:0", "worker:0"], ["h0", "h1"], by_hub=True)
    assert (by_hub.rank, by_hub.task, by_hub.host, by_hub.at) == (1, "worker:0", "h1", 5.0)
    assert by_hub.hub_at == 5.0
    (by_another,) = missing(gone, ["chief:0", "worker:0"], ["h0", "h1"], by_hub=False)
    assert by_another.hub_at is None


def test_a_hub_that_sends_all_away_misses_nobody() -> None:
    """The run was interrupted on the driver, where rank 0 is."""
    hub = Hub(2)
    with ExitStack() as held:
        server = LineServer(reserve(None), SECRET, hub)
        address = f"127.0.0.1:{server.port}"
        seats = [Seat(address, SECRET, rank) for rank in range(2)]
        for seat in seats:
            held.callback(seat.close)
        hub.close()
        server.close()
        began = time.monotonic()
        assert absent(seats[0], hub) == {}
        assert time.monotonic() - began < (USUAL.grace_s or 0.0) / 2
