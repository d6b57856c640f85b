"""What the tests of uneven data run: each rank trains on its rows, the single process on unions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any

import numpy as np

import models
from cases import arrays_of, report
from models import Task
from rank_process import Env


@dataclass(frozen=True)
class Cut:
    """How the rows of a run lie on ranks and in steps.

    Args:
        rows: of each rank.
        global_batch: about how many rows a step has; ranks spread theirs over the steps.
        known: whether the datasets say how many batches they have.
    """

    rows: tuple[int, ...]
    global_batch: int
    known: bool = False

    @property
    def steps(self) -> int:
        """As many as one process would take."""
        return -(-sum(self.rows) // self.global_batch)

    def batches(self, rank: int | None) -> list[Any]:
        """Row numbers of each step: a rank's own, or for the single process those of all ranks."""
        ends = np.cumsum(self.rows)
        own = [
            np.array_split(np.arange(end - rows, end), self.steps)
            for rows, end in zip(self.rows, ends, strict=True)
        ]
        # Idle ranks take turns: array_split gives the larger parts to the first steps.
        own = [parts if n % 2 == 0 else parts[::-1] for n, parts in enumerate(own)]
        if rank is not None:
            return own[rank]
        return [np.concatenate(parts) for parts in zip(*own, strict=True)]


def fed(env: Env, cut: Cut, arrays: Any) -> Any:
    """A dataset of this process's batches."""
    tf = env.tf
    batches = cut.batches(env.rank)
    spec = tf.nest.map_structure(
        lambda array: tf.TensorSpec([None, *array.shape[1:]], array.dtype), arrays
    )

    def generate() -> Any:
        for rows in batches:
            yield tf.nest.map_structure(itemgetter(rows), arrays)

    data = tf.data.Dataset.from_generator(generate, output_signature=spec)
    if env.rank is None or cut.known:
        data = data.apply(tf.data.experimental.assert_cardinality(len(batches)))
    if env.rank is None:
        return data
    from spark_strategy.worker.sharded import sharded

    return sharded(data).prefetch(1)


def train(
    env: Env, cut: Cut, build: Callable[..., Task], fit: Any = None, options: Any = None
) -> Any:
    """Fits with validation on other rows, then evaluates."""
    task = build(env, **(options or {}))
    data = fed(env, cut, arrays_of(task))
    if fit and "steps_per_epoch" in fit:
        data = data.repeat()
    other = replace(cut, rows=cut.rows[::-1])
    validation = fed(env, other, arrays_of(task))
    given = {"epochs": 2, "verbose": 0, "validation_data": validation, **task.fit, **(fit or {})}
    history = task.model.fit(data, **given)
    found = report(task.model, history)
    found["evaluate"] = task.model.evaluate(validation, verbose=0)
    return found


def everything(env: Env) -> Task:
    """Two outputs, sample weights, L2, add_loss, metrics of every kind, in one model."""
    keras, tf = env.keras, env.tf
    layers = keras.layers

    class Activity(layers.Layer):
        def call(self, x: Any) -> Any:
            self.add_loss(0.1 * tf.reduce_mean(tf.square(x)))
            return x

    inputs = keras.Input((models.FEATURES,), name="table")
    hidden = layers.Dense(6, activation="tanh", kernel_regularizer="l2")(inputs)
    hidden = Activity()(hidden)
    label = layers.Dense(models.CLASSES, activation="softmax", name="label")(hidden)
    total = layers.Dense(1, name="total")(hidden)
    model = keras.Model({"table": inputs}, {"label": label, "total": total})
    model.compile(
        optimizer=keras.optimizers.Adam(0.01, global_clipnorm=1.0),
        loss={"label": "sparse_categorical_crossentropy", "total": "mse"},
        loss_weights={"label": 1.0, "total": 0.5},
        metrics={"label": ["accuracy"], "total": ["mae"]},
        weighted_metrics={
            "label": [keras.metrics.SparseCategoricalCrossentropy(name="cross")],
            "total": [keras.metrics.MeanSquaredError(name="squared")],
        },
    )
    x, y = models.table()
    weights = np.linspace(0.5, 2, models.ROWS).astype("float32")
    return Task(
        model,
        {"table": x},
        {"label": y, "total": x.sum(1, keepdims=True)},
        {"label": weights, "total": weights[::-1].copy()},
    )


