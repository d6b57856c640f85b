"""What will be launched is checked before anything is."""

from __future__ import annotations

from typing import Any

import pytest

from spark_strategy.errors import CapacityError, PlanError
from spark_strategy.parameter_server import ParameterServer
from spark_strategy.plan import Capacity, LaunchPlan, Orders
from spark_strategy.topology import Independent, MultiWorker, Topology


def test_too_few_slots_say_what_is_needed_found_and_possible() -> None:
    """Needs N, has M, how to get more."""
    with pytest.raises(CapacityError) as caught:
        LaunchPlan(MultiWorker(4), Orders(), Capacity("spark://h:7077", slots=1, task_cpus=2))

    text = str(caught.value)
    assert "MultiWorker(4) needs 4 tasks at once but Spark has 1 slot on spark://h:7077" in text
    assert "spark.task.cpus, which is 2" in text


def test_a_local_session_is_started_with_more_slots() -> None:
    """It has no executors to add."""
    with pytest.raises(CapacityError, match=r"builder\.master\('local\[8\]'\)"):
        LaunchPlan(MultiWorker(4), Orders(), Capacity("local[2]", slots=1, task_cpus=2))


def test_too_few_slots_say_which_executors_have_come() -> None:
    """Whoever asked for four executors and got two looks at the cluster, not at the topology."""
    came = "2 of 4 executors (spark.executor.instances=4) have registered"
    with pytest.raises(CapacityError) as caught:
        LaunchPlan(MultiWorker(4), Orders(), Capacity("yarn", slots=2, executors=came))

    assert "Spark has 2 slots on yarn: 2 of 4 executors (spark.exec" in str(caught.value)


@pytest.mark.parametrize("topology", [MultiWorker(2), Independent(2)])
def test_a_session_that_ends_silent_tasks_is_refused(topology: Topology) -> None:
    """Spark would end every rank that trains for longer; the message has the line that helps."""
    capacity = Capacity("local[2]", slots=2, idle_kill_s=60)
    with pytest.raises(PlanError) as caught:
        LaunchPlan(topology, Orders(), capacity)

    assert "spark.python.worker.killOnIdleTimeout" in str(caught.value)
    assert "60 s" in str(caught.value)
    assert 'spark.conf.set("spark.sql.execution.pyspark.udf.killOnIdleTimeout", "false")' in str(
        caught.value
    )


def test_dynamic_allocation_is_refused_with_the_setting_to_change() -> None:
    """Spark would refuse the stage itself, later and less clearly."""
    with pytest.raises(CapacityError, match=r"spark\.dynamicAllocation\.enabled=false"):
        LaunchPlan(MultiWorker(2), Orders(), Capacity("yarn", slots=8, dynamic_allocation=True))


def test_a_chief_on_the_driver_needs_no_slot_and_a_driver_here() -> None:
    """One slot less; Spark Connect's client is not the driver."""
    topology = ParameterServer(2, chief="driver")

    plan = str(LaunchPlan(topology, Orders(), Capacity("spark://h:7077", slots=3)))
    assert "on the driver      chief:0" in plan
    assert "slots              3 of 3" in plan
    with pytest.raises(CapacityError, match="needs 3 tasks at once but Spark has 2 slots"):
        LaunchPlan(topology, Orders(), Capacity("spark://h:7077", slots=2))
    with pytest.raises(PlanError, match=r'Connect client is not the driver. Use chief="executor"'):
        LaunchPlan(topology, Orders(), Capacity("sc://", slots=None, connect=True))


def test_unknown_slots_do_not_stop_a_plan() -> None:
    """Spark Connect does not tell; the plan says so."""
    assert "unknown" in str(LaunchPlan(MultiWorker(2), Orders(), Capacity("sc://", slots=None)))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"start_timeout_s": 0}, "start_timeout_s is a number of seconds above 0 .* found 0"),
        ({"timeout_s": -1}, "timeout_s is a number of seconds above 0 .* found -1"),
        ({"timeout_s": "60"}, "found '60'"),
        ({"timeout_s": float("nan")}, "found nan"),
        ({"gpus_per_worker": -1}, "gpus_per_worker is a whole number of at least 0, found -1"),
        ({"communication": "mpi"}, "communication is one of auto, ring, nccl, found 'mpi'"),
        ({"port_range": (80, 90)}, "1024 <= first <= last <= 65535"),
        ({"port_range": (5000, 4000)}, r"found \(5000, 4000\)"),
        ({"port_range": 5000}, "found 5000"),
        ({"interface": ""}, "found ''"),
        ({"interface": "10.1.0.0/99"}, "found '10.1.0.0/99'"),
        ({"env": {"A=B": ""}}, "env cannot hold 'A'"),
        ({"env": {"A": 1}}, "found 'A': int"),
        ({"env": "A=1"}, "found a str"),
        ({"env": {"TF_CONFIG": "{}"}}, "may not set TF_CONFIG"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(options: dict[str, Any], text: str) -> None:
    """The message has the value that was found."""
    with pytest.raises(PlanError, match=text):
        Orders(**options)
