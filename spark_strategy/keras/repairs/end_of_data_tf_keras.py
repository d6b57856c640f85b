"""tf_keras counts an optimizer step where the data has ended.

A train function reads its iterator, and at the end of the data it fails. TensorFlow runs beside the
failing operation what needs nothing of it: ``iterations`` grows by one, and weights decay, once
more per epoch of unknown length (measured). Here an update waits for its gradients. In Keras 3 the
whole step waits for its data (``row_weights``); tf_keras leaves no place to say so.
"""

from __future__ import annotations

import functools
from typing import Any

from spark_strategy.keras.repair import Repair, takes
from spark_strategy.keras.share import after


def _optimizers() -> tuple[Any, Any]:
    from tf_keras.src.optimizers import optimizer
    from tf_keras.src.optimizers.legacy import optimizer_v2

    return optimizer.Optimizer, optimizer_v2.OptimizerV2


def _fits() -> bool:
    new, old = _optimizers()
    common = ("self", "grads_and_vars", "name")
    return takes(new, "apply_gradients", *common, "skip_gradients_aggregation", "kwargs") and takes(
        old, "apply_gradients", *common, "experimental_aggregate_gradients"
    )


def _faulty() -> bool:
    """Whether no update asks for an order; the tests of uneven data show the step itself."""
    codes = [optimizer.apply_gradients.__code__ for optimizer in _optimizers()]
    return not any("control_dependencies" in code.co_names for code in codes)


def _mend() -> None:
    for optimizer in _optimizers():
        optimizer.apply_gradients = _after_gradients(optimizer.apply_gradients)


def _after_gradients(apply: Any) -> Any:
    """The method, in which every operation waits for the gradients."""

    @functools.wraps(apply)
    def apply_gradients(self: Any, grads_and_vars: Any, *args: Any, **kwargs: Any) -> Any:
        pairs = list(grads_and_vars)
        with after([gradient for gradient, _ in pairs]):
            return apply(self, pairs, *args, **kwargs)

    return apply_gradients


END_OF_DATA_TF_KERAS = Repair("end of data", "optimizer.py apply_gradients", _fits, _faulty, _mend)
