"""Workers and parameter servers of parameter-server training: a server, until the chief is done."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Final

import tensorflow as tf

from spark_strategy.cluster import OPEN_PORTS, Cluster
from spark_strategy.errors import RendezvousError
from spark_strategy.folder import OWN_DESCRIPTOR, OWN_SPOOL, WORKER_FILE
from spark_strategy.parameter_server import CHIEF
from spark_strategy.topology import TaskId

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
                    f"waited {timeout_s:g} s for {task} to listen at {address}: {error}. "
                    f"{OPEN_PORTS}"
                ) from error
            time.sleep(_PROBE_S)
        else:
            return


def own_folder(path: Path, spool: Path, task: TaskId) -> None:
    """Make ``OWN_FOLDER`` name ``path`` in this process.

    Args:
        path: the child's folder.
        spool: where its rows are; found as ``OWN_SPOOL``.
        task: this task; its index is what ``WORKER_FILE`` holds.
    """
    (path / Path(WORKER_FILE).name).write_text(str(task.index), encoding="ascii")
    inside = path / Path(OWN_SPOOL).name
    # Where the rows are in the folder, the task makes this one; a new process finds the link.
    if spool != inside and not inside.is_symlink():
        inside.symlink_to(spool)
    opened = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    os.dup2(opened, OWN_DESCRIPTOR, inheritable=False)
    os.close(opened)
