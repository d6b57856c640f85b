"""Ranks that a failed rank cannot hear any more, and how the driver learns of them in time.

The theory. A rank that has failed returns its outcome as a row, and the driver gets the rows when
all tasks have ended. The task of a host that is gone never ends, and Spark misses an executor only
after a minute or two (``spark.worker.timeout``, ``spark.network.timeout``). So a rank that has
failed looks whether its peers come to their end as well. If one does not, and Spark does not say
why within ``Patience.grace_s``, the rank raises :class:`Absence` out of its task, which ends the
stage; what is known travels in the exception's text
(``reports.py``).

As long as the hub lives, rank 0 knows of everybody's end; without the hub, all others know only
that rank 0 is gone.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Final

from spark_strategy.outcome import Failure, Outcome, Reason
from spark_strategy.patience import USUAL, Patience
from spark_strategy.seal import Seal
from spark_strategy.spark.control import Gone, Hub
from spark_strategy.spark.reports import absence_text
from spark_strategy.spark.seat import Seat
from spark_strategy.spark.verdicts import Verdict

_POLL_S: Final = 0.05


class Absence(Exception):  # noqa: N818 - it carries errors, and is none of its own
    """Some ranks do not answer.

    Args:
        outcomes: of the absent ranks, and last of the rank that misses them.
        seal: the attempt's.
    """

    def __init__(self, outcomes: Sequence[Outcome], seal: Seal) -> None:
        self.outcomes = tuple(outcomes)
        super().__init__(absence_text(seal, self.outcomes))


def absent(
    seat: Seat,
    hub: Hub | None,
    *,
    patience: Patience = USUAL,
) -> dict[int, Gone]:
    """The ranks that do not end, of a run in which this rank has failed.

    Returns soon where all end; otherwise ``grace_s`` after it is clear that one does not.

    Args:
        seat: this rank's.
        hub: where it is kept by this process.
        patience: what the seat and the hub were given; its grace is for Spark to say more, and
            None leaves it to Spark alone.
    """
    grace_s = patience.grace_s
    # The silence, the grace after it, and one more that no slow machine uses up: the look that
    # finds the grace over must still be taken.
    deadline = time.monotonic() + patience.until_missed_s
    since: float | None = None
    while (now := time.monotonic()) < deadline and not _all_end(seat, hub):
        gone = _gone(seat, hub)
        since = (since or now) if gone else None
        if since is not None and grace_s is not None and now - since > grace_s:
            return gone
        time.sleep(_POLL_S)
    return {}


def missing(
    gone: Mapping[int, Gone], tasks: Sequence[str], hosts: Sequence[str], *, by_hub: bool
) -> list[Failure]:
    """What the driver is told of the ranks that are missed.

    Args:
        gone: what is known of each.
        tasks: every rank's name.
        hosts: where every rank came from.
        by_hub: whether the clock that saw them last is the hub's.
    """
    return [
        Failure(
            rank,
            tasks[rank],
            hosts[rank],
            one.at,
            Reason.LOST,
            one.why,
            hub_at=one.at if by_hub else None,
        )
        for rank, one in gone.items()
    ]


def _all_end(seat: Seat, hub: Hub | None) -> bool:
    if hub is not None:
        return hub.all_ended
    # The hub has spoken, and so it sees to the rest.
    return seat.verdict is not Verdict.GO_ON and seat.hub_gone is None


def _gone(seat: Seat, hub: Hub | None) -> dict[int, Gone]:
    if hub is not None:
        return hub.gone
    gone = seat.hub_gone  # read once: it is None again when the hub speaks again
    return {} if gone is None else {0: gone}
