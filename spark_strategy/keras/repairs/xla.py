"""XLA cannot compile a step of several workers, so ``jit_compile=True`` fails there.

Keras compiles the step as a whole, with ``strategy.run`` and the collectives inside. On CPU devices
TensorFlow says "Collectives are not yet implemented for CPU devices when compiling with XLA"
(b/194942685). With GPUs it puts the compiled step on the host, from where XLA refuses variables in
GPU memory (keras#19005; measured on an H100 with Keras 3, with one replica already). tf_keras
compiles inside ``strategy.run`` and fails otherwise (tf-keras#385, not measured here). The default
``jit_compile="auto"`` means no XLA under a strategy. An explicit True is taken back, with the
warning Keras gives for other models that XLA cannot compile.
"""

from __future__ import annotations

import warnings
from typing import Any


def cannot_compile(strategy: Any) -> bool:
    """Whether a step of this strategy holds collectives, or variables in a GPU's memory."""
    import tensorflow as tf

    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return False
    devices = strategy.extended.worker_devices
    return strategy.num_replicas_in_sync > 1 or any("GPU" in device for device in devices)


def warn() -> None:
    """Says what was changed, in the words Keras uses for models that XLA cannot compile."""
    warnings.warn(
        "XLA cannot compile a step of MultiWorkerMirroredStrategy. "
        "Proceeding with `jit_compile=False`.",
        stacklevel=3,
    )
