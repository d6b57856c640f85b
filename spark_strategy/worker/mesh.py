"""``ModelParallel`` -> a DTensor mesh over all ranks."""

from __future__ import annotations

import os

import tensorflow as tf
from tensorflow.experimental import dtensor

from spark_strategy.cluster import Cluster
from spark_strategy.errors import ExecutorEnvironmentError
from spark_strategy.plan import Communication
from spark_strategy.topology import ModelParallel, TaskId


def environment(cluster: Cluster, task: TaskId, communication: Communication) -> dict[str, str]:
    """What DTensor reads to find the other clients (``tensorflow/dtensor/python/config.py``)."""
    addresses = cluster.spec[task.job]
    settings = {
        "DTENSOR_JOB_NAME": task.job,
        "DTENSOR_JOBS": ",".join(addresses),
        "DTENSOR_CLIENT_ID": str(task.index),
        "DTENSOR_NUM_CLIENTS": str(len(addresses)),
    }
    nccl = {"DTENSOR_GPU_USE_NCCL_COMMUNICATION": "1"} if communication == "nccl" else {}
    return settings | nccl


def build(topology: ModelParallel) -> dtensor.Mesh:
    """The mesh of all ranks' devices. Blocks until every rank has connected.

    The variables of :func:`environment` are set, and TensorFlow has not been used yet.

    Raises:
        ExecutorEnvironmentError: this rank has GPUs, but not as many as the mesh needs.
    """
    gpus, wanted = len(tf.config.list_physical_devices("GPU")), topology.devices_per_worker
    if gpus and gpus != wanted:
        raise ExecutorEnvironmentError(
            f"{topology} has {wanted} device(s) on each worker, and TensorFlow sees {gpus} GPU(s) "
            f"(CUDA_VISIBLE_DEVICES={os.environ.get('CUDA_VISIBLE_DEVICES', 'not set')}). Set "
            f"gpus_per_worker={wanted}, or gpus_per_worker=0 for a mesh of CPUs."
        )
    kind = "GPU" if gpus else "CPU"
    dtensor.initialize_accelerator_system(kind, num_logical_cpu_devices=None if gpus else wanted)
    return dtensor.create_distributed_mesh(list(topology.mesh.items()), device_type=kind)
