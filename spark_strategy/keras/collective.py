"""The few values that ranks exchange besides gradients; every rank must take part in each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from spark_strategy.keras.place import Place

# Rows that each replica has at least: then the mean over none at all is the plain one.
_TRACE: Final = 1e-6


def is_multi_worker(strategy: Any) -> bool:
    """Whether other processes take part in this strategy's steps."""
    import tensorflow as tf

    return (
        isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
        and strategy.num_replicas_in_sync > 1
        and strategy.extended._in_multi_worker_mode()
    )


def chiefs_value(strategy: Any, value: Any, place: Place) -> Any:
    """The chief's value on every rank: a sum to which the others contribute zeros.

    Travels as float64, which holds every integer up to 2**53.
    """
    import tensorflow as tf

    mine = tf.cast(value, tf.float64)
    if not place.is_chief:
        mine = tf.zeros_like(mine)
    # The chief may drive several replicas, which all hold its value.
    local = [mine / len(strategy.extended.worker_devices)]
    return _reduce(strategy, "SUM", local * len(strategy.extended.worker_devices))


def sum_over_ranks(strategy: Any, value: Any) -> Any:
    """Sum of what each rank brings, on every rank; as float64."""
    import tensorflow as tf

    count = len(strategy.extended.worker_devices)
    return _reduce(strategy, "SUM", [tf.cast(value, tf.float64) / count] * count)


def means(strategy: Any, values: Sequence[Any], rows: Sequence[Any]) -> list[Any]:
    """Mean over all replicas of each value's own copies, in one all-reduce.

    Args:
        strategy: whose replicas.
        values: distributed tensors or variables of one dtype.
        rows: for each local replica, how many rows its copies were made from; a replica without
            any does not count, unless none has any.
    """
    import tensorflow as tf

    copies = zip(*map(strategy.experimental_local_results, values), strict=True)
    packed = []
    for local, own_rows in zip(copies, rows, strict=True):
        weight = tf.cast(own_rows, local[0].dtype) + _TRACE
        flat = tf.concat([tf.reshape(copy, [-1]) for copy in local], axis=0)
        packed.append(tf.concat([flat * weight, [weight]], axis=0))
    total = _reduce(strategy, "SUM", packed)
    parts = tf.split(total[:-1] / total[-1], [value.shape.num_elements() for value in values])
    return [tf.reshape(part, v.shape) for part, v in zip(parts, values, strict=True)]


def rows_counted(strategy: Any, mean: Any) -> list[Any]:
    """For each local replica, the rows that a metric has counted; zeros where there is none."""
    if mean is None:
        return [0.0] * len(strategy.extended.worker_devices)
    # Keras 3 has the variable in value, where tf_keras' variable has a method.
    count = mean.count if callable(mean.count.value) else mean.count.value
    return list(strategy.experimental_local_results(count))


def in_one_of_several_replicas() -> bool:
    """Whether this runs in a replica's own step, beside those of others."""
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return context is not None and context.num_replicas_in_sync > 1


def sum_over_replicas(value: Any) -> Any:
    """Sum of what each replica brings to this point of its step."""
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return context.all_reduce(tf.distribute.ReduceOp.SUM, value)


def _reduce(strategy: Any, how: str, local: Sequence[Any]) -> Any:
    """Reduces one value per local replica over all replicas of all ranks."""
    values = iter(local)
    mine = strategy.experimental_distribute_values_from_function(lambda _: next(values))
    return strategy.reduce(how, mine, axis=None)
