"""A loaded model computes for several tasks at once."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf

from spark_strategy.worker.program import KerasProgram

THREADS, CALLS = 8, 1000


@pytest.fixture
def often_switching() -> Iterator[None]:
    """Threads take turns so often that what they must not share shows."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("often_switching")
@pytest.mark.parametrize("package", ["keras", "tf_keras"])
def test_threads_compute_at_once(package: str) -> None:
    """Batches of several sizes, each with the bits of ``predict``."""
    keras = importlib.import_module(package)
    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(4, "tanh")])
    program = KerasProgram(model)
    element = tf.TensorSpec([None, 3], tf.float32)
    (output,) = program.outputs(element)
    assert (output.dtype, output.shape) == ("float32", (4,))
    compute = program.function(element)
    batches = [np.random.default_rng(k).normal(size=(5 + k, 3)).astype("f4") for k in range(4)]
    expected = [model.predict(batch, verbose=0) for batch in batches]

    def computed(call: int) -> None:
        (values,) = compute(batches[call % 4])
        np.testing.assert_array_equal(values, expected[call % 4])

    with ThreadPoolExecutor(THREADS) as pool:
        assert len(list(pool.map(computed, range(CALLS)))) == CALLS


@pytest.mark.parametrize(
    ("package", "steps"), [("keras", 4), ("tf_keras", 4), ("tf_keras", "auto")]
)
def test_a_model_that_was_compiled_for_several_steps(package: str, steps: int | str) -> None:
    """A program is given one batch at a time, whatever ``fit`` was given."""
    keras = importlib.import_module(package)
    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(4)])
    model.compile("sgd", "mse", steps_per_execution=steps)
    batch = np.ones((5, 3), "f4")
    expected = keras.models.clone_model(model)
    expected.set_weights(model.get_weights())

    (values,) = KerasProgram(model).function(tf.TensorSpec([None, 3], tf.float32))(batch)

    np.testing.assert_array_equal(values, expected.predict(batch, verbose=0))
