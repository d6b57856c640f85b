"""A model has one name for one content, however often it is built."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from spark_strategy.ml.models import described


def builder(package: str, *, seed: int = 3, factor: int = 2) -> Callable[[], Any]:
    """Builds a model with a layer of its own, whose class is made at each call."""
    keras = importlib.import_module(package)

    def build() -> Any:
        keras.utils.set_random_seed(seed)

        class Scaled(keras.layers.Layer):  # type: ignore[misc, name-defined]
            def call(self, x: Any) -> Any:
                return factor * x

        image = keras.layers.Input((4,))
        left, right = keras.layers.Dense(3)(image), keras.layers.Dense(3)(Scaled()(image))
        return keras.Model(image, keras.layers.Concatenate()([left, right]))

    return build


def key(model: Any, weights: Any = None) -> str:
    """What a server that holds the model is found by."""
    source, _ = described(model, None, weights)
    return source.key


@pytest.mark.parametrize("package", ["keras", "tf_keras"])
def test_a_function_that_builds_the_same_model_again(package: str) -> None:
    """Neither the layers' numbers, nor a new class, nor when it was saved makes another one."""
    build = builder(package)
    first = key(build)
    assert key(build) == first
    assert key(build()) == first
    assert key(builder(package)) == first
    weights = build().get_weights()
    assert key(build, weights) == key(builder(package), weights)


@pytest.mark.parametrize("package", ["keras", "tf_keras"])
def test_what_changes_the_numbers_changes_the_name(package: str) -> None:
    """Weights, a class's own code and variables, how layers are connected, what they are told."""
    keras = importlib.import_module(package)

    def connected(*, swapped: bool, activation: str = "relu") -> Any:
        keras.utils.set_random_seed(1)
        one, two = keras.layers.Input((2,)), keras.layers.Input((2,))
        a = keras.layers.Dense(2, activation=activation)(one)
        b = keras.layers.Dense(2, activation=activation)(two)
        return keras.Model([one, two], [b, a] if swapped else [a, b])

    keys = [
        key(builder(package)),
        key(builder(package, seed=4)),
        key(builder(package, factor=3)),
        key(connected(swapped=False)),
        key(connected(swapped=True)),
        key(connected(swapped=False, activation="tanh")),
        key(builder(package), [np.zeros((4, 3)), np.zeros(3)] * 2),
        key(builder(package), [np.ones((4, 3)), np.zeros(3)] * 2),
    ]
    assert len(set(keys)) == len(keys)
