"""How a rank on the driver and the tasks of a stage find each other: both ends of it.

The theory. Spark's barrier joins the tasks of a stage, and the driver is none of them. So the
driver listens before the stage is submitted, and its address travels in the order. Each task
connects and says what it brings, meets the other tasks at Spark's barrier, and is then told over
its line what the driver's rank brings. A task that cannot reach the driver says so at the barrier:
nobody waits for it. Whoever still waits when the driver hangs up is told that it did.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pyspark import BarrierTaskInfo

from spark_strategy.cluster import Fence
from spark_strategy.errors import RendezvousError
from spark_strategy.patience import USUAL
from spark_strategy.seal import Seal
from spark_strategy.spark.line_peer import Nonsense, Peer
from spark_strategy.spark.line_protocol import Message
from spark_strategy.spark.rendezvous import arrival_of, arrival_text
from spark_strategy.spark.wire import connect

if TYPE_CHECKING:
    from pyspark.resource import ResourceInformation

    from spark_strategy.spark.rendezvous import Barrier

# What a task introduces itself by here; at the hub, which has the same address, by its rank alone.
COMES: Final = "comes "
_LOOK_S: Final = 1.0


class Meeting:
    """The driver's end; told what happens by a ``LineServer``.

    Args:
        tasks: how many are expected.
    """

    def __init__(self, tasks: int) -> None:
        self._tasks = tasks
        self._messages: dict[int, str] = {}
        self._peers: dict[int, Peer] = {}
        self._own: Message | None = None
        self._closed = False
        self._changed = threading.Condition()

    def arrived(self, peer: Peer) -> None:
        """A task's line.

        Raises:
            Nonsense: there is no such task, or it has a line already.
        """
        rank = self._rank(peer)
        with self._changed:
            if self._closed or not 1 <= rank <= self._tasks or rank in self._peers:
                raise Nonsense(f"{peer.who!r} is no task of this run that is still to come")
            self._peers[rank] = peer

    def heard(self, peer: Peer, body: bytes) -> None:
        """What a task brings.

        Raises:
            Nonsense: it is not text, or the task's second message.
        """
        rank = self._rank(peer)
        with self._changed:
            try:
                text = body.decode()
            except UnicodeDecodeError as error:
                raise Nonsense(f"task {rank} brings no text: {error}") from error
            if rank in self._messages:
                raise Nonsense(f"task {rank} has been heard already")
            self._messages[rank] = text
            self._changed.notify_all()
            if self._own is not None:
                peer.send(self._own)

    def left(self, peer: Peer, why: str) -> None:
        """A task that has met the others, or is gone; Spark ends the others then."""

    def look(self) -> float:
        """Nothing goes by time."""
        return _LOOK_S

    def gather(self, message: str) -> list[str]:
        """Bring ``message``, and learn every task's, in rank order after it.

        Raises:
            RendezvousError: the meeting was closed before all had come.
        """
        with self._changed:
            self._own = Message(message.encode())
            for rank in self._messages:
                self._peers[rank].send_soon(self._own)
            self._changed.wait_for(lambda: self._closed or len(self._messages) == self._tasks)
            if len(self._messages) < self._tasks:
                raise RendezvousError(
                    f"only {len(self._messages)} of {self._tasks} tasks had reached the driver "
                    "when the stage ended."
                )
            return [message, *(text for _, text in sorted(self._messages.items()))]

    def close(self) -> None:
        """Let nobody wait any longer, and hang up."""
        with self._changed:
            self._closed = True
            for peer in self._peers.values():
                peer.close_soon()
            self._changed.notify_all()

    def _rank(self, peer: Peer) -> int:
        number = peer.who.removeprefix(COMES)
        return int(number) if number.isdecimal() else -1


class DriversTask:
    """Rank 0 on the driver, in the words of ``BarrierTaskContext``.

    Args:
        meeting: where the tasks come to.
        address: ``host:port`` of the driver; the port is not looked at.
        cpus: what one task of the session has.
    """

    def __init__(self, meeting: Meeting, address: str, cpus: int) -> None:
        self._meeting = meeting
        self._address = address
        self._cpus = cpus

    def partitionId(self) -> int:  # noqa: N802 - Spark's name
        """The rank: 0."""
        return 0

    def getTaskInfos(self) -> list[BarrierTaskInfo]:  # noqa: N802 - Spark's name
        """Itself."""
        return [BarrierTaskInfo(self._address)]

    def allGather(self, message: str = "") -> list[str]:  # noqa: N802 - Spark's name
        """Every rank's message, in rank order."""
        return self._meeting.gather(message)

    def resources(self) -> dict[str, ResourceInformation]:
        """Nothing: Spark assigns resources to tasks."""
        return {}

    def cpus(self) -> int:
        """As a task."""
        return self._cpus


class StagesTask:
    """A task of the stage, in the words of ``BarrierTaskContext``, with the driver as rank 0.

    Args:
        context: Spark's own.
        address: ``host:port`` where the driver listens.
        secret: the run's secret.
        fence: the run and attempt.
        connect_s: seconds in which the driver must be reached.
    """

    def __init__(
        self,
        context: Barrier,
        address: str,
        secret: bytes,
        *,
        fence: Fence,
        connect_s: float = USUAL.connect_s,
    ) -> None:
        self._seal = Seal(secret, fence)
        self._context = context
        self._connect_s = connect_s
        self._address = address
        self._secret = secret

    def partitionId(self) -> int:  # noqa: N802 - Spark's name
        """The rank."""
        return self._context.partitionId() + 1

    def getTaskInfos(self) -> list[BarrierTaskInfo]:  # noqa: N802 - Spark's name
        """Every rank's, the driver's first."""
        return [BarrierTaskInfo(self._address), *self._context.getTaskInfos()]

    def allGather(self, message: str = "") -> list[str]:  # noqa: N802 - Spark's name
        """Every rank's message, in rank order.

        Raises:
            RendezvousError: the driver cannot be reached, or has hung up.
        """
        who = f"{COMES}{self.partitionId()}"
        try:
            line = connect(self._address, self._secret, who, timeout_s=self._connect_s)
        except RendezvousError as error:
            arrival = arrival_of(self._seal, self.partitionId(), message)
            refusal = replace(arrival, refusal=str(error))
            self._context.allGather(arrival_text(self._seal, refusal))
            raise RendezvousError(
                f'{error} With chief="driver" every executor must reach the driver, by what '
                "spark.driver.host says."
            ) from error
        with suppress(OSError):  # read as the end of the line below
            line.send(message.encode())
        try:
            messages = self._context.allGather(message)
            drivers = next(iter(line), None)
        finally:
            line.close()
        if drivers is None:
            raise RendezvousError("the driver hung up before all ranks had met")
        return [drivers.decode(), *messages]

    def resources(self) -> dict[str, ResourceInformation]:
        """What Spark assigned to the task."""
        return self._context.resources()

    def cpus(self) -> int:
        """The task's cpus."""
        return self._context.cpus()
