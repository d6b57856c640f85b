"""``fit`` on a DataFrame gives the model that Keras alone gives on the same rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - as everyone writes it

from spark_strategy import Column, Launcher, MultiWorker, fit
from spark_strategy.errors import DataError, PlanError

pytestmark = pytest.mark.usefixtures("leaves_nothing")

LAUNCHER = Launcher(MultiWorker(2), logs=None, timeout_s=150)
ROWS = 90


def table() -> pd.DataFrame:
    """Two numbers, a vector, a target for each of two outputs, a weight."""
    random = np.random.default_rng(1)
    a, b = random.normal(size=(2, ROWS)).astype(np.float32)
    v = random.normal(size=(ROWS, 3)).astype(np.float32)
    return pd.DataFrame(
        {
            "a": a,
            "b": b,
            "v": list(v),
            "y": a - 2 * b + v.sum(1),
            "z": (a > b).astype(np.int64),
            "w": random.uniform(0.5, 2, ROWS).astype(np.float32),
            "held": np.arange(ROWS) % 3 == 0,
        }
    )


def frame(spark: SparkSession) -> DataFrame:
    """The same on Spark, with its own types."""
    types = "a float, b float, v array<float>, y float, z long, w float, held boolean"
    return spark.createDataFrame(table(), types)


def build(rate: float = 0.05) -> keras.Model:
    """One input of five numbers; full-batch descent does not depend on the order of rows."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate), "mse", metrics=["mae"], weighted_metrics=["mse"])
    return model


def columns(rows: pd.DataFrame) -> Any:
    """The features as ``["a", "b", "v"]`` are: side by side."""
    return np.concatenate([rows[["a", "b"]], np.stack(list(rows["v"]))], axis=1, dtype=np.float32)


def test_history_and_weights_equal_keras_alone(spark: SparkSession) -> None:
    """With row weights, and with validation by a column; one step an epoch holds all rows."""
    fitted = fit(
        build,
        frame(spark),
        launcher=LAUNCHER,
        features=["a", "b", "v"],
        label="y",
        weight="w",
        batch_size=ROWS,
        epochs=3,
        validation="held",
    )
    rows = table()
    train, held = rows[~rows["held"]], rows[rows["held"]]
    alone = build()
    history = alone.fit(
        columns(train),
        train["y"].to_numpy(),
        sample_weight=train["w"].to_numpy(),
        validation_data=(columns(held), held["y"].to_numpy(), held["w"].to_numpy()),
        batch_size=ROWS,
        epochs=3,
        verbose=0,
    ).history
    assert set(fitted.history) == set(history)
    for name, values in history.items():
        np.testing.assert_allclose(fitted.history[name], values, rtol=2e-4, err_msg=name)
    for ours, theirs in zip(fitted.model.get_weights(), alone.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=1e-6)
    assert int(fitted.model.optimizer.iterations.numpy()) == 3
    assert fitted.run.rows == ROWS
    assert fitted.run.rows_per_s > 0


def two_of_each() -> keras.Model:
    """Two inputs and two outputs, by name."""
    keras.utils.set_random_seed(1)
    first, second = keras.Input((), name="first"), keras.Input((4,), name="second")
    joined = keras.layers.Concatenate()([keras.layers.Reshape((1,))(first), second])
    outputs = {
        "amount": keras.layers.Dense(1, name="amount")(joined),
        "kind": keras.layers.Dense(2, activation="softmax", name="kind")(joined),
    }
    model = keras.Model([first, second], outputs)
    model.compile(
        "adam",
        {"amount": "mse", "kind": "sparse_categorical_crossentropy"},
        metrics={"kind": ["accuracy"]},
    )
    return model


