"""GPUs per worker -> Spark's stage-level scheduling."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spark_strategy.errors import CapacityError
from spark_strategy.plan import LaunchPlan
from spark_strategy.spark.capacity import is_local_master

if TYPE_CHECKING:
    from pyspark.resource import ResourceProfile


def profile_for(plan: LaunchPlan, given: ResourceProfile | None) -> ResourceProfile | None:
    """The stage's resource profile; None where the session's own tasks fit already.

    Args:
        plan: what is launched.
        given: the caller's own profile, which wins.

    Raises:
        CapacityError: GPUs are wanted where Spark cannot assign any.
    """
    gpus = plan.orders.gpus_per_worker
    if given is not None or not gpus or plan.capacity.gpus_per_task == gpus:
        return given
    if is_local_master(plan.capacity.master):
        raise CapacityError(
            f"gpus_per_worker={gpus} needs tasks that hold GPUs, and a session on "
            f"{plan.capacity.master} assigns {plan.capacity.gpus_per_task:g} to each. Use a "
            "cluster, or leave gpus_per_worker unset to let TensorFlow see the host's GPUs."
        )
    from pyspark.resource import ResourceProfileBuilder, TaskResourceRequests

    tasks = TaskResourceRequests().cpus(plan.capacity.task_cpus).resource("gpu", gpus)
    return ResourceProfileBuilder().require(tasks).build
