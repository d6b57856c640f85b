"""Models of the parity suite: each builds a compiled model and the arrays it is trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rank_process import Env

ROWS = 128
FEATURES = 6
CLASSES = 3
TOKENS = 20


@dataclass(frozen=True)
class Task:
    """A compiled model, its inputs, its targets and what fit is given besides."""

    model: Any
    x: Any
    y: Any
    weights: Any = None
    fit: dict[str, Any] = field(default_factory=dict)


def table(seed: int = 0) -> tuple[Any, Any]:
    """Rows of floats, and a class that follows from them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(ROWS, FEATURES)).astype("float32")
    return x, x[:, :CLASSES].argmax(1).astype("int32")


def tokens() -> tuple[Any, Any]:
    """Rows of token ids, and whether the first is above the last."""
    rng = np.random.default_rng(1)
    x = rng.integers(0, TOKENS, size=(ROWS, 5)).astype("int32")
    return x, (x[:, 0] > x[:, -1]).astype("int32")


def dense_layers(env: Env, **options: Any) -> list[Any]:
    """A small classifier's layers, all drawing from seeded initialisers."""
    layers = env.keras.layers
    return [
        layers.Dense(8, activation="relu", **options),
        layers.Dense(CLASSES, activation="softmax", dtype="float32"),
    ]


def classifier(env: Env, *, optimizer: Any = None, layers: Any = None, **options: Any) -> Task:
    """Sequential, sparse categorical cross-entropy, accuracy; anything may be exchanged."""
    model = env.keras.Sequential(layers or dense_layers(env))
    options = {
        "loss": "sparse_categorical_crossentropy",
        "metrics": ["accuracy"],
        **options,
    }
    model.compile(optimizer=optimizer or env.keras.optimizers.Adam(0.01), **options)
    return Task(model, *table())


def multi_io(env: Env) -> Task:
    """Two named inputs, two named outputs with losses, weights and metrics of their own."""
    layers = env.keras.layers
    left = env.keras.Input((FEATURES,), name="left")
    right = env.keras.Input((FEATURES,), name="right")
    both = layers.Concatenate()([layers.Dense(4, activation="relu")(left), right])
    label = layers.Dense(CLASSES, activation="softmax", name="label")(both)
    total = layers.Dense(1, name="total")(both)
    model = env.keras.Model({"left": left, "right": right}, {"label": label, "total": total})
    model.compile(
        optimizer=env.keras.optimizers.Adam(0.01),
        loss={"label": "sparse_categorical_crossentropy", "total": "mse"},
        loss_weights={"label": 1.0, "total": 0.5},
        metrics={"label": ["accuracy"], "total": ["mae"]},
    )
    x, y = table()
    return Task(
        model,
        {"left": x, "right": x[:, ::-1].copy()},
        {"label": y, "total": x.sum(1, keepdims=True)},
    )


def subclassed(env: Env) -> Task:
    """A Model subclass with a layer subclass inside it."""

    class Scale(env.keras.layers.Layer):
        def build(self, shape: Any) -> None:
            self.factor = self.add_weight(shape=(shape[-1],), initializer="ones", name="factor")

        def call(self, x: Any) -> Any:
            return x * self.factor

    class Net(env.keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = [Scale(), *dense_layers(env)]

        def call(self, x: Any) -> Any:
            for block in self.blocks:
                x = block(x)
            return x

    model = Net()
    model.compile(
        env.keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return Task(model, *table())


def batch_norm(env: Env, *, synchronized: bool) -> Task:
    """BatchNormalization between two dense layers."""
    first, last = dense_layers(env)
    middle = env.keras.layers.BatchNormalization(momentum=0.8, synchronized=synchronized)
    return classifier(env, layers=[first, middle, last])


def recurrent(env: Env) -> Task:
    """Embedding and LSTM."""
    layers = env.keras.layers
    model = env.keras.Sequential(
        [layers.Embedding(TOKENS, 4), layers.LSTM(5), layers.Dense(1, activation="sigmoid")]
    )
    model.compile(env.keras.optimizers.Adam(0.01), "binary_crossentropy", metrics=["accuracy"])
    return Task(model, *tokens())


def custom_step(env: Env) -> Task:
    """A train_step of the user's own, with a metric of its own."""
    tf = env.tf

    class Net(env.keras.Sequential):
        def train_step(self, data: Any) -> Any:
            x, y = data
            with tf.GradientTape() as tape:
                rows = env.keras.losses.sparse_categorical_crossentropy(y, self(x, training=True))
                loss = tf.reduce_sum(rows) / env.global_rows(rows)
            variables = self.trainable_variables
            self.optimizer.apply_gradients(
                zip(tape.gradient(loss, variables), variables, strict=True)
            )
            self.seen.update_state(rows)
            return {"seen": self.seen.result()}

        @property
        def metrics(self) -> list[Any]:
            return [self.seen]

    model = Net(dense_layers(env))
    model.seen = env.keras.metrics.Mean(name="seen")
    model.compile(optimizer=env.keras.optimizers.Adam(0.01))
    return Task(model, *table())


def add_loss(env: Env) -> Task:
    """A layer that adds the mean of its activity to the loss."""

    class Activity(env.keras.layers.Layer):
        def call(self, x: Any) -> Any:
            self.add_loss(0.1 * env.tf.reduce_mean(env.tf.square(x)))
            return x

    first, last = dense_layers(env)
    return classifier(env, layers=[first, Activity(), last])


def regularized(env: Env) -> Task:
    """L2 on kernels: a loss that does not depend on the rows."""
    return classifier(env, layers=dense_layers(env, kernel_regularizer="l2"))


def many_metrics(env: Env) -> Task:
    """Mean, accuracy, AUC and top-k, weighted and not."""
    metrics = env.keras.metrics
    x, y = table()
    task = classifier(
        env,
        loss="categorical_crossentropy",
        metrics=[
            "accuracy",
            metrics.AUC(num_thresholds=50),
            metrics.TopKCategoricalAccuracy(k=2, name="top2"),
            metrics.MeanSquaredError(name="squared"),
        ],
        weighted_metrics=[metrics.CategoricalAccuracy(name="weighted")],
    )
    return Task(task.model, x, np.eye(CLASSES, dtype="float32")[y], np.linspace(0.5, 2, ROWS))


def optimizer(env: Env, name: str) -> Any:
    """The optimizers whose update could depend on how gradients are reduced."""
    made = env.keras.optimizers
    builders: dict[str, Callable[[], Any]] = {
        "adam": lambda: made.Adam(0.01),
        "momentum": lambda: made.SGD(0.05, momentum=0.9, nesterov=True),
        "rmsprop": lambda: made.RMSprop(0.01),
        "decay_global_clipnorm": lambda: made.AdamW(0.01, weight_decay=0.1, global_clipnorm=0.05),
        "clipnorm": lambda: made.SGD(0.1, clipnorm=0.05),
        "clipvalue": lambda: made.SGD(0.1, clipvalue=0.01),
        "ema": lambda: made.Adam(0.01, use_ema=True, ema_momentum=0.8),
        "ema_overwrite": lambda: made.Adam(
            0.01, use_ema=True, ema_momentum=0.8, ema_overwrite_frequency=3
        ),
        "accumulation": lambda: made.Adam(0.01, gradient_accumulation_steps=2),
        "schedule": lambda: made.SGD(made.schedules.ExponentialDecay(0.1, 2, 0.5)),
    }
    return builders[name]()
