"""Arrivals become a cluster, a cluster spec and TF_CONFIG."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spark_strategy.cluster import Arrival, Cluster, Fence, form
from spark_strategy.errors import RendezvousError
from spark_strategy.topology import MultiWorker, TaskId

FENCE = Fence("run", 0)


def arrival(rank: int, fence: Fence = FENCE) -> Arrival:
    """A rank that listens on a port of its own."""
    return Arrival(rank, fence, f"host:{1000 + rank}")


@given(st.permutations(range(5)))
def test_the_order_of_arrival_does_not_matter(order: list[int]) -> None:
    """Addresses follow the rank, whoever came first."""
    cluster = form(MultiWorker(5).tasks, FENCE, [arrival(rank) for rank in order])

    assert cluster.spec == {"worker": [f"host:{1000 + rank}" for rank in range(5)]}


def test_tf_config_is_what_tensorflow_reads() -> None:
    """Cluster, own task, protocol."""
    cluster = form(MultiWorker(2).tasks, FENCE, [arrival(0), arrival(1)])

    assert json.loads(cluster.tf_config(TaskId("worker", 1))) == {
        "cluster": {"worker": ["host:1000", "host:1001"]},
        "task": {"type": "worker", "index": 1},
        "rpc_layer": "grpc",
    }


def test_jobs_list_their_addresses_by_index_not_by_rank() -> None:
    """A cluster of several jobs keeps each job's own order."""
    tasks = (TaskId("chief", 0), TaskId("worker", 1), TaskId("ps", 0), TaskId("worker", 0))

    spec = Cluster(tasks, ("c", "w1", "p", "w0")).spec

    assert spec == {"chief": ["c"], "worker": ["w0", "w1"], "ps": ["p"]}


@pytest.mark.parametrize("fence", [Fence("run", 1), Fence("other", 0)])
def test_a_late_task_of_another_attempt_cannot_join(fence: Fence) -> None:
    """Run and attempt are both fenced."""
    with pytest.raises(RendezvousError, match="cannot join"):
        form(MultiWorker(2).tasks, FENCE, [arrival(0), arrival(1, fence)])


@pytest.mark.parametrize("ranks", [[0], [0, 0], [0, 2], [0, 1, 1]])
def test_each_rank_arrives_exactly_once(ranks: list[int]) -> None:
    """Missing and doubled ranks are refused."""
    with pytest.raises(RendezvousError, match="2 ranks were expected once each"):
        form(MultiWorker(2).tasks, FENCE, [arrival(rank) for rank in ranks])


def test_two_tasks_cannot_claim_one_address() -> None:
    """It would be one server answering for two ranks."""
    with pytest.raises(RendezvousError, match="Two tasks claim one address"):
        Cluster(MultiWorker(2).tasks, ("host:1", "host:1"))


def test_arrivals_and_clusters_read_back_from_their_text() -> None:
    """Both ends of both protocols."""
    came = Arrival(3, Fence("r", 2), "h:1", control="h:2", refusal='no "tensorflow"\n')
    cluster = form(MultiWorker(2).tasks, FENCE, [arrival(0), arrival(1)])

    assert Arrival.from_json(came.to_json()) == came
    assert Cluster.from_json(cluster.to_json()) == cluster
