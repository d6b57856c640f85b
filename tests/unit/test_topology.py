"""Who takes part."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from spark_strategy.errors import PlanError
from spark_strategy.parameter_server import (
    PackedPartitioner,
    ParameterServer,
    feeds,
    on_driver,
    placed,
    serves,
)
from spark_strategy.topology import (
    Independent,
    MultiWorker,
    TaskId,
    Topology,
    WithEvaluator,
    evaluators,
    forms_cluster,
)


def test_workers_are_the_tasks_in_rank_order() -> None:
    """All tasks call the function, and worker 0 comes first."""
    topology = MultiWorker(3)

    assert [str(task) for task in topology.tasks] == ["worker:0", "worker:1", "worker:2"]
    assert topology.callers == topology.tasks
    assert isinstance(topology, Topology)


def test_a_topology_is_a_value() -> None:
    """It compares, hashes and prints as it was written."""
    assert MultiWorker(2) == MultiWorker(2)
    assert len({MultiWorker(2), MultiWorker(2), MultiWorker(3)}) == 2
    assert str(MultiWorker(2)) == "MultiWorker(2)"


def test_independent_calls_and_an_evaluator_are_tasks_too() -> None:
    """Calls form no cluster; an evaluator is the last rank, and calls nothing."""
    calls = Independent(2)
    assert [str(task) for task in calls.callers] == ["item:0", "item:1"]
    assert not forms_cluster(calls)
    assert str(calls) == "Independent(2)"

    watched = WithEvaluator(MultiWorker(2))
    assert [str(task) for task in watched.tasks] == ["worker:0", "worker:1", "evaluator:0"]
    assert watched.callers == MultiWorker(2).callers
    assert evaluators(watched) == {2}
    assert forms_cluster(watched)

    with pytest.raises(PlanError, match=r"Independent\(n\) takes .* at least 1, found 0"):
        Independent(0)


@pytest.mark.parametrize("workers", [0, -1, 1.5, "2", None, True])
def test_a_number_of_workers_that_makes_no_sense_is_refused(workers: Any) -> None:
    """The value found is in the message."""
    with pytest.raises(PlanError, match="whole number of at least 1, found ") as caught:
        MultiWorker(workers)
    assert repr(workers) in str(caught.value)


def test_a_task_reads_back_from_what_it_prints() -> None:
    """Round trip, and two refusals."""
    assert TaskId.parse("worker:12") == TaskId("worker", 12)
    with pytest.raises(PlanError, match="reads like worker:1"):
        TaskId.parse("worker")
    with pytest.raises(PlanError, match="lower-case"):
        TaskId("Worker", 0)
    with pytest.raises(PlanError, match="starts at 0"):
        TaskId("worker", -1)


def halves(shape: Any, dtype: Any) -> list[int]:
    """A partitioner that splits everything in two."""
    del dtype
    return [2] + [1] * (len(shape) - 1)


def test_parameter_servers_have_three_roles() -> None:
    """The chief is rank 0 and calls; rows go to workers; workers and servers serve."""
    topology = ParameterServer(2, servers=2)

    names = ["chief:0", "worker:0", "worker:1", "ps:0", "ps:1"]
    assert [str(task) for task in topology.tasks] == names
    assert topology.callers == (TaskId("chief", 0),)
    assert isinstance(topology, Topology)
    assert str(topology) == "ParameterServer(2, servers=2)"
    assert feeds(topology) == (1, 2)
    assert feeds(MultiWorker(3)) == (0, 1, 2)
    assert [serves(topology, task) for task in topology.tasks] == [False, True, True, True, True]
    assert not any(serves(MultiWorker(2), task) for task in MultiWorker(2).tasks)


def test_a_chief_on_the_driver_has_no_place_in_the_stage() -> None:
    """The ranks are the same, with one task less; an evaluator beside them changes nothing."""
    topology = ParameterServer(2, chief="driver")

    assert topology.tasks == ParameterServer(2).tasks
    assert str(topology) == "ParameterServer(2, servers=1, chief='driver')"
    assert pickle.loads(pickle.dumps(topology)) == topology != ParameterServer(2)
    for whole in (topology, WithEvaluator(topology)):
        assert on_driver(whole)
        assert placed(whole) == whole.tasks[1:]
    for whole in (ParameterServer(2), WithEvaluator(ParameterServer(2)), MultiWorker(2)):
        assert not on_driver(whole)
        assert placed(whole) == whole.tasks
    with pytest.raises(TypeError, match="positional"):
        ParameterServer(1, 1, "driver")  # type: ignore[misc]


def test_a_partitioner_travels_packed() -> None:
    """Whoever reads the topology on the way does not unpickle the partitioner."""
    arrived = pickle.loads(pickle.dumps(ParameterServer(1, partitioner=halves, restarts=3)))

    assert isinstance(arrived.partitioner, PackedPartitioner)
    assert arrived.partitioner((8, 4), "float32") == [2, 1]
    assert arrived.restarts == 3
    assert pickle.loads(pickle.dumps(arrived)) == arrived
    with pytest.raises(PlanError, match="cannot be sent to the chief"):
        pickle.dumps(ParameterServer(1, partitioner=lambda shape: [1]))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"workers": 0}, "workers) takes a whole number of at least 1, found 0"),
        ({"workers": 1, "servers": 0}, "servers) takes a whole number of at least 1, found 0"),
        ({"workers": 1, "restarts": -1}, "restarts) takes a whole number of at least 0, found -1"),
        ({"workers": 1, "chief": "here"}, "chief) is one of executor, driver, found 'here'"),
        ({"workers": 1, "chief": None}, "chief) is one of executor, driver, found None"),
        ({"workers": 1, "partitioner": 2}, "partitioner) is a function of a variable's shape"),
    ],
)
def test_parameter_servers_that_make_no_sense_are_refused(
    options: dict[str, Any], text: str
) -> None:
    """What was wrong, and the value found."""
    with pytest.raises(PlanError) as caught:
        ParameterServer(**options)
    assert text in str(caught.value)
