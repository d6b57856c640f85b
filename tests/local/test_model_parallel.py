"""DTensor meshes over ranks: sharded layers compute what unsharded ones do."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

from spark_strategy import Launcher, ModelParallel, get_context
from spark_strategy.errors import PlanError

pytestmark = pytest.mark.usefixtures("spark", "leaves_nothing")

ROWS, WORDS, WIDTH, UNITS = 12, 30, 8, 16


def initial() -> list[np.ndarray]:
    """Embedding, two kernels."""
    random = np.random.default_rng(3)
    shapes = [(WORDS, WIDTH), (WIDTH, UNITS), (UNITS, 4)]
    return [random.normal(size=shape).astype("float32") for shape in shapes]


def batch() -> tuple[np.ndarray, np.ndarray]:
    """Word ids and targets."""
    random = np.random.default_rng(4)
    ids = random.integers(0, WORDS, ROWS).astype("int32")
    return ids, random.normal(size=(ROWS, 4)).astype("float32")


def loss_of(weights: Any, ids: Any, y: Any) -> Any:
    """The model, sharded or not: TensorFlow sees the layouts."""
    import tensorflow as tf

    table, first, second = weights
    hidden = tf.nn.relu(tf.matmul(tf.gather(table, ids), first))
    return tf.reduce_mean(tf.square(tf.matmul(hidden, second) - y))


def sharded() -> dict[str, Any]:
    """Loss, gradients, and what this rank holds."""
    import psutil
    import tensorflow as tf
    from tensorflow.experimental import dtensor

    mesh, whole = get_context().mesh, dtensor.UNSHARDED
    layouts = [[whole, "model"], [whole, "model"], ["model", whole]]
    everywhere = dtensor.Layout.replicated(mesh, rank=2)
    weights = [
        dtensor.DVariable(
            dtensor.relayout(
                dtensor.copy_to_mesh(tf.constant(value), everywhere), dtensor.Layout(layout, mesh)
            )
        )
        for value, layout in zip(initial(), layouts, strict=True)
    ]
    ids, y = (
        dtensor.copy_to_mesh(tf.constant(value), dtensor.Layout.replicated(mesh, value.ndim))
        for value in batch()
    )
    if "batch" in mesh.dim_names:
        ids = dtensor.relayout(ids, dtensor.Layout(["batch"], mesh))
        y = dtensor.relayout(y, dtensor.Layout(["batch", whole], mesh))

    @tf.function
    def both() -> Any:
        with tf.GradientTape() as tape:
            loss = loss_of(weights, ids, y)
        return loss, [
            dtensor.relayout(tf.convert_to_tensor(one), everywhere)
            for one in tape.gradient(loss, weights)
        ]

    loss, gradients = both()
    listening = [
        link.laddr.port
        for link in psutil.Process().net_connections("tcp")
        if link.status == "LISTEN"
    ]
    return {
        "loss": float(loss),
        "gradients": [dtensor.unpack(one)[0].numpy() for one in gradients],
        "shapes": [[tuple(part.shape) for part in dtensor.unpack(w.read_value())] for w in weights],
        "mesh": mesh.size,
        "own": os.environ["DTENSOR_JOBS"].split(",")[get_context().rank],
        "listening": listening,
    }


def unsharded() -> tuple[float, list[np.ndarray]]:
    """The same in this process, with plain variables."""
    import tensorflow as tf

    weights = [tf.Variable(value) for value in initial()]
    with tf.GradientTape() as tape:
        loss = loss_of(weights, *map(tf.constant, batch()))
    return float(loss), [tf.convert_to_tensor(g).numpy() for g in tape.gradient(loss, weights)]


@pytest.mark.parametrize("mesh", [{"model": 2}, {"batch": 2, "model": 2}], ids=str)
@pytest.mark.filterwarnings("ignore:Converting sparse IndexedSlices:UserWarning")
def test_sharded_layers_agree_with_unsharded_ones(mesh: dict[str, int]) -> None:
    """Loss and every gradient; each rank holds its shards only, and listens where it reserved."""
    result = Launcher(ModelParallel(2, mesh=mesh), timeout_s=120, logs=None).run(sharded)

    loss, gradients = unsharded()
    devices = ModelParallel(2, mesh=mesh).devices_per_worker
    for value in result.values:
        assert value["mesh"] == 2 * devices
        assert value["shapes"] == [
            [(WORDS, WIDTH // 2)] * devices,
            [(WIDTH, UNITS // 2)] * devices,
            [(UNITS // 2, 4)] * devices,
        ]
        assert value["loss"] == pytest.approx(loss, rel=1e-5)
        for ours, theirs in zip(value["gradients"], gradients, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
        assert [int(value["own"].rpartition(":")[2])] == value["listening"]


def digits() -> tuple[np.ndarray, np.ndarray]:
    """512 real digits."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return (x / 16).astype("float32")[:512], y.astype("int64")[:512]


