"""A task that has no peers: its barrier, and its seat, answered without a line to anybody."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from pyspark import BarrierTaskInfo, TaskContext

from spark_strategy.data.row_ledger import Arrived, Counts
from spark_strategy.spark.verdicts import State, Tally, Verdict

if TYPE_CHECKING:
    from pyspark.resource import ResourceInformation

_HOST: Final = "127.0.0.1"


class Alone:
    """What a rank asks of its barrier, answered by the only task of a plain Spark job."""

    def __init__(self) -> None:
        context = TaskContext.get()
        assert context is not None  # only called inside a task
        self._context = context

    @property
    def attempt(self) -> int:
        """How often Spark has started this task before."""
        return self._context.attemptNumber()

    def partitionId(self) -> int:  # noqa: N802 - Spark's name
        """The rank: 0."""
        return self._context.partitionId()

    def getTaskInfos(self) -> list[BarrierTaskInfo]:  # noqa: N802 - Spark's name
        """Itself; nobody else has to reach it."""
        return [BarrierTaskInfo(_HOST)]

    def allGather(self, message: str = "") -> list[str]:  # noqa: N802 - Spark's name
        """Its own message."""
        return [message]

    def resources(self) -> dict[str, ResourceInformation]:
        """What Spark assigned to the task."""
        return self._context.resources()

    def cpus(self) -> int:
        """The task's cpus."""
        return self._context.cpus()


class OwnSeat:
    """The seat of a rank without peers: what it says of itself decides at once.

    It answers as ``Seat`` does, without a hub, a port or a thread.
    """

    why: Final = ""
    pace_s: Final = 0.05
    hub_gone: Final = None
    training_ended: Final = False

    def __init__(self) -> None:
        self._tally = Tally(1)
        self._rows: dict[str, Arrived] = {}

    def report(self, state: State) -> None:
        """Take it in."""
        self._tally.say(0, state)

    @property
    def verdict(self) -> Verdict:
        """What follows from this rank's state."""
        return self._tally.verdict

    def report_rows(self, counts: Counts) -> None:
        """Take in how many rows have arrived."""
        self._rows = {
            name: Arrived(1, one.rows, {0: one.rows} if one.complete else {})
            for name, one in counts.items()
        }

    @property
    def rows(self) -> Mapping[str, Arrived]:
        """The rows of this rank, as it reported them; empty before it did."""
        return self._rows

    def close(self) -> None:
        """Nothing is open."""
