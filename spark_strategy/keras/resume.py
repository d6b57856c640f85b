"""Lets every rank start training where the chief starts.

Only the chief's backup directory counts: on other hosts the path may not exist, or hold something
older. Ranks that start at different epochs run different numbers of steps, and hang. So each
``fit`` begins with one small all-reduce, in which the chief says where it starts; if it restored a
backup, its weights and optimizer state follow.
"""

from __future__ import annotations

from typing import Any

from spark_strategy.keras.collective import chiefs_value, is_multi_worker
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
    _copy_state(model, place)


def agree_on_counters(model: Any, counters: tuple[int, int], place: Place) -> tuple[int, int]:
    """As ``agree`` for tf_keras, which starts at an epoch and a step within it.

    Args:
        model: whose callback has restored what this rank could see.
        counters: the epoch and step at which this rank would start.
        place: decides whose counters count.
    """
    strategy = model.distribute_strategy
    if not is_multi_worker(strategy):
        return counters
    state = getattr(model, "_training_state", None)
    restored = state is not None and int(state._ckpt_saved_epoch.numpy()) >= 0
    told = chiefs_value(strategy, [float(restored), *map(float, counters)], place).numpy()
    if told[0]:
        _copy_state(model, place)
    return int(told[1]), int(told[2])


def _copy_state(model: Any, place: Place) -> None:
    """Gives every rank the chief's weights and optimizer state."""
    optimizer = model.optimizer
    # Keras 3 says built, tf_keras _built, and its legacy optimizers neither.
    built = getattr(optimizer, "built", getattr(optimizer, "_built", True))
    if optimizer is not None and not built:
        optimizer.build(model.trainable_variables)
    state = [] if optimizer is None else optimizer.variables
    # tf_keras' optimizers of old have a method where the others have a property.
    for variable in [*model.weights, *(state() if callable(state) else state)]:
        told = chiefs_value(model.distribute_strategy, variable.numpy(), place)
        variable.assign(told.numpy().astype(variable.numpy().dtype))
