"""Which part of a step's rows a replica holds, so that a loss weights rows and not replicas.

The theory. Both Kerases divide the mean loss of a replica's rows by the number R of replicas, and
the gradients of all replicas are summed. That is the mean over the rows of the step if all replicas
have equally many; otherwise a row weighs the more, the fewer share its replica. With n rows here
and N in the step, n/N in the place of 1/R makes the sum the mean over the N rows. A replica without
rows contributes nothing. What does not depend on the rows (a regularizer) is alike on all replicas,
and the sum of n/N is one, as is that of 1/R.

Keras scales in functions that are told nothing but the loss. So the share of a step is kept beside
the call stack, from where the batch is known to where the loss is scaled.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

from spark_strategy.keras.collective import in_one_of_several_replicas, sum_over_replicas


@dataclass(frozen=True)
class Share:
    """A replica's part of a step.

    Attributes:
        down: factor from a mean over this replica's rows to its part of the mean over the step's.
        up: factor from what was scaled down to what this replica reports.
    """

    down: Any
    up: Any

    def scale(self, loss: Any) -> Any:
        """The loss's part of the step's loss; 0 for no rows, where a mean may be NaN."""
        import tensorflow as tf

        return tf.math.multiply_no_nan(loss, tf.cast(self.down, loss.dtype))

    def or_zero(self, loss: Any) -> Any:
        """The loss itself; 0 for no rows."""
        import tensorflow as tf

        return tf.math.multiply_no_nan(loss, tf.cast(tf.sign(self.down), loss.dtype))

    def unscale(self, loss: Any) -> Any:
        """The loss of this replica's rows, for a metric that weights it by their number."""
        import tensorflow as tf

        return loss * tf.cast(self.up, loss.dtype)


_CURRENT: Final[ContextVar[Share | None]] = ContextVar("spark_strategy_share", default=None)


def current() -> Share | None:
    """The share of the step that runs; None outside one, and where a replica has all rows."""
    return _CURRENT.get()


@contextlib.contextmanager
def sharing(share: Share | None) -> Iterator[None]:
    """Within the block, losses are scaled by this share."""
    token = _CURRENT.set(share)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def after(values: Any) -> Any:
    """A context in which every operation waits for these nested tensors.

    A step that finds its iterator at the end fails, but TensorFlow runs beside the failing
    operation what needs nothing of it: the optimizer's count of steps, weight decay.
    """
    import tensorflow as tf

    leaves = tf.nest.flatten(values, expand_composites=True)
    return tf.control_dependencies([leaf for leaf in leaves if tf.is_tensor(leaf)])


def share_of(batch: Any) -> Share | None:
    """The share that a replica's batch is of the step's rows; all replicas must ask.

    One scalar all-reduce, that needs only the batch's shape and so overlaps with the forward
    pass. A batch size known while tracing saves nothing: on another rank it may be another one,
    or unknown, and ranks that disagree on whether to reduce wait for ever.

    Args:
        batch: nested tensors; the first has as many rows as the batch.

    Returns:
        None without other replicas, or where no tensor has rows.
    """
    import tensorflow as tf

    first = next((leaf for leaf in tf.nest.flatten(batch) if leaf is not None), None)
    if first is None or not len(first.shape) or not in_one_of_several_replicas():
        return None
    mine = tf.cast(_rows(first), tf.float32)
    total = sum_over_replicas(mine)
    return Share(tf.math.divide_no_nan(mine, total), tf.math.divide_no_nan(total, mine))


def _rows(tensor: Any) -> Any:
    import tensorflow as tf

    if isinstance(tensor, tf.RaggedTensor):
        return tensor.nrows()
    if isinstance(tensor, tf.SparseTensor):
        return tensor.dense_shape[0]
    return tf.shape(tensor)[0]
