"""What the parity tests run on every process: train, evaluate, predict, and say what came out."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from typing import Any

import numpy as np

import models
from models import Task
from rank_process import Env

BATCH = 32


def sharded(env: Env, *arrays: Any, batch: int = BATCH) -> Any:
    """A tf.data pipeline of global batches, of which each rank takes its part of every batch."""
    data = env.tf.data.Dataset.from_tensor_slices(arrays).batch(batch)
    options = env.tf.data.Options()
    options.experimental_distribute.auto_shard_policy = (
        env.tf.data.experimental.AutoShardPolicy.DATA
    )
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


def train(
    env: Env, build: Callable[..., Task], options: dict[str, Any], fit: dict[str, Any]
) -> Any:
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


def train_arrays(env: Env, shuffle: bool, seeded: bool) -> Any:
    """Numpy arrays given to fit itself, with validation_split; the rows a rank saw are summed."""
    if not seeded:
        env.forget_seed()
    task = models.classifier(env)
    history = task.model.fit(
        task.x,
        task.y,
        batch_size=BATCH,
        epochs=2,
        verbose=0,
        shuffle=shuffle,
        validation_split=0.25,
    )
    return report(task.model, history)


def rows_seen(env: Env) -> Any:
    """One unseeded, shuffled epoch over arrays: how often each row was seen, over all ranks."""
    env.forget_seed()
    seen = env.keras.metrics.Mean(name="seen", dtype="float32")

    class Count(env.keras.Sequential):
        def train_step(self, data: Any) -> Any:
            x, _ = data
            rows = env.tf.one_hot(env.tf.cast(x[:, 0], "int32"), models.ROWS)
            self.counts.assign_add(env.tf.reduce_sum(rows, 0))
            seen.update_state(x)
            return {"seen": seen.result()}

    model = Count([env.keras.layers.Dense(1)])
    model.counts = model.add_weight(shape=(models.ROWS,), initializer="zeros", name="counts")
    model.compile(optimizer="sgd")
    x = np.arange(models.ROWS, dtype="float32")[:, None]
    model.fit(x, x, batch_size=BATCH, verbose=0, shuffle=True)
    return model.counts.numpy()


def train_presharded(env: Env, way: str) -> Any:
    """Every rank's pipeline holds its own rows only.

    Args:
        env: the process.
        way: "OFF", auto-sharding off; or "function", ``distribute_datasets_from_function``.
    """
    task = models.classifier(env)
    x, y = task.x, task.y
    if env.rank is not None:
        half = np.arange(models.ROWS).reshape(-1, 2, BATCH // 2)[:, env.rank].ravel()
        x, y = x[half], y[half]
    options = env.tf.data.Options()
    options.experimental_distribute.auto_shard_policy = env.tf.data.experimental.AutoShardPolicy.OFF
    rows = env.tf.data.Dataset.from_tensor_slices((x, y)).with_options(options)
    fit: dict[str, Any] = {}
    if way == "OFF" or env.rank is None:
        data = rows.batch(BATCH)
    else:
        local = rows.batch(BATCH // 2)
        if not env.is_keras3:  # it does not ask such a dataset for its size
            local, fit = local.repeat(), {"steps_per_epoch": models.ROWS // BATCH}
        data = env.strategy.distribute_datasets_from_function(lambda _context: local)
    return report(task.model, task.model.fit(data, epochs=2, verbose=0, **fit))


def mixed_precision(env: Env, policy: str, overflow: bool) -> Any:
    """Training under a policy; on demand one row, which rank 1 holds, overflows float16."""
    env.keras.mixed_precision.set_global_policy(policy)
    task = models.classifier(env)
    x = task.x.copy()
    if overflow:
        x[BATCH - 1] = 1e30
    data = sharded(env, x, task.y)
    history = task.model.fit(data, epochs=1, verbose=0)
    found = report(task.model, history)
    if policy == "mixed_float16":
        optimizer = task.model.optimizer
        scale = optimizer.dynamic_scale if env.is_keras3 else optimizer.loss_scale
        found["scale"] = float(scale.numpy())
    return found


def dropout(env: Env) -> Any:
    """Two runs from one seed; dropout's masks are drawn per replica."""

    def run() -> Any:
        env.keras.utils.set_random_seed(3)
        first, last = models.dense_layers(env)
        task = models.classifier(env, layers=[first, env.keras.layers.Dropout(0.5, seed=5), last])
        task.model.fit(sharded(env, *arrays_of(task)), epochs=2, verbose=0)
        return [v.numpy() for v in task.model.trainable_weights]

    return run(), run()


def predict(env: Env) -> Any:
    """Predictions for arrays and for a tf.data pipeline."""
    task = models.multi_io(env)
    from_arrays = task.model.predict(task.x, batch_size=BATCH, verbose=0)
    return from_arrays, task.model.predict(sharded(env, task.x), verbose=0)


def batch_norm_state(env: Env, synchronized: bool) -> Any:
    """Moving statistics of a layer that sees the rows themselves, and all other weights."""
    normalize = env.keras.layers.BatchNormalization(momentum=0.8, synchronized=synchronized)
    task = models.classifier(env, layers=[normalize, *models.dense_layers(env)])
    data = sharded(env, *arrays_of(task))
    task.model.fit(data, epochs=2, verbose=0)
    state = {"mean": normalize.moving_mean.numpy(), "variance": normalize.moving_variance.numpy()}
    return {**state, "weights": [v.numpy() for v in task.model.weights]}


def verbosity(env: Env, verbose: Any) -> Any:
    """What fit, evaluate and predict print."""
    task = models.classifier(env)
    data = sharded(env, *arrays_of(task))
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        task.model.fit(data, verbose=verbose)
        task.model.evaluate(data, verbose=verbose)
        task.model.predict(task.x, verbose=verbose)
    return printed.getvalue()


def canaries(env: Env) -> Any:
    """Which repairs fit the installed Keras, and which faults it shows in this process."""
    from spark_strategy.keras import keras3, tf_keras

    repairs = keras3.REPAIRS if env.is_keras3 else tf_keras.REPAIRS
    # After the repair only the first two of Keras 3 can still be asked.
    asked = repairs if env.rank is None else repairs[: 2 * env.is_keras3]
    return {repair.name: (repair.fits(), repair.faulty()) for repair in asked}