def test_inputs_and_outputs_by_name_callbacks_and_a_random_share(
    spark: SparkSession, tmp_path: Path
) -> None:
    """The chief writes the checkpoint; a quarter of the rows validates."""
    fitted = fit(
        two_of_each,
        frame(spark),
        launcher=LAUNCHER,
        features={"first": "a", "second": ["b", "v"]},
        label={"amount": "y", "kind": "z"},
        batch_size=16,
        epochs=2,
        validation=0.25,
        seed=3,
        callbacks=[keras.callbacks.ModelCheckpoint(str(tmp_path / "{epoch}.keras"))],
    )
    assert len(fitted.history["val_kind_accuracy"]) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.keras", "2.keras"]
    trained = int(fitted.model.optimizer.iterations.numpy())
    assert 2 * 3 <= trained <= 2 * 6
    saved = keras.saving.load_model(tmp_path / "2.keras")
    for ours, theirs in zip(fitted.model.get_weights(), saved.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_compiled_model_continues_from_where_it_is(spark: SparkSession) -> None:
    """Weights and optimizer state; class weights, steps_per_epoch and another DataFrame as well."""
    begun = build()
    begun.fit(columns(table()), table()["y"].to_numpy(), batch_size=ROWS, verbose=0)
    fitted = fit(
        begun,
        frame(spark).repartition(3),
        launcher=LAUNCHER,
        features=["a", "b", "v"],
        label="y",
        batch_size=30,
        epochs=2,
        steps_per_epoch=2,
        validation=frame(spark).where(F.col("held")),
    )
    assert int(fitted.model.optimizer.iterations.numpy()) == 1 + 2 * 2
    assert len(fitted.history["val_loss"]) == 2


NAMES = ["a.b", "*", "i`d", "", "größe ß", "x", "X", "twice", "twice", "held`.*"]


def test_columns_may_be_called_anything(spark: SparkSession) -> None:
    """Features, label and validation; two of one name beside them, of which none is asked for."""
    rows = [(*(float(k + place) for place in range(9)), k % 4 == 0) for k in range(64)]
    table = spark.createDataFrame(rows, [f"c{k}" for k in range(10)]).toDF(*NAMES)
    fitted = fit(
        build,
        table,
        launcher=LAUNCHER,
        features=NAMES[:5],
        label="X",
        weight="x",
        batch_size=16,
        validation="held`.*",
        columns={name: Column(dtype="float32") for name in NAMES[:5]},
    )
    assert fitted.run.rows == 64
    assert len(fitted.history["val_loss"]) == 1
    with pytest.raises(PlanError, match="Two columns are called 'twice'"):
        fit(build, table, launcher=LAUNCHER, features="x", label="twice", batch_size=16)


def small(library: str = "keras") -> Any:
    """One number to one, in either Keras."""
    import importlib

    k = importlib.import_module(library)
    model = k.Sequential([k.layers.Input((1,)), k.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


@pytest.mark.parametrize("library", ["keras", "tf_keras"])
def test_without_rows_to_validate_with_the_model_is_trained(
    spark: SparkSession, library: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The history says nothing of a validation, and so does the log."""
    table = spark.range(20).selectExpr("double(id) x", "double(id % 2) y", "id < 0 v")
    fitted = fit(
        lambda: small(library),
        table,
        launcher=Launcher(MultiWorker(1), logs=None, timeout_s=150),
        features="x",
        label="y",
        batch_size=4,
        epochs=2,
        validation="v" if library == "tf_keras" else table.where("x < 0"),
    )
    assert set(fitted.history) == {"loss"}
    assert int(fitted.model.optimizer.iterations.numpy()) == 10
    assert "no rows to validate with" in caplog.text


def test_no_rows_to_train_on_are_a_data_error(spark: SparkSession) -> None:
    """Before a launch where Spark's plan says so, and otherwise from ranks that agree on it."""
    table = spark.range(20).selectExpr("double(id) x", "double(id % 2) y", "true v")
    asked: dict[str, Any] = {"features": "x", "label": "y", "batch_size": 4, "launcher": LAUNCHER}
    with pytest.raises(DataError, match="no rows to train on") as raised:
        fit(small, table.limit(0), **asked)
    assert raised.value.failures == ()
    with pytest.raises(DataError, match="no rows to train on") as raised:
        fit(small, table, validation="v", **asked)
    assert len(raised.value.failures) == 2


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"features": "nope"}, "no column 'nope'; the columns are a, b, v"),
        ({"batch_size": 0}, "batch_size is a whole number of at least 1, found 0"),
        ({"epochs": 1.5}, "epochs is a whole number of at least 1, found 1.5"),
        ({"validation": 1.5}, "a share above 0 and below 1, found 1.5"),
        ({"validation": 7}, "validation is a DataFrame, a share .* found 7"),
        ({"validation": "nope"}, "no column 'nope'"),
        ({"validation": "a"}, "'a' is float, and validation is a boolean column"),
        ({"model": "mlp"}, "model is a compiled Keras model, or a function"),
        ({"model": keras.Sequential([keras.layers.Dense(1)])}, "is not compiled"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_runs(
    spark: SparkSession, change: dict[str, Any], text: str
) -> None:
    """With what was found, and what there is instead."""
    asked: dict[str, Any] = {
        "model": build,
        "launcher": LAUNCHER,
        "features": "a",
        "label": "y",
        "batch_size": 8,
        **change,
    }
    with pytest.raises(PlanError, match=text):
        fit(asked.pop("model"), frame(spark), **asked)
