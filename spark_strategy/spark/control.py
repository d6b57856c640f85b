"""Tells every rank at once when all have finished, or when one has failed.

The theory. Spark's own barrier answers in steps of a second (measured: 1.0 s for every rank
but the last to call ``allGather``), too slow to end a run with and too slow to stop the
peers of a failed rank. So rank 0's task keeps a hub for the length of an attempt: every
rank's task holds one authenticated line to it, reports its state, and hears one verdict.
A line that breaks or falls silent is a verdict too.

What the hub does for one rank does not grow with the number of ranks (decision 6). A rank speaks
when its state or its rows have changed, and otherwise now and then as a sign of life. The hub
answers nobody: it tells all ranks what has changed, once, at a pace that leaves it idle nine tenths
of the time. One that does not read is told less often, and is lost when it does not read at all.

When a rank fails, it says what its host's clock shows, and the hub tells it how far its own clock
is ahead. So the failures of all hosts can be put in the order in which they happened by one clock,
the hub's.

Where a run is fed by Spark, the same lines carry row counts (``data/row_ledger.py``).
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from spark_strategy.data.row_ledger import RowLedger
from spark_strategy.patience import USUAL, Patience
from spark_strategy.spark.line_peer import Nonsense, Peer
from spark_strategy.spark.line_protocol import Message
from spark_strategy.spark.verdicts import FINAL, State, Tally, Verdict

LEFT: Final = "left without a word: its task or its host is gone"
SILENT: Final = "has been silent for {:g} s: its host is gone, or the network is cut"
# Row counts go out and come in at most so often...
_PACE_S: Final = 0.05
# ...and with many ranks more rarely: the hub hears and tells about so many times a second.
_MESSAGES_PER_S: Final = 4000
# A round of telling everybody is followed by so many times its own length without one.
_REST: Final = 9
_BEAT_S: Final = 1.0
_BEATS_PER_S: Final = 1000
_LOOK_S: Final = 0.5
_BEAT: Final = Message(b"")


@dataclass(frozen=True, slots=True)
class Gone:
    """A rank that does not answer.

    Attributes:
        why: what can be said of it.
        at: when it was last heard, in seconds since the epoch.
    """

    why: str
    at: float

    @classmethod
    def since(cls, heard: float, why: str) -> Gone:
        """The one last heard at ``heard`` (monotonic seconds)."""
        return cls(why, time.time() - time.monotonic() + heard)


class Hub:
    """Rank 0's side: collects states, sends the verdict to every line. Owns a ``LineServer``.

    Args:
        ranks: how many there are.
        evaluators: which of them are.
        patience: with how long a rank may be silent.
    """

    def __init__(
        self,
        ranks: int,
        evaluators: frozenset[int] = frozenset(),
        *,
        patience: Patience = USUAL,
    ) -> None:
        self._ranks = ranks
        self._evaluators = evaluators
        self._silence_s = math.inf if patience.silence_s is None else patience.silence_s
        self._pace_s = max(_PACE_S, ranks / _MESSAGES_PER_S)
        self._beat_s = min(max(_BEAT_S, ranks / _BEATS_PER_S), self._silence_s / 5)
        self._tally = Tally(ranks, evaluators)
        self._verdict, self._why = Verdict.GO_ON, ""
        self._peers: dict[int, Peer] = {}
        self._heard: dict[int, float] = {}
        # Ranks that came, have not ended, and are missed if they do not; evaluators aside.
        self._missable: set[int] = set()
        self._broken: dict[int, str] = {}
        self._rows = RowLedger(ranks, evaluators)
        self._rows_changed = False
        self._told: dict[int, tuple[Any, ...]] = {}
        self._behind: set[int] = set()
        self._next_news = self._next_beat = self._next_look = 0.0
        self._looked = time.monotonic()
        self._closed = False
        self._lock = threading.Lock()

    @property
    def all_ended(self) -> bool:
        """Whether every other rank that connected has ended, evaluators aside, or it is closed."""
        with self._lock:
            return self._closed or not self._missable

    @property
    def gone(self) -> dict[int, Gone]:
        """The ranks that came, have not ended, and do not answer; evaluators aside."""
        now = time.monotonic()
        with self._lock:
            whys = {rank: self._problem(rank, now) for rank in sorted(self._missable)}
            return {rank: Gone.since(self._heard[rank], why) for rank, why in whys.items() if why}

    def close(self) -> None:
        """Stop reporting ranks as gone: this side is about to close the lines."""
        with self._lock:
            self._closed = True

    def arrived(self, peer: Peer) -> None:
        """A rank's line.

        Raises:
            Nonsense: there is no such rank, or it has a line already.
        """
        rank = int(peer.who) if peer.who.isdecimal() else -1
        with self._lock:
            if not 0 <= rank < self._ranks or rank in self._peers:
                raise Nonsense(f"{peer.who!r} is no rank of this run that is still to come")
            now = time.monotonic()
            if not self._peers:  # whoever never comes counts from here
                self._heard = dict.fromkeys(range(self._ranks), now)
            self._heard[rank] = now
            self._peers[rank] = peer
            if rank not in self._evaluators and rank != 0:
                self._missable.add(rank)
            self._behind.add(rank)
            known = {"ranks": self._ranks, "pace_s": self._pace_s, "beat_s": self._beat_s}
            peer.send(_message(known))
            if self._verdict is not Verdict.GO_ON:
                peer.send(_message({"verdict": self._verdict, "why": self._why}))

    def heard(self, peer: Peer, body: bytes) -> None:
        """What a rank says; nothing, as a sign of life.

        Raises:
            Nonsense: it is not what ranks say.
        """
        rank = int(peer.who)
        with self._lock:
            self._heard[rank] = time.monotonic()
            if not body:
                return
            try:
                fields = json.loads(body)
                if "rows" in fields:
                    self._rows.record(rank, fields["rows"])
                    self._rows_changed = True
                else:
                    self._hear(rank, State(fields["state"]), fields["clock"])
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                raise Nonsense(f"rank {rank} said {body[:100]!r}: {error}") from error

    def left(self, peer: Peer, why: str) -> None:
        """A rank's line has ended."""
        rank = int(peer.who)
        with self._lock:
            state = self._tally.state(rank)
            if rank in self._evaluators:
                self._tally.say(rank, State.FAILED if state is State.RUNNING else state)
                self._judge()
            elif state is State.FAILED or (self._verdict in FINAL and state is State.FINISHED):
                self._missable.discard(rank)
            else:
                self._broken[rank] = f"{LEFT} ({why})" if why else LEFT
                self._abort(f"rank {rank} {self._broken[rank]}")

    def look(self) -> float:
        """Send what has changed, and look for ranks that are silent."""
        now = time.monotonic()
        due = min(self._next_look, self._next_news) if self._rows_changed else self._next_look
        if now < due:
            return due - now
        with self._lock:
            if now >= self._next_news and (self._rows_changed or self._behind):
                self._send_news(now)
            if now >= self._next_beat:
                self._next_beat = now + self._beat_s
                for peer in self._reading():
                    peer.send(_BEAT)
            self._look_for_silence(now)
            self._next_look = now + min(_LOOK_S, self._beat_s)
        return min(self._next_look, self._next_news) - now if self._rows_changed else _LOOK_S

    def _hear(self, rank: int, state: State, clock: float) -> None:
        if state is State.FAILED:
            self._peers[rank].send(_message({"ahead_s": time.time() - clock}))
        self._tally.say(rank, state)
        self._judge()

    def _judge(self) -> None:
        verdict = self._tally.verdict
        if verdict is Verdict.ABORT:
            self._abort("")
        elif verdict is not Verdict.GO_ON:
            self._pronounce(verdict, "")

    def _abort(self, why: str) -> None:
        self._pronounce(Verdict.ABORT, why)

    def _pronounce(self, verdict: Verdict, why: str) -> None:
        """Tell all ranks, unless they have been told to end already."""
        if self._closed or verdict is self._verdict or self._verdict in FINAL:
            return
        self._verdict, self._why = verdict, why
        message = _message({"verdict": verdict, "why": why})
        for peer in self._peers.values():
            peer.send(message)

    def _send_news(self, now: float) -> None:
        position = self._rows.position
        messages: dict[int, Message] = {}
        if self._rows_changed:
            self._behind = set(self._peers)
        self._rows_changed = False
        for rank in [*self._behind]:
            peer, told = self._peers[rank], self._told.get(rank, (0, ()))
            if peer.stuck_since is not None and peer.is_open:
                continue
            self._behind.discard(rank)
            if told != position:
                since = told[0]
                message = messages.get(since) or Message(self._rows.news(since))
                messages[since] = message
                peer.send(message)
                self._told[rank] = position
        self._next_news = now + max(self._pace_s, _REST * (time.monotonic() - now))

    def _reading(self) -> Iterable[Peer]:
        return [peer for peer in self._peers.values() if peer.stuck_since is None]

    def _look_for_silence(self, now: float) -> None:
        # Where this process itself stood still, what came meanwhile has not been read yet.
        stood_still_s = now - self._looked - 2 * _LOOK_S
        self._looked = now
        if stood_still_s > 0:
            self._heard = {rank: heard + stood_still_s for rank, heard in self._heard.items()}
        for rank in self._heard:
            has_ended = rank in self._evaluators and self._tally.state(rank) is not State.RUNNING
            if has_ended or rank in self._broken:
                continue
            if problem := self._problem(rank, now):
                if rank in self._evaluators:
                    self._tally.say(rank, State.FAILED)
                    self._judge()
                else:
                    self._abort(f"rank {rank} {problem}")

    def _problem(self, rank: int, now: float) -> str:
        """Why the rank counts as gone; empty if it does not."""
        if rank in self._broken:
            return self._broken[rank]
        peer = self._peers.get(rank)
        stuck_s = 0.0 if peer is None or peer.stuck_since is None else now - peer.stuck_since
        is_silent = max(stuck_s, now - self._heard[rank]) > self._silence_s
        return SILENT.format(self._silence_s) if is_silent else ""


def _message(fields: dict[str, Any]) -> Message:
    return Message(json.dumps(fields).encode())
