"""XLA cannot compile collectives for CPU devices, so ``jit_compile=True`` fails there.

TensorFlow: "Collectives are not yet implemented for CPU devices when compiling with XLA"
(b/194942685). Keras' default ``jit_compile="auto"`` already means no XLA on a CPU-only machine or
under a strategy. An explicit True is taken back where it cannot work, with the warning Keras gives
for other models that XLA cannot compile. Where a worker has other devices it is left as asked.
"""

from __future__ import annotations

import warnings
from typing import Any


def cannot_compile(strategy: Any) -> bool:
    """Whether a step of this strategy holds collectives on CPU devices."""
    import tensorflow as tf

    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return False
    devices = strategy.extended.worker_devices
    return strategy.num_replicas_in_sync > 1 and all("CPU" in device for device in devices)


def warn() -> None:
    """Says what was changed, in the words Keras uses for models that XLA cannot compile."""
    warnings.warn(
        "XLA cannot compile the collectives of MultiWorkerMirroredStrategy on CPU devices. "
        "Proceeding with `jit_compile=False`.",
        stacklevel=3,
    )
