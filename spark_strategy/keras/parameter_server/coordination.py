"""The coordinator of a ParameterServerStrategy, as training needs it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from spark_strategy.folder import WORKER_FILE


def is_coordinated(strategy: Any) -> bool:
    """Whether a coordinator hands this strategy's steps out to workers."""
    import tensorflow as tf

    return isinstance(strategy, tf.distribute.ParameterServerStrategy)


def workers_of(strategy: Any) -> int:
    """How many workers a coordinator hands this strategy's steps to; 0 where there is none."""
    return int(strategy._num_workers) if is_coordinated(strategy) else 0


def coordinator_of(strategy: Any) -> Any:
    """The strategy's one ClusterCoordinator; TensorFlow keeps a single one for each."""
    import tensorflow as tf

    if strategy.num_replicas_in_sync > 1:
        raise NotImplementedError(
            "Keras fit under ParameterServerStrategy takes one GPU per worker at most, found "
            f"{strategy.num_replicas_in_sync}: ask for gpus_per_worker=1 and more workers."
        )
    return tf.distribute.coordinator.ClusterCoordinator(strategy)


def waiting(coordinator: Any) -> int:
    """Steps that are handed out and not done yet."""
    queue = coordinator._cluster.closure_queue
    return int(queue._queue.qsize() + queue.inflight_closure_count)


@contextlib.contextmanager
def traced_for_workers(strategy: Any) -> Iterator[None]:
    """Inside, what is traced is for workers, as the strategy expects of all that it runs.

    It warns of a ``strategy.run`` outside ``ClusterCoordinator.schedule``, a graph's too.
    """
    strategy.extended._being_scheduled = True
    try:
        yield
    finally:
        strategy.extended._being_scheduled = False


def failures() -> int:
    """How often the coordinator of this process has lost a worker so far."""
    from tensorflow.python.distribute.coordinator import metric_utils

    if not metric_utils._METRICS_MAPPING:
        return 0
    return int(metric_utils.get_metric_summary("worker_failures"))


def worker_index() -> Any:
    """The index of the worker that computes it: a scalar int64, in a graph that runs there."""
    import tensorflow as tf

    with tf.init_scope():
        # An input of the graph: a file under a constant name may be read where the graph is made.
        path = tf.constant(WORKER_FILE)
    return tf.strings.to_number(tf.io.read_file(path), tf.int64)
