"""The body of one barrier task, or of the driver's own rank: rendezvous -> child -> outcome."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import pyarrow as pa
from pyspark import BarrierTaskContext, SparkFiles

from spark_strategy.child_order import ChildOrder
from spark_strategy.cluster import Arrival, Cluster
from spark_strategy.errors import ExecutorEnvironmentError, RendezvousError, SparkStrategyError
from spark_strategy.outcome import Failure, Outcome, Reason, reason_of
from spark_strategy.parameter_server import serves
from spark_strategy.seal import Seal
from spark_strategy.spark import gpus, rendezvous
from spark_strategy.spark.absence import Absence, absent, missing
from spark_strategy.spark.alone import Alone, OwnSeat
from spark_strategy.spark.child import (
    Child,
    child_settings,
    environment,
    new_folder,
    signals_wait,
)
from spark_strategy.spark.control import Hub
from spark_strategy.spark.environment import Versions, objection
from spark_strategy.spark.evaluated import evaluated
from spark_strategy.spark.feeder import Feeder, spool_path
from spark_strategy.spark.line_server import LineServer
from spark_strategy.spark.meeting import StagesTask
from spark_strategy.spark.output import DriverOutput, Relay
from spark_strategy.spark.rendezvous import Barrier
from spark_strategy.spark.reports import row_of
from spark_strategy.spark.seat import Seat
from spark_strategy.spark.supervisor import Seen, Supervisor
from spark_strategy.spark.task_order import TaskOrder
from spark_strategy.spark.wire import connect
from spark_strategy.topology import (
    EVALUATOR,
    Topology,
    WithEvaluator,
    evaluators,
    forms_cluster,
)

# For the hub to say what its clock says; without it, this host's clock must do.
_BY_HUB_S: Final = 1.0
_DRAIN_S: Final = 5.0
_FEED_STOP_S: Final = 5.0


def run(order: TaskOrder, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """One rank: its outcome as one row."""
    seal = Seal(order.secret, order.fence)
    context: Barrier
    if forms_cluster(order.topology):
        context = BarrierTaskContext.get()
        if order.hub:
            connect_s = order.orders.patience.connect_s
            context = StagesTask(
                context, order.hub, order.secret, fence=order.fence, connect_s=connect_s
            )
    else:
        context = alone = Alone()
        # Spark itself starts such a task again when it loses the executor.
        order = replace(order, fence=replace(order.fence, attempt=alone.attempt))
    yield row_of(seal, Rank(order, context, batches).outcome())


class Rank:
    """One rank of one attempt.

    Args:
        order: what the driver says.
        barrier: the other ranks.
        batches: the rows that Spark sends to this one.
        hub: where somebody else keeps it for rank 0.
    """

    def __init__(
        self,
        order: TaskOrder,
        barrier: Barrier,
        batches: Iterator[pa.RecordBatch],
        hub: Hub | None = None,
    ) -> None:
        self._order = order
        self._hub = hub
        self._batches = batches
        self._barrier = barrier
        self._began, self._began_at = time.monotonic(), time.time()
        self._rank = barrier.partitionId()
        self._task = str(order.topology.tasks[self._rank])
        self._host = socket.gethostname()
        self._seal = Seal(order.secret, order.fence)
        self._evaluates = self._rank in evaluators(order.topology)

    @property
    def _topology(self) -> Topology:
        """The topology as this rank's child knows it."""
        topology = self._order.topology
        if isinstance(topology, WithEvaluator) and not self._evaluates:
            return topology.training
        return topology

    def outcome(self) -> Outcome:
        """Take part, and say how it ended.

        Raises:
            Absence: it failed, and so Spark would wait for a rank that cannot be reached.
        """
        with ExitStack() as held:
            try:
                with signals_wait():  # until a guard cleans up after whatever ends this process
                    arrival, child, spool = self._station(held)
                feeder = self._feeder(held, spool)
            except (SparkStrategyError, OSError) as error:
                return self._refuse(error)
            return self._take_part(held, arrival, child, feeder)

    def _refuse(self, error: Exception) -> Failure:
        """Tell the others that this rank cannot take part, instead of letting them wait."""
        with suppress(RendezvousError):
            self._gather(Arrival(self._rank, self._order.fence, "", refusal=str(error)))
        known = isinstance(error, SparkStrategyError)
        return self._failure(_reason(error), str(error) if known else f"could not start: {error}")

    def _station(self, held: ExitStack) -> tuple[Arrival, Child, Path]:
        """Reserve what is needed and start the child, which imports meanwhile."""
        order = self._order
        if problem := objection(order.driver, Versions.here()):
            raise ExecutorEnvironmentError(problem)
        resources = self._barrier.resources()
        addresses = {name: info.addresses for name, info in resources.items()}
        devices = gpus.assigned(addresses, order.orders.gpus_per_worker)
        arrival = self._arrival(held)
        child, spool = self._start_child(held, devices)
        return arrival, child, spool

    def _arrival(self, held: ExitStack) -> Arrival:
        """Where the other ranks reach this one, on ports that are held; nowhere without any."""
        orders, order = self._order.orders, self._order
        spark_address = self._barrier.getTaskInfos()[self._rank].address
        if not forms_cluster(order.topology):
            return Arrival(self._rank, order.fence, spark_address)
        host = rendezvous.own_host(spark_address, orders.interface)
        own = held.enter_context(rendezvous.reserve(orders.port_range))
        control = order.hub if self._rank == 0 else ""
        if self._rank == 0 and not control:
            ranks, patience = len(order.topology.tasks), orders.patience
            self._hub = Hub(ranks, evaluators(order.topology), patience=patience)
            door = rendezvous.reserve(orders.port_range)
            server = LineServer(door, order.secret, self._hub, lines=ranks)
            held.callback(server.close)
            control = f"{host}:{server.port}"
        address = f"{host}:{own.getsockname()[1]}"
        return Arrival(self._rank, order.fence, address, control)

    def _start_child(self, held: ExitStack, devices: tuple[str, ...] | None) -> tuple[Child, Path]:
        """The child, and where its rows go."""
        order = self._order
        folder = new_folder(SparkFiles.getRootDirectory())
        # Not below it: Unix sockets in TMPDIR (multiprocessing) take 107 bytes of path at most.
        temporary = tempfile.mkdtemp(prefix="spark_strategy-")
        spool = spool_path(order.feed, folder, self._host)
        others = [temporary, *([] if spool.is_relative_to(folder.path) else [str(spool)])]
        for place in (str(folder.path), *others):
            held.callback(shutil.rmtree, place, ignore_errors=True)
        folder.prepare(
            ChildOrder(
                topology=self._topology,
                rank=self._rank,
                fence=order.fence,
                communication=order.orders.communication,
                scope=order.orders.scope,
                gpus=None if devices is None else len(devices),
                deadline_s=order.orders.start_timeout_s,
                heartbeat_s=order.orders.patience.heartbeat_s,
                feed=order.feed,
                spool=str(spool),
                files=order.files,
                spark_files=SparkFiles.getRootDirectory(),
            ),
            order.evaluator if self._evaluates else order.function,
        )
        settings = {"TMPDIR": temporary} | child_settings(order.orders, devices)
        own_path = [folder for folder in sys.path if folder]
        env = environment(
            os.environ,
            python_path=list(dict.fromkeys([*own_path, *order.python_path])),
            cpus=self._barrier.cpus(),
            settings=settings,
        )
        child = Child(folder, others, env)
        held.callback(child.stop)
        return child, spool

    def _feeder(self, held: ExitStack, spool: Path) -> Feeder | None:
        """Begins to spool at once, while TensorFlow is imported and the ranks meet."""
        if self._order.feed is None:
            for _ in self._batches:
                pass
            return None
        feeder = Feeder(self._order.feed, self._batches, spool)
        held.callback(feeder.stop, _FEED_STOP_S)
        feeder.start()
        return feeder

    def _take_part(
        self, held: ExitStack, arrival: Arrival, child: Child, feeder: Feeder | None
    ) -> Outcome:
        relay = Relay(
            child.output,
            prefix=f"{self._task} |",
            driver=self._driver_output(held),
            log=2 if self._order.own_log else None,
        )
        try:
            cluster, arrivals = self._meet(arrival)
            if cluster is None:
                return self._failure(Reason.STOPPED, "was stopped because a rank refused")
            rendezvous_s = time.monotonic() - self._began
            patience, tasks = self._order.orders.patience, self._order.topology.tasks
            seat: Seat | OwnSeat = OwnSeat()
            if forms_cluster(self._order.topology):
                seat = Seat(arrivals[0].control, self._order.secret, self._rank, patience=patience)
        except RendezvousError as error:
            return self._failure(Reason.RENDEZVOUS, str(error))
        held.callback(seat.close)
        child.folder.announce(cluster.without(EVALUATOR))
        seen = Seen(
            rank=self._rank,
            task=self._task,
            host=self._host,
            schedule_s=max(0.0, self._began_at - self._order.submitted),
            rendezvous_s=rendezvous_s,
            began=self._began,
            serves=serves(self._order.topology, tasks[self._rank]),
            restarts=child.folder.read_restarts(),
            evaluation_s=self._order.evaluation_s,
        )
        orders = self._order.orders
        outcome = Supervisor(child, seat, relay, seen=seen, orders=orders, feeder=feeder).outcome()
        if self._evaluates:
            return evaluated(outcome, child.folder)
        if not isinstance(outcome, Failure) or isinstance(seat, OwnSeat):
            return outcome
        if (ahead_s := seat.ahead_s(_BY_HUB_S)) is not None:
            outcome = replace(outcome, hub_at=outcome.at + ahead_s)
        if gone := absent(seat, self._hub, patience=patience):
            hosts = [one.address.rpartition(":")[0] for one in arrivals]
            missed = missing(gone, [*map(str, tasks)], hosts, by_hub=self._hub is not None)
            raise Absence([*missed, outcome], self._seal)
        return outcome

    def _meet(self, arrival: Arrival) -> tuple[Cluster | None, tuple[Arrival, ...]]:
        try:
            return self._gather(arrival)
        except rendezvous.LateError as error:  # a row would wait for the task that does not come
            raise Absence([self._failure(Reason.RENDEZVOUS, str(error))], self._seal) from error

    def _gather(self, arrival: Arrival) -> tuple[Cluster | None, tuple[Arrival, ...]]:
        order = self._order
        return rendezvous.gather(
            self._barrier,
            order.topology,
            order.fence,
            arrival,
            seal=self._seal,
            timeout_s=order.orders.start_timeout_s,
        )

    def _driver_output(self, held: ExitStack) -> DriverOutput:
        """The live line to the driver; without one, output goes to the executor's log only."""
        order, who = self._order, f"{self._task}@{self._host}"
        seconds = order.orders.patience.connect_s
        line = partial(connect, order.output_address, order.secret, who, timeout_s=seconds)
        output = DriverOutput(line if order.output_address else None, has_log=order.own_log)
        held.callback(output.close, timeout_s=_DRAIN_S)
        return output

    def _failure(self, reason: Reason, message: str) -> Failure:
        return Failure(self._rank, self._task, self._host, time.time(), reason, message)


def _reason(error: Exception) -> Reason:
    """An error of the system, such as a full disk, is the environment's."""
    return reason_of(error) if isinstance(error, SparkStrategyError) else Reason.ENVIRONMENT
