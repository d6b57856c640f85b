"""Topology -> ``tf.distribute`` strategy."""

from __future__ import annotations

import os
from typing import Final

import tensorflow as tf

from spark_strategy.errors import ExecutorEnvironmentError, PlanError
from spark_strategy.parameter_server import ParameterServer
from spark_strategy.plan import Communication
from spark_strategy.topology import Item, ModelParallel, MultiWorker, Topology
from spark_strategy.worker import heartbeat
from spark_strategy.worker.resolver import SparkClusterResolver

_KINDS: Final = tf.distribute.experimental.CommunicationImplementation
_IMPLEMENTATIONS: Final = {"auto": _KINDS.AUTO, "ring": _KINDS.RING, "nccl": _KINDS.NCCL}


def build(
    topology: Topology,
    resolver: SparkClusterResolver,
    communication: Communication,
    heartbeat_s: int,
) -> tf.distribute.Strategy:
    """The strategy of ``topology``. Blocks until every rank has connected.

    Raises:
        PlanError: no strategy belongs to this topology.
    """
    if isinstance(topology, MultiWorker):
        heartbeat.outlast_outages(resolver.cluster, heartbeat_s)
        return tf.distribute.MultiWorkerMirroredStrategy(
            cluster_resolver=resolver,
            communication_options=tf.distribute.experimental.CommunicationOptions(
                implementation=_IMPLEMENTATIONS[communication]
            ),
        )
    if isinstance(topology, Item | ModelParallel):
        return tf.distribute.get_strategy()
    if isinstance(topology, ParameterServer):
        return tf.distribute.ParameterServerStrategy(
            resolver, variable_partitioner=topology.partitioner
        )
    raise PlanError(f"No strategy belongs to {topology}.")


def check_gpus(expected: int | None) -> None:
    """Compare what Spark assigned with what TensorFlow sees.

    Args:
        expected: GPUs assigned to this task; None to not look.

    Raises:
        ExecutorEnvironmentError: TensorFlow sees another number.
    """
    if expected is None:
        return
    seen = len(tf.config.list_physical_devices("GPU"))
    if seen != expected:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "not set")
        raise ExecutorEnvironmentError(
            f"Spark assigned {expected} GPU(s) to this rank (CUDA_VISIBLE_DEVICES={visible}), "
            f"TensorFlow {tf.__version__} sees {seen}. Check the driver and CUDA libraries on "
            "the executor (pip install tensorflow[and-cuda]), and Spark's GPU discovery script."
        )
