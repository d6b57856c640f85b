"""A cluster that Spark formed, as TensorFlow's ``ClusterResolver``."""

from __future__ import annotations

from collections import Counter
from typing import Any

import tensorflow as tf

from spark_strategy.cluster import Cluster
from spark_strategy.errors import PlanError
from spark_strategy.topology import TaskId


class SparkClusterResolver(tf.distribute.cluster_resolver.ClusterResolver):
    """Resolves the tasks of a Spark barrier stage.

    Any strategy takes it: ``MultiWorkerMirroredStrategy(cluster_resolver=resolver)``.

    Args:
        cluster: addresses of all tasks.
        task: the task this process is.
        rpc_layer: TensorFlow's protocol between the tasks.

    Raises:
        PlanError: ``task`` is not in ``cluster``.
    """

    def __init__(self, cluster: Cluster, task: TaskId, *, rpc_layer: str = "grpc") -> None:
        if task not in cluster.tasks:
            raise PlanError(
                f"{task} is not one of the cluster's tasks: {', '.join(map(str, cluster.tasks))}."
            )
        self._cluster = cluster
        self._task_type: str | None = task.job
        self._task_id: int | None = task.index
        self._rpc_layer: str | None = rpc_layer

    @property
    def cluster(self) -> Cluster:
        """The addresses, as a plain value."""
        return self._cluster

    @property
    def tf_config(self) -> str:
        """The same cluster and task as a TF_CONFIG string."""
        return self._cluster.tf_config(TaskId(str(self.task_type), int(self.task_id or 0)))

    def cluster_spec(self) -> tf.train.ClusterSpec:
        """The whole cluster; it does not change during an attempt."""
        return tf.train.ClusterSpec(self._cluster.spec)

    def master(
        self,
        task_type: str | None = None,
        task_id: int | None = None,
        rpc_layer: str | None = None,
    ) -> str:
        """``grpc://host:port`` of a task, this one by default."""
        job = self.task_type if task_type is None else task_type
        index = self.task_id if task_id is None else task_id
        address = self.cluster_spec().task_address(job, index)
        layer = rpc_layer or self.rpc_layer
        return f"{layer}://{address}" if layer else str(address)

    @property
    def environment(self) -> str:
        """Empty: TensorFlow knows no environment called Spark (``ClusterResolver`` docs)."""
        return ""

    @property
    def task_type(self) -> str | None:
        """This task's job."""
        return self._task_type

    @task_type.setter
    def task_type(self, task_type: str | None) -> None:
        self._task_type = task_type

    @property
    def task_id(self) -> int | None:
        """This task's index in its job."""
        return self._task_id

    @task_id.setter
    def task_id(self, task_id: int | None) -> None:
        self._task_id = task_id

    @property
    def rpc_layer(self) -> str | None:
        """TensorFlow's protocol between the tasks."""
        return self._rpc_layer

    @rpc_layer.setter
    def rpc_layer(self, rpc_layer: str | None) -> None:
        self._rpc_layer = rpc_layer

    def num_accelerators(
        self,
        task_type: str | None = None,
        task_id: int | None = None,
        config_proto: Any = None,
    ) -> dict[str, int]:
        """Accelerators of this process by kind, such as ``{"GPU": 2}``.

        Every rank of a run is assigned the same number, so this answers for any task.
        """
        del task_type, task_id, config_proto
        counts = own_devices(self.task_type, self.task_id)
        return {kind: counts[kind] for kind in ("GPU", "TPU") if counts[kind]}


def own_devices(job: str | None, index: int | None) -> Counter[str]:
    """Logical devices of this process by kind, such as ``{"CPU": 1, "GPU": 2}``.

    TensorFlow lists those of all tasks once it has joined the cluster, which a strategy does before
    it asks for the accelerators: ``ClusterResolver`` itself then counts everybody's (b/126786766).

    Args:
        job: this task's.
        index: of this task in its job.
    """
    listed = [tf.DeviceSpec.from_string(one.name) for one in tf.config.list_logical_devices()]
    return Counter(
        device.device_type
        for device in listed
        if device.job in (None, "localhost") or (device.job, device.task) == (job, index)
    )
