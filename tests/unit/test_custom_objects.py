"""Classes of the user's own on the way through a saved model, also in several threads at once."""

from __future__ import annotations

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import keras
import pytest

from spark_strategy.keras import transport
from spark_strategy.keras.custom_objects import named_lambdas, readable


class Scale(keras.layers.Layer):
    """What most people write."""

    def __init__(self) -> None:
        super().__init__()

    def build(self, _: Any) -> None:
        """One weight."""
        self.factor = self.add_weight(shape=(1,), initializer="ones")

    def call(self, inputs: Any) -> Any:
        """Scaled."""
        return inputs * self.factor


@keras.saving.register_keras_serializable("test_custom_objects")
class Registered(Scale):
    """The same, in Keras's own registry, which goes above all other names."""


class Full(Scale):
    """It takes what Keras passes."""

    def __init__(self, **options: Any) -> None:
        keras.layers.Layer.__init__(self, **options)


class OwnWay(Scale):
    """It revives itself, and so gets everything."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> OwnWay:
        """Named by what it was given."""
        made = cls()
        made.revived_from = dict(config)
        return made


class Below(OwnWay):
    """It inherits that."""


def test_two_threads_revive_models_of_the_same_classes() -> None:
    """Two runs end at once, and a fit that saves goes on beside them; no class is changed."""
    model = keras.Sequential([keras.Input((4,)), Scale(), Registered(), keras.layers.Dense(2)])
    sent = transport.dumps(model)
    before = dict(vars(Scale))
    together = threading.Barrier(3)

    def revive() -> list[str]:
        together.wait(60)
        return [
            " ".join(type(layer).__name__ for layer in pickle.loads(sent).layers) for _ in range(5)
        ]

    with ThreadPoolExecutor(3) as pool:
        names = [pool.submit(revive) for _ in range(3)]
        assert {name for one in names for name in one.result(120)} == {"Scale Registered Dense"}
    assert dict(vars(Scale)) == before


def test_two_threads_send_models_that_share_a_lambda() -> None:
    """Its name while it is saved is one thread's at a time, and its own afterwards."""
    shared = eval("lambda x: x * 2.0 + offset", {"offset": 1.0})
    models = [
        keras.Sequential([keras.Input((1,)), keras.layers.Lambda(shared, output_shape=(1,))])
        for _ in range(2)
    ]
    together = threading.Barrier(2)

    def send(model: keras.Model) -> list[float]:
        together.wait(60)
        revived = [pickle.loads(transport.dumps(model)) for _ in range(5)]
        return [float(one(keras.ops.ones((1, 1)))[0, 0]) for one in revived]

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(send, models)) == [[3.0] * 5] * 2
    assert shared.__name__ == "<lambda>"
    with named_lambdas(models[0]) as named:
        assert list(named.values()) == [shared]


@pytest.mark.parametrize(
    ("own", "left"),
    [
        (Scale, {"rate": 1}),
        (Registered, {"rate": 1}),
        (Full, {"name": "n", "dtype": "float32", "trainable": True, "rate": 1}),
        (OwnWay, {"name": "n", "dtype": "float32", "trainable": True, "rate": 1}),
        (Below, {"name": "n", "dtype": "float32", "trainable": True, "rate": 1}),
    ],
)
def test_only_what_a_plain_constructor_does_not_take_is_left_out(
    own: type, left: dict[str, Any]
) -> None:
    """Everywhere in the configuration; classes of Keras by the same name keep theirs."""
    config = {"name": "n", "dtype": "float32", "trainable": True, "rate": 1}
    ours = {"module": None, "class_name": "Own", "registered_name": "x>Own", "config": config}
    keras_own = {**ours, "module": "keras.layers", "registered_name": None}
    given = {"config": {"layers": [ours, keras_own], "name": "net"}, "class_name": "Sequential"}

    got = readable(given, {"Own": own, "x>Own": own})

    expected = {**given, "config": {"layers": [{**ours, "config": left}, keras_own], "name": "net"}}
    assert got == expected
    assert given["config"]["layers"][0]["config"] == config  # type: ignore[index]
