"""Keras 3 lets each replica decide for itself whether a gradient overflowed.

``LossScaleOptimizer.check_finite`` looks at gradients that are not summed yet, although
``_handle_cross_replica`` says they are. When float16 overflows on one rank only, that rank skips
the step while the others wait for it in the all-reduce of the gradients: the run hangs. Here the
ranks agree first, at the price of one scalar.
"""

from __future__ import annotations

from typing import Any

from spark_strategy.keras.collective import in_one_of_several_replicas, sum_over_replicas
from spark_strategy.keras.repair import Repair, takes


def _optimizer() -> Any:
    from keras.src.optimizers import loss_scale_optimizer

    return loss_scale_optimizer.LossScaleOptimizer


def _fits() -> bool:
    return takes(_optimizer(), "check_finite", "self", "grads")


def _faulty() -> bool:
    """Whether nothing on the way to the decision talks to the other replicas."""
    steps = ("apply", "_tf_apply", "_common_apply", "check_finite")
    codes = [getattr(_optimizer(), step).__code__ for step in steps if hasattr(_optimizer(), step)]
    return not any({"all_reduce", "_all_reduce_sum_gradients"} & set(c.co_names) for c in codes)


def _mend() -> None:
    import tensorflow as tf

    optimizer = _optimizer()
    check = optimizer.check_finite

    def check_finite(self: Any, grads: Any) -> Any:
        finite = check(self, grads)
        if not in_one_of_several_replicas():
            return finite
        # No integers: collectives between GPUs do not take int32.
        return tf.equal(sum_over_replicas(1.0 - tf.cast(finite, tf.float32)), 0.0)

    optimizer.check_finite = check_finite


LOSS_SCALE = Repair("loss scaling", "loss_scale_optimizer.py check_finite", _fits, _faulty, _mend)
