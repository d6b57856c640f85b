"""What the parity tests run on every process: train, evaluate, predict, and say what came out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import models
import numpy as np
from models import Task
from rank_process import Env

BATCH = 32


def sharded(env: Env, *arrays: Any, batch: int = BATCH) -> Any:
    """A tf.data pipeline of global batches, of which each rank takes its part of every batch."""
    data = env.tf.data.Dataset.from_tensor_slices(arrays).batch(batch)
    options = env.tf.data.Options()
    options.experimental_distribute.auto_shard_policy = env.tf.data.experimental.AutoShardPolicy.DATA
    return data.with_options(options)


def arrays_of(task: Task) -> tuple[Any, ...]:
    """Inputs, targets and, where there are any, weights."""
    return (task.x, task.y) if task.weights is None else (task.x, task.y, task.weights)


def state_of(model: Any) -> dict[str, Any]:
    """Weights and optimizer state as arrays: what has to agree after training."""
    return {
        "weights": [np.asarray(v.numpy()) for v in model.weights],
        "iterations": int(model.optimizer.iterations.numpy()),
    }


def report(model: Any, history: Any) -> dict[str, Any]:
    """What a training run is compared by."""
    return {"history": dict(history.history), **state_of(model)}


def train(env: Env, build: Callable[..., Task], options: dict[str, Any], fit: dict[str, Any]) -> Any:
    """Trains two epochs with validation, then evaluates and predicts."""
    task = build(env, **options)
    data = sharded(env, *arrays_of(task))
    fit = {"epochs": 2, "verbose": 0, "validation_data": data, **task.fit, **fit}
    history = task.model.fit(data, **fit)
    found = report(task.model, history)
    if fit["validation_data"] is not None:
        found["evaluate"] = task.model.evaluate(data, verbose=0)
    return found


def train_with_optimizer(env: Env, name: str) -> Any:
    """The classifier under one of the named optimizers."""
    return train(env, models.classifier, {"optimizer": models.optimizer(env, name)}, {})


def batch_norm_state(env: Env, synchronized: bool) -> Any:
    """Moving statistics after two epochs, and what evaluating with them gives."""
    task = models.batch_norm(env, synchronized=synchronized)
    data = sharded(env, *arrays_of(task))
    task.model.fit(data, epochs=2, verbose=0, shuffle=False)
    layer = task.model.layers[1]
    moving = [layer.moving_mean.numpy(), layer.moving_variance.numpy()]
    return {"moving": moving, "evaluate": task.model.evaluate(data, verbose=0)}


def save_chief_only(env: Env, name: str) -> Any:
    """Only the chief saves, after training with metrics; then everybody trains on."""
    task = models.many_metrics(env)
    data = sharded(env, *arrays_of(task))
    task.model.fit(data, epochs=1, verbose=0)
    if env.is_chief:
        if name == "exported":
            task.model.export(env.path(name), verbose=False)
        elif name.endswith(".weights.h5"):
            task.model.save_weights(env.path(name))
        else:
            task.model.save(env.path(name))
    return task.model.evaluate(data, verbose=0)
