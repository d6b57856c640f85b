"""A topology and its options -> the plan for a session, and the resource profile of its stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spark_strategy.errors import CapacityError
from spark_strategy.parameter_server import placed
from spark_strategy.plan import Capacity, LaunchPlan, Orders
from spark_strategy.spark.capacity import file_root, is_local_master, read
from spark_strategy.spark.executors import counted
from spark_strategy.topology import Topology, forms_cluster

if TYPE_CHECKING:
    from pyspark.resource import ResourceProfile
    from pyspark.sql import SparkSession


def planned(
    spark: SparkSession, topology: Topology, orders: Orders, resources: ResourceProfile | None
) -> tuple[LaunchPlan, ResourceProfile | None]:
    """What is launched, and the resource profile of its stage; None for the session's own.

    Waits for executors that the session asked for and that have not registered yet.

    Args:
        spark: the session.
        topology: who takes part, an evaluator with it.
        orders: options.
        resources: the caller's own profile.

    Raises:
        PlanError: the session cannot run this.
        CapacityError: it has no room for it.
    """
    found = read(spark)
    profile = profile_for(found, orders.gpus_per_worker, resources)
    if not found.connect:
        tasks = len(placed(topology)) if forms_cluster(topology) else 0
        context, limit = spark.sparkContext, orders.start_timeout_s
        found = counted(context, found, profile, tasks=tasks, timeout_s=limit)
    return LaunchPlan(topology, orders, found, file_root(spark)), profile


def profile_for(
    capacity: Capacity, gpus: int | None, given: ResourceProfile | None
) -> ResourceProfile | None:
    """The stage's resource profile; None where the session's own tasks fit already.

    Args:
        capacity: what the session is set to.
        gpus: what each rank is to have; None for what Spark assigns.
        given: the caller's own profile, which wins.

    Raises:
        CapacityError: GPUs are wanted where Spark cannot assign any.
    """
    if given is not None or not gpus or capacity.gpus_per_task == gpus:
        return given
    if is_local_master(capacity.master):
        raise CapacityError(
            f"gpus_per_worker={gpus} needs tasks that hold GPUs, and a session on "
            f"{capacity.master} assigns {capacity.gpus_per_task:g} to each. Use a "
            "cluster, or leave gpus_per_worker unset to let TensorFlow see the host's GPUs."
        )
    from pyspark.resource import ResourceProfileBuilder, TaskResourceRequests

    tasks = TaskResourceRequests().cpus(capacity.task_cpus).resource("gpu", gpus)
    return ResourceProfileBuilder().require(tasks).build
