"""Notices and names the ranks that a run waits for in vain.

The theory. A task that hangs as a whole, in Spark's own worker or on a dead network disk, keeps no
deadline of its own. Its peers do: each waits ``start_timeout_s`` for the others, and whoever sees
that one did not come ends the stage (``rendezvous.LateError``). What is left to the driver is to
say who that was, and the two cases that no rank can see: one that does not end though the others
have ended, and a stage none of whose ranks has come.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from spark_strategy.outcome import Failure, Outcome, Reason

# From the end of a task to the end of the next one. All ranks end together, in seconds; what takes
# longer is a large value on its way to the driver.
LAST_S: Final = 120.0
# After start_timeout_s, for the ranks' own deadlines.
_GRACE_S: Final = 60.0


class TaskEnds:
    """Watches the tasks of a stage end, by what Spark says of them.

    Args:
        tasks: how many there are.
    """

    def __init__(self, tasks: int) -> None:
        self._tasks = tasks
        self._ended = 0
        self._since = 0.0

    def stand_still(self, *, tasks: int, ended: int, now: float) -> bool:
        """Whether some have ended and no other has for too long.

        Args:
            tasks: tasks of the stage that Spark speaks of.
            ended: how many of them have ended.
            now: seconds that only grow.
        """
        if tasks != self._tasks or not 0 < ended < tasks:
            return False
        if ended != self._ended:
            self._ended, self._since = ended, now
        return now - self._since > LAST_S


def none_came(elapsed_s: float, start_timeout_s: float) -> bool:
    """Whether it is too late for ranks whose tasks have run for ``elapsed_s`` seconds to come."""
    return elapsed_s > start_timeout_s + _GRACE_S


def with_unheard(
    outcomes: Sequence[Outcome], tasks: Sequence[str], heard: Collection[str], limit_s: float
) -> tuple[Outcome, ...]:
    """The outcomes of a stage that a rank ended because others had not come; with those others.

    Args:
        outcomes: what the stage gave.
        tasks: every rank's name, in rank order.
        heard: the names of the ranks that have reached the driver.
        limit_s: how long they had to come.
    """
    waited = [
        one
        for one in outcomes
        if isinstance(one, Failure) and one.reason is Reason.RENDEZVOUS and one.task in heard
    ]
    if not waited or len(outcomes) == len(tasks):
        return tuple(outcomes)
    known = {one.rank for one in outcomes}
    missing = [
        Failure(
            rank,
            task,
            "an executor that did not say which",
            min(one.at for one in waited) - limit_s,
            Reason.START_DEADLINE,
            f"had not come to meet the others when start_timeout_s={limit_s:g} had passed: its "
            "task hangs before that, or cannot be reached",
        )
        for rank, task in enumerate(tasks)
        if rank not in known and task not in heard
    ]
    return (*outcomes, *missing)
