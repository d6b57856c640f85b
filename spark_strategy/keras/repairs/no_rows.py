"""Keras 3 moves BatchNormalization's statistics by the mean of no rows, which is NaN.

``BatchNormalization._moments`` calls ``tf.nn.moments`` on whatever the replica got. Here a replica
without rows normalises by its moving statistics, which are moved towards themselves. With
``synchronized=True`` the statistics are those of the step's rows, and nothing is wrong. tf_keras
looks at the number of rows itself (``_support_zero_size_input``).
"""

from __future__ import annotations

from typing import Any

from spark_strategy.keras.collective import in_one_of_several_replicas
from spark_strategy.keras.repair import Repair, takes


def _layer() -> Any:
    from keras.src.layers import BatchNormalization

    return BatchNormalization


def _fits() -> bool:
    return takes(_layer(), "_moments", "self", "inputs", "mask")


def _faulty() -> bool:
    """Whether the moments are TensorFlow's own; to ask for those of nothing would start it."""
    from keras.src.backend.tensorflow import nn

    return set(nn._compute_moments.__code__.co_names) <= {"tf", "nn", "moments"}


def _mend() -> None:
    layer = _layer()
    moments = layer._moments

    def of_rows(self: Any, inputs: Any, mask: Any) -> Any:
        import tensorflow as tf

        found = moments(self, inputs, mask)
        if self.synchronized or not in_one_of_several_replicas():
            return found
        has_rows = tf.size(inputs) > 0
        moving = (self.moving_mean, self.moving_variance)
        return tuple(
            tf.where(has_rows, value, tf.cast(old, value.dtype))
            for value, old in zip(found, moving, strict=True)
        )

    layer._moments = of_rows


NO_ROWS = Repair("no rows", "batch_normalization.py _moments", _fits, _faulty, _mend)