def keras_losses(*, on_mesh: bool) -> list[float]:
    """Losses of eight Adam steps: tf_keras's own LayoutMap, or the plain model."""
    import tensorflow as tf
    import tf_keras
    from tensorflow.experimental import dtensor

    def build() -> Any:
        constant = tf_keras.initializers.Constant
        pixels = tf_keras.Input((64,))
        hidden = tf_keras.layers.Dense(16, "tanh", name="hidden", kernel_initializer=constant(0.01))
        out = tf_keras.layers.Dense(10, "softmax", name="out", kernel_initializer=constant(0.02))
        return tf_keras.Model(pixels, out(hidden(pixels)))

    if on_mesh:
        mesh, whole = get_context().mesh, dtensor.UNSHARDED
        layouts = tf_keras.dtensor.experimental.LayoutMap(mesh=mesh)
        layouts["hidden.kernel"] = dtensor.Layout([whole, "model"], mesh)
        layouts["hidden.bias"] = dtensor.Layout(["model"], mesh)
        layouts["out.kernel"] = dtensor.Layout(["model", whole], mesh)
        with layouts.scope():
            model = build()
        sharded = [weight.layout.sharding_specs for weight in model.weights]
        assert sharded == [[whole, "model"], ["model"], ["model", whole], [whole]]
        optimizer = tf_keras.optimizers.Adam(0.01, mesh=mesh)
    else:
        model, optimizer = build(), tf_keras.optimizers.Adam(0.01)

    def given(values: np.ndarray) -> Any:
        tensor = tf.constant(values)
        if not on_mesh:
            return tensor
        return dtensor.copy_to_mesh(tensor, dtensor.Layout.replicated(mesh, values.ndim))

    @tf.function
    def step(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            each = tf_keras.losses.sparse_categorical_crossentropy(y, model(x, training=True))
            loss = tf.reduce_mean(each)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    x, y = digits()
    rows = [slice(first, first + 64) for first in range(0, 512, 64)]
    return [float(step(given(x[part]), given(y[part]))) for part in rows]


def test_tf_keras_trains_a_sharded_model_as_an_unsharded_one() -> None:
    """Layers, gradients and Adam's state follow the LayoutMap; the losses are the plain model's."""
    launcher = Launcher(
        ModelParallel(2, mesh={"batch": 1, "model": 2}),
        env={"TF_USE_LEGACY_KERAS": "1"},
        timeout_s=120,
        logs=None,
    )

    result = launcher.run(keras_losses, on_mesh=True)

    assert result.values[0] == result.values[1]
    assert result.value == pytest.approx(keras_losses(on_mesh=False), rel=1e-5)


def test_a_mesh_that_does_not_fit_is_refused() -> None:
    """The sizes found are in the message."""
    with pytest.raises(PlanError, match=r"1 x 3 = 3 devices, .* each of 2 workers"):
        ModelParallel(2, mesh={"batch": 1, "model": 3})
    with pytest.raises(PlanError, match="sizes of the mesh's dimensions by name"):
        ModelParallel(2, mesh={})
    with pytest.raises(PlanError, match="size is a whole number of at least 1"):
        ModelParallel(2, mesh={"model": 0})
    with pytest.raises(PlanError, match="name is an identifier"):
        ModelParallel(2, mesh={"": 2})
    assert len({ModelParallel(2, {"model": 2}), ModelParallel(2, {"model": 2})}) == 1
    assert str(ModelParallel(2, {"model": 4})) == "ModelParallel(2, mesh={'model': 4})"
