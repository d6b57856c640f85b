"""Says which of a child's deadlines has passed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from spark_strategy.folder import ChildFolder
from spark_strategy.outcome import Reason
from spark_strategy.plan import Orders

# Pickling a value runs the value's own code; the largest that can travel, 2 GiB, takes seconds.
VALUE_S: Final = 600.0


class ChildDeadlines:
    """The deadlines of one rank's child.

    Args:
        folder: the child's.
        orders: the options.
        began: when the task began, in ``clock``'s seconds.
        evaluation_s: of an evaluator, seconds that one evaluation may take after training.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        folder: ChildFolder,
        orders: Orders,
        *,
        began: float,
        evaluation_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._orders = orders
        self._began = began
        self._evaluation_s = evaluation_s
        self._clock = clock
        self._process_began = began
        self._returned: float | None = None
        self._evaluations = -1
        self._evaluated = 0.0

    def start_again(self) -> None:
        """The process was lost and is started once more."""
        self._process_began, self._returned = self._clock(), None

    def passed(self, *, training_ended: bool) -> tuple[Reason, str] | None:
        """The reason and the message of a deadline that has passed, of a child not yet finished.

        Args:
            training_ended: whether all ranks but the evaluators have finished.
        """
        now, orders = self._clock(), self._orders
        if orders.timeout_s is not None and now - self._began > orders.timeout_s:
            return Reason.DEADLINE, f"still ran when timeout_s={orders.timeout_s:g} had passed"
        if not self._folder.started:
            if now - self._process_began > (limit := orders.start_timeout_s):
                what = f"had not reached the function when start_timeout_s={limit:g} had passed"
                return Reason.START_DEADLINE, what
        elif training_ended:
            return self._evaluation(now)
        elif self._folder.returned:
            return self._value(now)
        return None

    def _value(self, now: float) -> tuple[Reason, str] | None:
        self._returned = now if self._returned is None else self._returned
        if now - self._returned <= VALUE_S:
            return None
        what = f"returned a value that could not be pickled within {VALUE_S:g} s"
        return Reason.UNPICKLABLE, what

    def _evaluation(self, now: float) -> tuple[Reason, str] | None:
        evaluations = len(self._folder.read_evaluations())
        if evaluations != self._evaluations:
            self._evaluations, self._evaluated = evaluations, now
        if now - self._evaluated <= self._evaluation_s:
            return None
        what = (
            f"did not end an evaluation within the {self._evaluation_s:g} s that "
            "Evaluator(timeout_s=...) allows after training"
        )
        return Reason.DEADLINE, what
