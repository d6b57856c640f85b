"""tf_keras weights replicas as Keras 3 does, in the gradient; its reported loss weights rows.

``LossesContainer`` passes each mean to ``losses_utils.scale_loss_for_distribution``, which divides
it by the number of replicas. Here it is multiplied by the replica's share of the rows (see
``share``), wherever the compiled loss is called: in ``fit``, and in a custom step or loop. The mean
of no rows, which can be NaN, is 0: a metric would take NaN in even with a weight of 0.
"""

from __future__ import annotations

import functools
from typing import Any

from spark_strategy.keras.repair import Repair, takes
from spark_strategy.keras.share import current, share_of, sharing


def _container() -> Any:
    from tf_keras.src.engine import compile_utils

    return compile_utils.LossesContainer


def _utils() -> Any:
    from tf_keras.src.utils import losses_utils

    return losses_utils


def _loss() -> Any:
    from tf_keras.src import losses

    return losses.Loss


def _fits() -> bool:
    given = ("self", "y_true", "y_pred", "sample_weight", "regularization_losses")
    return (
        takes(_container(), "__call__", *given)
        and takes(_loss(), "__call__", *given[:4])
        and takes(_utils(), "scale_loss_for_distribution", "loss_value")
    )


def _faulty() -> bool:
    """Fixed when the factor is no longer made of the number of replicas alone."""
    code = _utils().scale_loss_for_distribution.__code__
    return bool(code.co_varnames == ("loss_value", "num_replicas"))


def _mend() -> None:
    _mend_scaling()
    _mend_container()
    _mend_loss()


def _mend_scaling() -> None:
    utils = _utils()
    scale = utils.scale_loss_for_distribution

    def scale_loss_for_distribution(loss_value: Any) -> Any:
        share = current()
        return scale(loss_value) if share is None else share.scale(loss_value)

    utils.scale_loss_for_distribution = scale_loss_for_distribution


# AutoGraph leaves these two alone for the name of their module, which wraps copies.
def _mend_container() -> None:
    container = _container()
    call = container.__call__

    @functools.wraps(call)
    def call_sharing(
        self: Any,
        y_true: Any,
        y_pred: Any,
        sample_weight: Any = None,
        regularization_losses: Any = None,
    ) -> Any:
        share = share_of((y_true, y_pred))
        if share is not None and regularization_losses:
            regularization_losses = [share.or_zero(loss) for loss in regularization_losses]
        with sharing(share):
            return call(self, y_true, y_pred, sample_weight, regularization_losses)

    container.__call__ = call_sharing


def _mend_loss() -> None:
    loss = _loss()
    call = loss.__call__

    @functools.wraps(call)
    def call_or_zero(self: Any, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        value = call(self, y_true, y_pred, sample_weight)
        share = current()
        return value if share is None else share.or_zero(value)

    loss.__call__ = call_or_zero


ROW_WEIGHTS_TF_KERAS = Repair(
    "row weights", "losses_utils.py scale_loss_for_distribution", _fits, _faulty, _mend
)
