"""Keras 3 prepares each replica's gradient for the update, then sums what came out.

``BaseOptimizer._backend_apply_gradients`` clips and accumulates before
``TFOptimizer._backend_update_step`` sums over the replicas, so ``clipnorm``, ``global_clipnorm``
and ``clipvalue`` bound something else than in one process; and ``gradient_accumulation_steps`` and
``ema_overwrite_frequency`` meet a ``merge_call`` inside a conditional, which TensorFlow refuses.
tf_keras sums first. So does this repair: every replica then holds the gradient of the global batch
and applies, to its own copy of the variables, the code that a single process runs. All copies stay
equal because all see the same numbers. Nothing more is communicated, except that accumulating
optimizers now sum every micro-step.
"""

from __future__ import annotations

import contextlib
from typing import Any

from spark_strategy.keras.collective import in_one_of_several_replicas
from spark_strategy.keras.repair import Repair, takes

# The parts of an update that TFOptimizer runs across replicas and its base class locally.
_LOCAL = {
    "_apply_weight_decay": ("self", "variables"),
    "_backend_update_step": ("self", "grads", "trainable_variables", "learning_rate"),
    "_backend_increment_gradient_accumulators": ("self", "grads", "acc_grads"),
    "_overwrite_model_variables_with_average_value": ("self", "trainable_variables"),
}


def _optimizer() -> Any:
    from keras.src.backend.tensorflow import optimizer

    return optimizer.TFOptimizer


def _base() -> Any:
    from keras.src.optimizers import base_optimizer

    return base_optimizer.BaseOptimizer


def _fits() -> bool:
    owners = (_optimizer(), _base())
    return (
        takes(_base(), "_backend_apply_gradients", "self", "grads", "trainable_variables")
        and takes(_optimizer(), "_all_reduce_sum_gradients", "self", "grads_and_vars")
        and all(takes(owner, name, *names) for name, names in _LOCAL.items() for owner in owners)
    )


def _faulty() -> bool:
    return _order_of_calls(_optimizer()) == ["clip", "sum"]


def _mend() -> None:
    optimizer = _optimizer()
    for name in _LOCAL:
        setattr(optimizer, name, _locally(name))

    def backend_apply_gradients(self: Any, grads: Any, trainable_variables: Any) -> Any:
        if in_one_of_several_replicas():
            pairs = list(zip(grads, trainable_variables, strict=True))
            grads = [grad for grad, _ in self._all_reduce_sum_gradients(pairs)]
        return _base()._backend_apply_gradients(self, grads, trainable_variables)

    optimizer._backend_apply_gradients = backend_apply_gradients


def _locally(name: str) -> Any:
    """The method as it is across replicas, but its single-process form inside a replica."""
    across, local = getattr(_optimizer(), name), getattr(_base(), name)

    def method(self: Any, *args: Any) -> Any:
        return (local if in_one_of_several_replicas() else across)(self, *args)

    return method


class _Summed(Exception):  # noqa: N818 - it ends the probe, it is no error
    """Raised where the gradients would be summed."""


def _order_of_calls(optimizer: Any) -> list[str]:
    """In which order an optimizer without any state clips and sums."""
    calls: list[str] = []

    class Probe(optimizer):
        gradient_accumulation_steps = None
        use_ema = False
        learning_rate = 0.0

        def __init__(self) -> None:  # the real one creates variables, in the eager context
            pass

        def _clip_gradients(self, grads: Any) -> Any:
            calls.append("clip")
            return grads

        def _apply_weight_decay(self, variables: Any) -> None:
            pass

        def _all_reduce_sum_gradients(self, _grads_and_vars: Any) -> Any:
            calls.append("sum")
            raise _Summed

    with contextlib.suppress(_Summed):
        Probe()._backend_apply_gradients([0.0], [0.0])
    return calls


OPTIMIZER_STEP = Repair(
    "optimizer step", "base_optimizer.py _backend_apply_gradients", _fits, _faulty, _mend
)
