"""Lets every rank start training where the chief starts.

Only the chief's backup directory counts: on other hosts the path may not exist, or hold something
older. Ranks that start at different epochs run different numbers of steps, and hang. So each
``fit`` begins with one small all-reduce, in which the chief says where it starts; if it restored a
backup, its weights and optimizer state follow.
"""

from __future__ import annotations

from typing import Any

from spark_strategy.keras.collective import chiefs_value
from spark_strategy.keras.place import Place

_NOWHERE = -1


def agree(model: Any, place: Place) -> None:
    """Gives every rank the chief's initial epoch and, if it restored one, the chief's state."""
    strategy = model.distribute_strategy
    epoch = _NOWHERE if model._initial_epoch is None else model._initial_epoch
    epoch = int(chiefs_value(strategy, epoch, place))
    if epoch == _NOWHERE:
        return
    model._initial_epoch = epoch
    if model.optimizer is not None and not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    variables = model.weights + (model.optimizer.variables if model.optimizer is not None else [])
    for variable in variables:
        variable.assign(chiefs_value(strategy, variable.numpy(), place).numpy())
