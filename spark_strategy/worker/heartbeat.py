"""Sets for how long TensorFlow's own heartbeat between the ranks may be missing.

TensorFlow's coordination service ends every rank when one has not been heard of for 10 s
(``tsl``'s ``kDefaultHeartbeatTimeoutMs``), and blames the host. The library itself waits for as
long as ``Patience`` says, and knows more of what happened: an outage that heals before that must
not end the run, and one that does not is to be told by the library. ``MultiWorkerMirroredStrategy``
configures the service only where nobody has (``collective_all_reduce_strategy.py``), and offers no
argument for it.
"""

from __future__ import annotations

import tensorflow as tf

from spark_strategy.cluster import Cluster


def outlast_outages(cluster: Cluster, heartbeat_s: int) -> None:
    """Let the ranks of a strategy that is built after this miss each other for so long.

    Measured: with a rank stopped for 14 s all ranks fail under TensorFlow's own limit, and go on
    with 40 s.

    Args:
        cluster: the strategy's.
        heartbeat_s: ``Patience.heartbeat_s``.
    """
    from tensorflow.python.eager import context

    config = tf.compat.v1.ConfigProto().experimental.coordination_config
    jobs = [job for job in ("chief", "worker") if job in cluster.spec]
    for job in jobs:
        config.coordinated_job_list.add(name=job, num_tasks=len(cluster.spec[job]))
    context.context().configure_coordination_service(
        service_type="standalone",
        # As multi_worker_util.coordination_leader says.
        service_leader=f"/job:{jobs[0]}/replica:0/task:0",
        coordinated_jobs=list(config.coordinated_job_list),
        heartbeat_timeout_in_ms=heartbeat_s * 1000,
    )
