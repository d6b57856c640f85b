"""Reads sync-on-read variables without the other ranks, for the time of a save.

tf_keras keeps BatchNormalization's moving statistics and its metrics in variables whose every read
is an all-reduce, so a chief that saves alone hangs. Within fit the statistics are made equal on all
ranks after each epoch, after which the local copy is the value.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

from spark_strategy.keras.collective import means, rows_counted


@contextlib.contextmanager
def local_reads() -> Iterator[None]:
    """Within the block, a sync-on-read variable is read as this rank's own copy."""
    from tensorflow.python.distribute import values

    variable = values.SyncOnReadVariable
    read = variable._get_cross_replica
    variable._get_cross_replica = lambda self: self._get_on_device_or_primary()
    try:
        yield
    finally:
        variable._get_cross_replica = read


def reading_locally(owner: Any, name: str) -> None:
    """Lets the function ``owner.name`` read without the other ranks."""
    save = getattr(owner, name)

    @functools.wraps(save)
    def alone(*args: Any, **kwargs: Any) -> Any:
        with local_reads():
            return save(*args, **kwargs)

    setattr(owner, name, alone)


def equalize(model: Any) -> None:
    """Gives every replica the mean of the moving statistics; every rank must call it.

    A replica counts by the rows it trained on in the epoch, as in ``batch_norm``.
    """
    import tensorflow as tf

    variables = [
        variable
        for variable in model.weights
        if variable.synchronization == tf.VariableSynchronization.ON_READ
        if variable.aggregation == tf.VariableAggregation.MEAN
    ]
    if variables:
        strategy = model.distribute_strategy
        loss = getattr(model.compiled_loss, "_total_loss_mean", None)
        averages = means(strategy, variables, rows_counted(strategy, loss))
        for variable, average_value in zip(variables, averages, strict=True):
            variable.assign(average_value)
