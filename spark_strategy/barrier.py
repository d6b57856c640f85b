"""``join_cluster``: TensorFlow's cluster inside a barrier stage of the user's own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from spark_strategy.cluster import Arrival, Fence
from spark_strategy.errors import PlanError
from spark_strategy.parameter_server import on_driver
from spark_strategy.spark import rendezvous
from spark_strategy.topology import MultiWorker, Topology

if TYPE_CHECKING:
    from pyspark import BarrierTaskContext

    from spark_strategy.worker.resolver import SparkClusterResolver


@contextmanager
def join_cluster(
    context: BarrierTaskContext,
    topology: Topology | None = None,
    *,
    port_range: tuple[int, int] | None = None,
    interface: str | None = None,
    timeout_s: float = 300.0,
) -> Iterator[SparkClusterResolver]:
    """Join the other tasks of this barrier stage in one TensorFlow cluster.

    Works inside ``rdd.barrier().mapPartitions`` and ``mapInArrow(..., barrier=True)``. All
    tasks of the stage must call it. TF_CONFIG and TF_GRPC_REUSE_PORT are set in this
    process's environment until the block ends. The block ends for all tasks together: leaving it
    early would look like a fault to peers whose collectives are still under way.

    TensorFlow then runs in Spark's own Python worker, where its distributed runtime can be
    configured once. Set ``spark.python.worker.reuse=false`` to join more than once per
    session, or use ``Launcher``, which has no such limit.

    Args:
        context: ``BarrierTaskContext.get()``.
        topology: roles of the tasks; ``MultiWorker`` over all of them by default.
        port_range: first and last port to listen on; None for any.
        interface: network interface name or subnet that the others reach this task by;
            Spark's own by default.
        timeout_s: seconds to wait for the other tasks.

    Yields:
        The resolver for this task.

    Raises:
        PlanError: the topology has another number of tasks than the stage, or one elsewhere.
        RendezvousError: no port or interface, or a task was missing or of another attempt.
    """
    infos, rank = context.getTaskInfos(), context.partitionId()
    topology = topology or MultiWorker(len(infos))
    if on_driver(topology):
        raise PlanError(
            f"join_cluster joins the tasks of a stage, and the driver is none of them: {topology}. "
            'Use chief="executor".'
        )
    if len(topology.tasks) != len(infos):
        raise PlanError(
            f"{topology} has {len(topology.tasks)} tasks, but this barrier stage has {len(infos)}."
        )
    fence = Fence(f"stage {context.stageId()}", context.attemptNumber())
    host = rendezvous.own_host(infos[rank].address, interface)
    with rendezvous.reserve(port_range) as reserved:
        address = f"{host}:{reserved.getsockname()[1]}"
        arrival = Arrival(rank, fence, address)
        cluster, _ = rendezvous.gather(
            context, topology, fence, arrival, seal=None, timeout_s=timeout_s
        )
        assert cluster is not None  # nobody refuses here
        task = topology.tasks[rank]
        with _environment(TF_CONFIG=cluster.tf_config(task), TF_GRPC_REUSE_PORT="true"):
            # Only now: importing TensorFlow must not hold up the other tasks.
            from spark_strategy.worker.resolver import SparkClusterResolver

            yield SparkClusterResolver(cluster, task)
            context.barrier()


@contextmanager
def _environment(**settings: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