def summed(env: Env) -> Task:
    """A loss that is a sum over rows."""
    loss = env.keras.losses.SparseCategoricalCrossentropy(reduction="sum")
    return models.classifier(env, loss=loss, optimizer=env.keras.optimizers.SGD(0.001))


def own_mean(env: Env) -> Task:
    """A loss function that returns the mean itself."""

    def loss(y: Any, predicted: Any) -> Any:
        y = env.tf.reshape(y, [-1, 1])
        return env.tf.reduce_mean(env.tf.square(predicted - env.tf.cast(y, predicted.dtype)))

    return models.classifier(env, loss=loss)


def own_step(env: Env) -> Task:
    """A train_step that calls compute_loss, which the model overrides and passes on."""
    tf = env.tf

    class Net(env.keras.Sequential):
        def compute_loss(
            self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None
        ) -> Any:
            return 2.0 * super().compute_loss(x, y, y_pred, sample_weight)

        def train_step(self, data: Any) -> Any:
            x, y = data
            with tf.GradientTape() as tape:
                predicted = self(x, training=True)
                loss = self.compute_loss(x, y, predicted)
            variables = self.trainable_variables
            self.optimizer.apply_gradients(
                zip(tape.gradient(loss, variables), variables, strict=True)
            )
            return self.compute_metrics(x, y, predicted, None)

    model = Net(models.dense_layers(env))
    model.compile(
        env.keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return Task(model, *models.table())


def convolution(env: Env) -> Task:
    """Convolution, pooling and synchronized BatchNormalization."""
    layers = env.keras.layers
    return models.classifier(
        env,
        layers=[
            layers.Reshape((models.FEATURES, 1)),
            layers.Conv1D(4, 3, activation="relu"),
            layers.BatchNormalization(synchronized=True),
            layers.MaxPooling1D(2),
            layers.Flatten(),
            layers.Dense(models.CLASSES, activation="softmax"),
        ],
    )


def batch_norm(env: Env, cut: Cut) -> Any:
    """Moving statistics, and all weights, of a model that normalises per replica."""
    normalize = env.keras.layers.BatchNormalization(momentum=0.8)
    task = models.classifier(env, layers=[normalize, *models.dense_layers(env)])
    history = task.model.fit(fed(env, cut, arrays_of(task)), epochs=2, verbose=0)
    found = report(task.model, history)
    found["mean"] = normalize.moving_mean.numpy()
    found["variance"] = normalize.moving_variance.numpy()
    return found


def predict(env: Env, cut: Cut) -> Any:
    """Predictions for a cut."""
    task = models.multi_io(env)
    return task.model.predict(fed(env, cut, (task.x,)), verbose=0)


def custom_loop(env: Env, cut: Cut) -> Any:
    """A loop over ``strategy.run``, with losses of rows divided by the step's rows."""
    tf = env.tf
    task = models.classifier(env)
    model, optimizer = task.model, env.keras.optimizers.SGD(0.1)
    model.build((None, models.FEATURES))
    strategy = env.strategy or tf.distribute.get_strategy()
    optimizer.build(model.trainable_variables)
    rows = env.keras.losses.SparseCategoricalCrossentropy(reduction="none", from_logits=False)

    def step(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            losses = rows(y, model(x, training=True))
            context = tf.distribute.get_replica_context()
            total = context.all_reduce("SUM", tf.shape(x)[0])
            loss = tf.nn.compute_average_loss(losses, global_batch_size=total)
        variables = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    @tf.function
    def run(batch: Any) -> Any:
        return strategy.reduce("SUM", strategy.run(step, args=batch), axis=None)

    data = strategy.experimental_distribute_dataset(fed(env, cut, (task.x, task.y)))
    losses = [float(run(batch)) for _ in range(2) for batch in data]
    return losses, [v.numpy() for v in model.weights], int(optimizer.iterations.numpy())
