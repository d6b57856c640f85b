"""Rank 0 on the driver: what its task would do, in a thread.

The theory. A rank needs a barrier to meet the others at, rows (the chief has none), and a process
below it; ``task.Rank`` does the rest and does not care where it runs. So the driver's rank is that
same code, and what is special about it is when it begins and ends. It begins when the first task
comes, as a task of the stage would: not while the stage waits for slots, which no deadline of a
rank counts. It ends with the hub, which the driver keeps on the port where the tasks come to:
closing the one server ends the rank in whatever state it is.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from spark_strategy.spark.absence import Absence
from spark_strategy.spark.capacity import driver_host
from spark_strategy.spark.control import Hub
from spark_strategy.spark.environment import import_path
from spark_strategy.spark.line_peer import Owner, Peer
from spark_strategy.spark.line_server import LineServer
from spark_strategy.spark.meeting import COMES, DriversTask, Meeting
from spark_strategy.spark.rendezvous import own_host, reserve
from spark_strategy.spark.tagged_job import inheriting
from spark_strategy.spark.task import Rank
from spark_strategy.topology import evaluators

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from spark_strategy.outcome import Outcome
    from spark_strategy.spark.task_order import TaskOrder

_log = logging.getLogger(__name__)

# From the end of the stage to the end of this rank, which has heard the same verdict.
_SAME_END_S: Final = 2.0
# A child that leaves, its tree, its output.
_END_S: Final = 30.0


class RankOnDriver:
    """Rank 0 of one attempt.

    Args:
        spark: a classic session.
        order: what every rank is told.
        cpus: what one task of the session has.

    Attributes:
        order: the same, with where the tasks find this rank.

    Raises:
        RendezvousError: the driver has no free port, or is not on the interface.
    """

    def __init__(self, spark: SparkSession, order: TaskOrder, *, cpus: int) -> None:
        ranks = len(order.topology.tasks)
        address = f"{driver_host(spark)}:0"
        host = own_host(address, order.orders.interface)
        self._meeting = Meeting(ranks - 1)
        patience = order.orders.patience
        self._hub = Hub(ranks, evaluators(order.topology), patience=patience)
        self._barrier = DriversTask(self._meeting, address, cpus)
        self._outcome: Outcome | None = None
        self._error: Exception | None = None
        self._lock = threading.Lock()
        self._closed = False
        # Not is_alive(): it says no as soon as a join() was interrupted (CPython 3.11).
        self._ended = threading.Event()
        self._ended_at = 0.0
        self._thread = threading.Thread(target=inheriting(spark, self._run), daemon=True)
        door = reserve(order.orders.port_range)
        self._server = LineServer(door, order.secret, self, lines=2 * ranks)
        self.order = replace(order, hub=f"{host}:{self._server.port}")

    @property
    def misses(self) -> Absence | None:
        """The ranks that the stage waits for in vain."""
        return self._error if isinstance(self._error, Absence) else None

    @property
    def ended_s(self) -> float:
        """Seconds since this rank ended; 0 before."""
        return time.monotonic() - self._ended_at if self._ended.is_set() else 0.0

    def completed(self, others: Sequence[Outcome]) -> tuple[Outcome, ...]:
        """All outcomes of a stage that has ended, in rank order: this rank's, and the others'.

        Args:
            others: what the stage's tasks have said.

        Raises:
            Exception: what went wrong here and is nobody's outcome.
        """
        self._join(_SAME_END_S)
        self.close()
        if self.misses is not None:
            ours = self.misses.outcomes
        elif self._error is not None:
            raise self._error
        else:
            ours = () if self._outcome is None else (self._outcome,)
        return one_of_each(ours, others)

    def arrived(self, peer: Peer) -> None:
        """A task of the stage: first it comes to the meeting, then its rank to the hub."""
        if peer.who.startswith(COMES):
            with self._lock:
                if not self._closed and self._thread.ident is None:
                    self._thread.start()
        self._told(peer).arrived(peer)

    def heard(self, peer: Peer, body: bytes) -> None:
        """What it says."""
        self._told(peer).heard(peer, body)

    def left(self, peer: Peer, why: str) -> None:
        """Its line has ended."""
        self._told(peer).left(peer, why)

    def look(self) -> float:
        """Only the hub goes by time."""
        return self._hub.look()

    def close(self) -> None:
        """End the rank, and all others with it. Safe to call again."""
        with self._lock:
            self._closed = True
        self._hang_up()
        self._join(_END_S)
        if self._thread.ident is not None and not self._ended.is_set():
            _log.warning("The chief had not ended after %g s and is left behind", _END_S)

    def _told(self, peer: Peer) -> Owner:
        return self._meeting if peer.who.startswith(COMES) else self._hub

    def _run(self) -> None:
        order = replace(
            self.order,
            # A chief computes nothing, and must not take the memory of the workers' GPUs.
            orders=replace(self.order.orders, gpus_per_worker=0),
            python_path=import_path(),
            own_log=False,
        )
        try:
            self._outcome = Rank(order, self._barrier, iter(()), self._hub).outcome()
        # Whatever it is, it is raised in the caller's thread.
        except Exception as error:  # noqa: BLE001
            self._error = error
        finally:
            self._ended_at = time.monotonic()
            self._ended.set()
            self._hang_up()

    def _hang_up(self) -> None:
        self._hub.close()
        self._meeting.close()
        self._server.close()

    def _join(self, timeout_s: float) -> None:
        if self._thread.ident is not None:
            self._ended.wait(timeout_s)


def one_of_each(ours: Sequence[Outcome], others: Sequence[Outcome]) -> tuple[Outcome, ...]:
    """One outcome for each rank, in rank order.

    Args:
        ours: of rank 0, and of those it misses.
        others: of the stage's tasks, and of those they miss. What a rank says of itself counts more
            than what it is missed for: both ends see a line break.
    """
    said = {one.rank: one for one in (*ours, *others)}
    said |= {one.rank: one for one in ours if one.rank == 0}
    return tuple(said[rank] for rank in sorted(said))
