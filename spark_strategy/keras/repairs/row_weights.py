"""Keras 3 weights replicas: a loss is divided by their number, whatever rows they have.

``scale_loss_for_distribution`` multiplies each mean by 1/replicas and
``unscale_loss_for_distribution`` takes that back for the reported loss. Where replicas have
different numbers of rows, or none, the gradient is not that of the step's rows (see ``share``).
Here both use the replica's share of the rows, within the train and test steps that Keras runs;
custom steps that call ``compute_loss`` or a Keras loss are such steps. The symbolic build and
custom loops are left alone.

A step also waits for its data. Otherwise TensorFlow runs, in the step that finds its iterator at
the end, what needs no data: ``iterations`` grew by one per epoch of unknown length (measured).
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Final

from spark_strategy.keras.repair import Repair, takes
from spark_strategy.keras.share import after, current, share_of, sharing


def _module() -> Any:
    from keras.src.losses import loss

    return loss


def _trainer() -> Any:
    from keras.src.backend.tensorflow import trainer

    return trainer.TensorFlowTrainer


def _compile_loss() -> Any:
    from keras.src.trainers import compile_utils

    return compile_utils.CompileLoss


def _fits() -> bool:
    return (
        takes(_module(), "scale_loss_for_distribution", "value")
        and takes(_module(), "unscale_loss_for_distribution", "value")
        and takes(_module(), "reduce_values", "values", "sample_weight", "reduction")
        and takes(_trainer(), "_make_function", "self", "step_function")
        and takes(_compile_loss(), "call", "self", "y_true", "y_pred", "sample_weight")
    )


def _faulty() -> bool:
    """Fixed when the factor is no longer made of the number of replicas alone."""
    code = _module().scale_loss_for_distribution.__code__
    return bool(code.co_varnames == ("value", "tf", "num_replicas"))


_MEANS: Final = ("sum_over_batch_size", "mean", "mean_with_sample_weight")


def _mend() -> None:
    _mend_scaling()
    _mend_steps()
    _mend_losses_of_outputs()


def _mend_scaling() -> None:
    module = _module()
    scale, unscale = module.scale_loss_for_distribution, module.unscale_loss_for_distribution

    def scale_loss_for_distribution(value: Any) -> Any:
        share = current()
        return scale(value) if share is None else share.scale(value)

    def unscale_loss_for_distribution(value: Any) -> Any:
        share = current()
        return unscale(value) if share is None else share.unscale(value)

    module.scale_loss_for_distribution = scale_loss_for_distribution
    module.unscale_loss_for_distribution = unscale_loss_for_distribution
    _mend_reduction(module)


def _mend_reduction(module: Any) -> None:
    """Scales what upstream does not reduce: a loss function's own mean, and a vector of no rows."""
    reduce = module.reduce_values

    def reduce_values(
        values: Any, sample_weight: Any = None, reduction: Any = "sum_over_batch_size"
    ) -> Any:
        import tensorflow as tf

        share = current()
        if share is None or reduction not in _MEANS or tuple(values.shape) not in ((), (0,)):
            return reduce(values, sample_weight, reduction)
        return share.scale(tf.reduce_sum(values))

    module.reduce_values = reduce_values


def _mend_steps() -> None:
    trainer = _trainer()
    make = trainer._make_function

    def make_function(self: Any, step_function: Any) -> Any:
        @functools.wraps(step_function)
        def step(data: Any) -> Any:
            with after(data), sharing(share_of(data)):
                return step_function(data)

        return make(self, step)

    trainer._make_function = make_function


def _mend_losses_of_outputs() -> None:
    """Lets the metric of each output's loss average over steps as in one process.

    ``CompileLoss`` weights them by the batch size known while tracing. Without one each step
    counts once, so a replica brings its part of the step's loss, times the replicas that bring one.
    """
    compile_loss = _compile_loss()
    call = compile_loss.call

    @functools.wraps(call)
    def call_sharing(self: Any, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        import tensorflow as tf

        share = current()
        if share is not None and tf.nest.flatten(y_pred)[0].shape[0] is None:
            replicas = tf.distribute.get_strategy().num_replicas_in_sync
            share = dataclasses.replace(share, up=float(replicas))
        with sharing(share):
            return call(self, y_true, y_pred, sample_weight)

    compile_loss.call = call_sharing


ROW_WEIGHTS = Repair(
    "row weights", "losses/loss.py scale_loss_for_distribution", _fits, _faulty, _mend
)
