"""SparkClusterResolver is a ClusterResolver like TensorFlow's own."""

from __future__ import annotations

import pytest
import tensorflow as tf

from spark_strategy import Launcher, MultiWorker, Patience, SparkClusterResolver, get_context
from spark_strategy.cluster import Cluster
from spark_strategy.errors import PlanError
from spark_strategy.topology import TaskId
from spark_strategy.worker.resolver import own_devices

CLUSTER = Cluster(MultiWorker(2).tasks, ("a:1", "b:2"))


def test_it_answers_as_tensorflows_own_resolver_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compared with TFConfigClusterResolver on the TF_CONFIG of the same cluster."""
    task = TaskId("worker", 1)
    ours = SparkClusterResolver(CLUSTER, task)
    monkeypatch.setenv("TF_CONFIG", ours.tf_config)
    theirs = tf.distribute.cluster_resolver.TFConfigClusterResolver()

    assert isinstance(ours, tf.distribute.cluster_resolver.ClusterResolver)
    assert ours.cluster_spec() == theirs.cluster_spec()
    assert ours.task_type == theirs.task_type == "worker"
    assert ours.task_id == theirs.task_id == 1
    assert ours.rpc_layer == theirs.rpc_layer == "grpc"
    assert ours.environment == (theirs.environment or "")
    assert ours.master() == theirs.master() == "grpc://b:2"
    assert ours.master("worker", 0) == theirs.master("worker", 0) == "grpc://a:1"
    assert ours.master("worker", 0, "") == "grpc://a:1"
    assert ours.num_accelerators() == theirs.num_accelerators() == {}


def test_its_task_can_be_set_as_strategies_do() -> None:
    """Strategies assign task_type, task_id and rpc_layer."""
    resolver = SparkClusterResolver(CLUSTER, TaskId("worker", 0))
    resolver.task_id = 1
    resolver.task_type = "worker"
    resolver.rpc_layer = "grpc+verbs"

    assert resolver.master() == "grpc+verbs://b:2"


def test_a_task_outside_the_cluster_is_refused() -> None:
    """The message lists the tasks there are."""
    with pytest.raises(PlanError, match="ps:0 is not one of the cluster's tasks: worker:0"):
        SparkClusterResolver(CLUSTER, TaskId("ps", 0))


@pytest.mark.usefixtures("spark", "leaves_nothing")
def test_devices_of_other_ranks_are_not_counted() -> None:
    """A rank would wait for replicas that nobody runs: TensorFlow lists all ranks' devices."""

    def counts() -> tuple[int, int]:
        task = get_context().task
        return len(tf.config.list_logical_devices("CPU")), own_devices(task.job, task.index)["CPU"]

    assert Launcher(MultiWorker(2), logs=None).run(counts).values == ((2, 1), (2, 1))
    assert own_devices("worker", 1)["CPU"] == len(tf.config.list_logical_devices("CPU"))


@pytest.mark.usefixtures("spark", "leaves_nothing")
def test_tensorflow_waits_longer_for_a_rank_than_the_library_does() -> None:
    """An outage that heals in 12 s ended a run by TensorFlow's own limit of 10 s."""

    def limit_s() -> float:
        from tensorflow.python.eager import context

        return float(context.context().coordination_service.heartbeat_timeout_in_ms) / 1000

    patience = Patience(silence_s=31, grace_s=7)
    limits = Launcher(MultiWorker(1), logs=None, patience=patience).run(limit_s).values
    assert limits == (45.0,)
