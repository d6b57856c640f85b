"""Functions and classes that exist only in ``__main__``, as in a notebook."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import json
import keras
import numpy as np
from spark_strategy import Launcher, MultiWorker, distribute

OFFSET = 7.0


@keras.saving.register_keras_serializable()
class Scale(keras.layers.Layer):
    def build(self, shape):
        self.factor = self.add_weight(shape=(), initializer="ones")

    def call(self, inputs):
        return inputs * self.factor + OFFSET


class Regressor(keras.Model):
    def __init__(self, units, **options):
        super().__init__(**options)
        self.units = units
        self.dense = keras.layers.Dense(units)
        self.scale = Scale()

    def call(self, inputs):
        return self.scale(self.dense(inputs))

    def get_config(self):
        return {"units": self.units}


def data():
    return np.ones((8, 3), "float32"), np.ones((8, 1), "float32")


@distribute(MultiWorker(2), logs=None)
def train(epochs):
    keras.utils.set_random_seed(5)
    x, y = data()
    model = Regressor(1)
    model.compile(loss="mse", optimizer="adam")
    model.fit(x, y, epochs=epochs, verbose=0)
    return [model, model(x).numpy().ravel().tolist()]


Launcher(MultiWorker(1), logs=None, scope=False).run(len, "x")
model, predicted = train(1)
here = model.predict(data()[0], verbose=0).ravel().tolist()
print(json.dumps({"class": type(model).__name__, "here": here, "there": predicted}))
"""


def test_a_model_of_classes_typed_at_a_prompt_comes_back() -> None:
    """No file, no module: the class is the driver's own again, and predicts as on the worker.

    A smaller run before it made the local session, which has room for this one as well.
    """
    done = subprocess.run(
        [sys.executable, "-"],
        input=PROGRAM,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["class"] == "Regressor"
    assert max(abs(a - b) for a, b in zip(said["here"], said["there"], strict=True)) < 1e-5
