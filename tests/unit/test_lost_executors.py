"""Why an executor went, in the words of each resource manager, and what helps."""

from __future__ import annotations

import pytest

from spark_strategy.spark.lost_executors import advice

OVERHEAD = "spark.executor.memoryOverhead"
YARN = "Container marked as failed: container_1 on host: h2. Exit status: {}. Diagnostics: {}"


@pytest.mark.parametrize(
    ("reason", "helps"),
    [
        ("Container container_1 on host: h2 was preempted.", "queue that is not preempted"),
        (YARN.format(-100, "Container released on a *lost* node."), "Its host is gone"),
        (YARN.format(-104, "x"), OVERHEAD),
        (YARN.format(137, "Killed by external signal"), OVERHEAD),
        (YARN.format(143, "x"), "ended it (SIGTERM)"),
        ("Container killed by YARN for exceeding physical memory limits. 5.0 GB of", OVERHEAD),
        ("worker lost: Not receiving heartbeat for 60 seconds", "Its host is gone"),
        ("Executor decommission: spot instance is going away", "taken out of service"),
        ("Worker Decommissioned", "taken out of service"),
        ("Executor heartbeat timed out after 125324 ms", "overloaded, frozen or cut off"),
        ("exited with exit code 137(SIGKILL, possible container OOM).", OVERHEAD),
        ("Command exited with code 137", OVERHEAD),
        ("Command exited with code 1", "the usual suspect"),
        ("Remote RPC client disassociated. Likely due to containers", "the usual suspect"),
        ("something new", "The executor's log"),
    ],
)
def test_each_reason_has_its_own_advice(reason: str, helps: str) -> None:
    """More memory is advised where memory was or may have been the reason, and nowhere else."""
    spark = (
        f"ExecutorLostFailure (executor 2 exited unrelated to the running tasks) Reason: {reason}"
    )

    text = advice(spark)

    assert helps in text
    assert (OVERHEAD in text) == (helps in {OVERHEAD, "the usual suspect"})
