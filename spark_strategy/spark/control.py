"""Tells every rank at once when all have finished, or when one has failed.

The theory. Spark's own barrier answers in steps of a second (measured: 1.0 s for every rank
but the last to call ``allGather``), too slow to end a run with and too slow to stop the
peers of a failed rank. So rank 0's task keeps a hub for the length of an attempt: every
rank's task holds one authenticated line to it, reports its state, and hears one verdict.
A line that breaks or falls silent is a verdict too.

Where a run is fed by Spark, the same lines carry row counts: each rank says how many of its
rows have arrived, and is answered with what is known of everyone's (``data/steps.py`` needs it).
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from spark_strategy.data.steps import Shard
from spark_strategy.spark.wire import Line

SILENCE_S: Final = 20.0
ROWS: Final = b"rows "
LEFT: Final = "left without a word: its task or its host is gone"
SILENT: Final = "has been silent for {:g} s: its host is gone, or the network is cut"

# By name of the DataFrame.
Counts = Mapping[str, Shard]


class State(StrEnum):
    """What a rank says of itself."""

    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"


class Verdict(StrEnum):
    """What all ranks do next."""

    GO_ON = "go on"
    CLOSE = "close"
    RELEASE = "release"
    ABORT = "abort"


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


def decide(
    states: Mapping[int, State], ranks: int, evaluators: frozenset[int] = frozenset()
) -> Verdict:
    """What follows from the ranks' states; a rank not heard of yet is running.

    Evaluators are asked to come to their end (CLOSE) when all others have finished. How they end
    changes nothing for the others.
    """
    training = {rank: state for rank, state in states.items() if rank not in evaluators}
    if State.FAILED in training.values():
        return Verdict.ABORT
    if len(training) < ranks - len(evaluators) or set(training.values()) != {State.FINISHED}:
        return Verdict.GO_ON
    if any(states.get(rank, State.RUNNING) is State.RUNNING for rank in evaluators):
        return Verdict.CLOSE
    return Verdict.RELEASE


class Hub:
    """Rank 0's side: collects states, sends the verdict to every line.

    Args:
        ranks: how many there are.
        evaluators: which of them are.
        silence_s: seconds after which one that is not heard of counts as gone.
    """

    def __init__(
        self,
        ranks: int,
        evaluators: frozenset[int] = frozenset(),
        *,
        silence_s: float = SILENCE_S,
    ) -> None:
        self._ranks = ranks
        self._evaluators = evaluators
        self._silence_s = silence_s
        self._states: dict[int, State] = {}
        self._lines: dict[int, Line] = {}
        self._heard: dict[int, float] = {}
        self._ended: set[int] = set()
        self._broken: set[int] = set()
        self._rows: list[Any] = [{} for _ in range(ranks)]
        self._closed = False
        self._lock = threading.Lock()

    @property
    def all_ended(self) -> bool:
        """Whether rank 0 is the last of all that came, evaluators aside, or sends them away."""
        with self._lock:
            return self._closed or not self._others

    @property
    def gone(self) -> dict[int, Gone]:
        """The ranks that came, have not ended, and do not answer; evaluators aside."""
        with self._lock:
            others, silent = self._others, SILENT.format(self._silence_s)
            return {
                rank: Gone.since(heard, LEFT if rank in self._broken else silent)
                for rank, heard in self._heard.items()
                if rank in others and (rank in self._broken or self._is_silent(heard))
            }

    @property
    def _others(self) -> set[int]:
        return set(self._lines) - self._ended - self._evaluators - {0}

    def _is_silent(self, heard: float) -> bool:
        return time.monotonic() - heard > self._silence_s

    def close(self) -> None:
        """Miss nobody any more: the lines are about to be closed from here."""
        with self._lock:
            self._closed = True

    def serve(self, who: str, line: Line) -> None:
        """One rank's line, in a thread of its own, until it ends."""
        rank = int(who)
        with self._lock:
            self._lines[rank] = line
        for text in line:
            if text.startswith(ROWS):
                self._count(rank, json.loads(text.removeprefix(ROWS)))
            else:
                self._hear(rank, State(text.decode()))
        with self._lock:
            left_early = self._states.get(rank, State.RUNNING) is State.RUNNING
            (self._broken if left_early else self._ended).add(rank)
            if left_early and rank in self._evaluators:
                self._states[rank] = State.FAILED
        if left_early and rank not in self._evaluators:
            self._tell_all(f"rank {rank} {LEFT}")

    def _hear(self, rank: int, state: State) -> None:
        now = time.monotonic()
        with self._lock:
            for one in range(self._ranks):  # whoever never comes counts from the first word
                self._heard.setdefault(one, now)
            self._heard[rank] = now
            self._states[rank] = state
            silent = [one for one, heard in self._heard.items() if self._is_silent(heard)]
            for one in self._evaluators.intersection(silent):
                self._states[one] = State.FAILED
                silent.remove(one)
            verdict = decide(self._states, self._ranks, self._evaluators)
            own = self._lines[rank]
        if silent:
            self._tell_all(f"rank {silent[0]} {SILENT.format(self._silence_s)}")
        elif verdict in (Verdict.GO_ON, Verdict.CLOSE):
            send(own, verdict.encode())
        else:
            self._tell_all("", verdict)

    def _count(self, rank: int, rows: Any) -> None:
        with self._lock:
            self._rows[rank] = rows
            answer = json.dumps(self._rows).encode()
            own = self._lines[rank]
        send(own, ROWS + answer)

    def _tell_all(self, why: str, verdict: Verdict = Verdict.ABORT) -> None:
        with self._lock:
            lines = list(self._lines.values())
        for line in lines:
            send(line, f"{verdict}: {why}".encode())


def send(line: Line, text: bytes) -> None:
    """Send a message, unless the other end is gone."""
    with suppress(OSError):  # that rank's line ends, and whoever reads it sees it
        line.send(text)
