"""What ranks say of themselves, and what all of them do next."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


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


class Tally:
    """What follows from the ranks' states; a rank not heard of yet is running.

    Evaluators are asked to come to their end (CLOSE) when all others have finished. How they end
    changes nothing for the others.

    Args:
        ranks: how many there are.
        evaluators: which of them evaluate.
    """

    def __init__(self, ranks: int, evaluators: frozenset[int] = frozenset()) -> None:
        self._states: dict[int, State] = {}
        self._evaluators = evaluators
        self._training = ranks - len(evaluators)
        self._evaluating = len(evaluators)
        self._finished = 0
        self._has_failed = False

    def state(self, rank: int) -> State:
        """What the rank said last."""
        return self._states.get(rank, State.RUNNING)

    def say(self, rank: int, state: State) -> None:
        """Take in what a rank says. One that has failed stays so."""
        before = self.state(rank)
        if before is State.FAILED or before is state:
            return
        self._states[rank] = state
        if rank in self._evaluators:
            self._evaluating += (state is State.RUNNING) - (before is State.RUNNING)
            return
        self._finished += (state is State.FINISHED) - (before is State.FINISHED)
        self._has_failed |= state is State.FAILED

    @property
    def verdict(self) -> Verdict:
        """What all ranks do next."""
        if self._has_failed:
            return Verdict.ABORT
        if self._finished < self._training:
            return Verdict.GO_ON
        return Verdict.CLOSE if self._evaluating else Verdict.RELEASE


FINAL: Final = frozenset({Verdict.RELEASE, Verdict.ABORT})
"""Verdicts that nothing changes any more."""
