"""What a model function returns is judged against the columns before slots are taken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import pytest

from spark_strategy import shipping
from spark_strategy.data.columns import ColumnSpec
from spark_strategy.data.paths import FileRoot
from spark_strategy.ml.model_check import ModelCheck
from spark_strategy.spark.environment import import_path
from spark_strategy.worker.check_folder import Answer, CheckFolder, CheckOrder
from spark_strategy.worker.model_check import mistake
from spark_strategy.worker.selection import Selection

WAIT_S = 120.0


def column(name: str, dtype: str = "float32", shape: tuple[int, ...] = ()) -> ColumnSpec:
    """A column of a DataFrame."""
    return ColumnSpec(
        name=name, path=(name,), spark_type=dtype, depth=len(shape), dtype=dtype, shape=shape
    )


SPECS = (column("x", shape=(2,)), column("y"), column("s", "string"), column("k", "int64"))


def order(features: Any = "x", label: Any = "y", *, make: Any = None) -> CheckOrder:
    """A check of these columns."""
    model = b"" if make is None else shipping.pickled(make, ((),), {})
    selection = Selection(features, label)
    return CheckOrder(model, selection, SPECS, FileRoot(), str(Path.cwd()), import_path())


def small(width: int = 2, *, loss: str | None = "mse", units: int = 1, **options: Any) -> Any:
    """A model of one input."""
    model = keras.Sequential([keras.Input((width,)), keras.layers.Dense(units)], name="small")
    if loss:
        model.compile("sgd", loss, **options)
    return model


class OwnSteps(keras.Model):
    """A model that takes batches in a way of its own."""

    def train_step(self, data: Any) -> dict[str, Any]:
        """Nothing."""
        return {}


def named_inputs() -> Any:
    """A model of two named inputs, a number and a text."""
    number, text = keras.Input((2,), name="number"), keras.Input((), name="text", dtype="string")
    hashed = keras.layers.Hashing(10)(text)
    both = keras.layers.Concatenate()([number, keras.layers.Embedding(10, 3)(hashed)])
    model = keras.Model({"number": number, "text": text}, keras.layers.Dense(1)(both))
    model.compile("sgd", "mse")
    return model


@pytest.mark.parametrize(
    ("model", "features", "label", "text"),
    [
        (lambda: None, "x", "y", "The model function returned None, and fit needs the compiled"),
        (lambda: 3, "x", "y", "The model function returned a builtins.int"),
        (lambda: small(loss=None), "x", "y", "returned 'small' without compiling it"),
        (lambda: small(3), "x", "y", "does not take the features of shape (None, 2) and dtype fl"),
        (small, "s", "y", "does not take the features of shape (None,) and dtype string"),
        (small, ["y", "k", "x"], "y", "does not take the features of shape (None, 4)"),
        (small, "x", "s", "The label 's' is a string column, and losses take numbers."),
        (
            lambda: small(loss="categorical_crossentropy", units=3),
            "x",
            "k",
            "loss does not take the label of shape (None,) and dtype int64 for its output of shape",
        ),
        (named_inputs, {"number": "x", "txt": "s"}, "y", "does not take the features number of"),
    ],
)
def test_what_would_fail_on_every_rank_is_said(
    model: Callable[[], Any], features: Any, label: Any, text: str
) -> None:
    """In words that name the columns; Keras' own follow."""
    assert text in mistake(model(), order(features, label))


@pytest.mark.parametrize(
    ("model", "features", "label"),
    [
        (small, "x", "y"),
        (small, ["y", "k"], "y"),
        (lambda: small(loss="sparse_categorical_crossentropy", units=3), "x", "k"),
        (named_inputs, {"number": "x", "text": "s"}, "y"),
        (lambda: small(3, run_eagerly=True), "x", "y"),
        (lambda: keras.Sequential([keras.layers.Dense(1)]), "x", "y"),
        (OwnSteps, "s", "s"),
    ],
)
def test_what_may_train_is_left_alone(model: Callable[[], Any], features: Any, label: Any) -> None:
    """Also models whose own steps or eager code no trace can foresee."""
    made = model()
    if not made.compiled:
        made.compile("sgd", "mse")

    assert mistake(made, order(features, label)) == ""


def test_a_check_answers_from_a_process_of_its_own(tmp_path: Path) -> None:
    """A mistake is a PlanError; a function that fails here alone, or is right, is not one."""

    def forgets() -> None:
        keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])

    def needs_a_file() -> Any:
        (tmp_path / "only on the executors").read_text()

    def right() -> Any:
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        return model

    makes = (forgets, needs_a_file, right)
    checks = [ModelCheck(order(make=make), polite=True) for make in makes]
    with checks[0], checks[1], checks[2]:
        found = [check.mistake(WAIT_S) for check in checks]

    assert "The model function returned None" in str(found[0])
    assert found[1:] == [None, None]
    with ModelCheck(order(make=right), polite=False) as again:
        assert again.mistake() is None
        assert again._folder is None, "what was found right is not checked again"


def test_an_answer_reads_back_and_is_not_there_before(tmp_path: Path) -> None:
    """Both ends of the folder."""
    folder = CheckFolder(tmp_path)

    assert folder.read() is None
    folder.prepare(order("x", "y"))
    assert folder.read_order() == order("x", "y")
    folder.write(Answer("a mistake"))
    assert folder.read() == Answer("a mistake")
