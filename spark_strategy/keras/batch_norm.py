"""Keeps BatchNormalization's moving statistics equal on all ranks.

Keras 3 creates them with ``aggregation="none"`` (layers/layer.py, add_weight), so each replica
moves its own, from its own rows, and no two ranks end with the same model; the chief's is the one
saved. tf_keras reads them as the mean over replicas. So does this, after each epoch and before
each evaluation: a moving average is linear, so the mean taken now and then equals the mean taken at
every step. A replica counts by the rows it trained on in the epoch: one that had none has nothing
but initial values to bring. With ``synchronized=True`` the statistics are those of the global
batch, and nothing is left to do.
"""

from __future__ import annotations

from typing import Any

from spark_strategy.keras.collective import means, rows_counted


def average(model: Any) -> None:
    """Replaces every moving statistic by its mean over replicas; all ranks must call it."""
    import keras

    variables = [
        variable
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization) and layer.built
        if not layer.synchronized
        for variable in (layer.moving_mean, layer.moving_variance)
    ]
    if variables:
        strategy = model.distribute_strategy
        rows = rows_counted(strategy, model._loss_tracker)
        averages = means(strategy, [variable.value for variable in variables], rows)
        for variable, average_value in zip(variables, averages, strict=True):
            variable.assign(average_value)
