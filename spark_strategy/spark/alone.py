"""A task that has no peers, in the words of ``BarrierTaskContext``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pyspark import BarrierTaskInfo, TaskContext

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
