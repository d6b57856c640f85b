"""The few values that ranks exchange besides gradients; every rank must take part in each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spark_strategy.keras.place import Place


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


def means(strategy: Any, variables: Sequence[Any]) -> list[Any]:
    """Mean over all replicas of each variable's own copies, in one all-reduce."""
    import tensorflow as tf

    copies = zip(*(strategy.experimental_local_results(v.value) for v in variables), strict=True)
    packed = [tf.concat([tf.reshape(c, [-1]) for c in local], axis=0) for local in copies]
    mean = _reduce(strategy, "MEAN", packed)
    parts = tf.split(mean, [v.shape.num_elements() for v in variables])
    return [tf.reshape(part, v.shape) for part, v in zip(parts, variables, strict=True)]


def _reduce(strategy: Any, how: str, local: Sequence[Any]) -> Any:
    """Reduces one value per local replica over all replicas of all ranks."""
    values = iter(local)
    mine = strategy.experimental_distribute_values_from_function(lambda _: next(values))
    return strategy.reduce(how, mine, axis=None)
