"""Workers and parameter servers of parameter-server training: a server, until the chief is done."""

from __future__ import annotations

import os
import socket
import time
from typing import Final

import tensorflow as tf

from spark_strategy.cluster import Cluster
from spark_strategy.errors import RendezvousError
from spark_strategy.topology import CHIEF, TaskId

# A folder of the process that looks at it, so that one graph reads on every worker what is its
# own. Linux resolves it in the process that opens the path; its number is far above those that a
# young process uses.
_OWN: Final = 900
OWN_FOLDER: Final = f"/proc/self/fd/{_OWN}"
WORKER_FILE: Final = f"{OWN_FOLDER}/worker"

_PROBE_S: Final = 0.05


def serve(cluster: Cluster, task: TaskId) -> tf.distribute.Server:
    """A running server for ``task``; it serves as long as the process lives."""
    config = tf.compat.v1.ConfigProto()
    # A step waits in a thread for values of other tasks (ParameterServerStrategy's own advice).
    config.inter_op_parallelism_threads = len(cluster.tasks) + (os.cpu_count() or 1)
    return tf.distribute.Server(
        tf.train.ClusterSpec(cluster.spec),
        job_name=task.job,
        task_index=task.index,
        protocol="grpc",
        config=config,
    )


def wait_for_servers(cluster: Cluster, timeout_s: float) -> None:
    """Until every worker and parameter server listens.

    TensorFlow gives up on one that does not listen yet after a few retries.

    Raises:
        RendezvousError: one does not within ``timeout_s``.
    """
    deadline = time.monotonic() + timeout_s
    for task, address in zip(cluster.tasks, cluster.addresses, strict=True):
        if task.job != CHIEF:
            _wait_for(task, address, deadline, timeout_s)


def _wait_for(task: TaskId, address: str, deadline: float, timeout_s: float) -> None:
    host, _, port = address.rpartition(":")
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=1.0).close()
        except OSError as error:
            if time.monotonic() > deadline:
                raise RendezvousError(
                    f"waited {timeout_s:g} s for {task} to listen at {address}: {error}."
                ) from error
            time.sleep(_PROBE_S)
        else:
            return


def enter_own_folder(path: str, task: TaskId) -> None:
    """Make ``OWN_FOLDER`` name ``path`` in this process, and say in it which worker this is."""
    with open(os.path.join(path, "worker"), "w", encoding="ascii") as file:  # noqa: PTH118, PTH123
        file.write(str(task.index))
    opened = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    os.dup2(opened, _OWN, inheritable=False)
    os.close(opened)
