"""Mistakes that the driver can see are refused before Spark is asked for anything."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from pyspark import Accumulator, Broadcast
from pyspark.accumulators import INT_ACCUMULATOR_PARAM
from pyspark.sql import DataFrame

from spark_strategy import (
    Column,
    Launcher,
    MultiWorker,
    ParameterServer,
    adapt,
    distribute,
    fit,
    predict,
    register_udf,
    shipping,
)
from spark_strategy.data.columns import ColumnSpec
from spark_strategy.errors import PlanError
from spark_strategy.ml import fit_arguments
from spark_strategy.suggestion import did_you_mean
from spark_strategy.train_function import check_call
from spark_strategy.worker.current import entered
from spark_strategy.worker.selection import Selection


def train(epochs: int, *, rate: float = 0.1) -> None:
    """A train function."""


async def waits() -> None:
    """Not a train function."""


def yields() -> Iterator[int]:
    """Not a train function."""
    yield 1


async def yields_later() -> AsyncIterator[int]:
    """Not a train function."""
    yield 1


class Yielding:
    """An object that can be called, and gives a generator."""

    def __call__(self) -> Iterator[int]:
        """Not a train function."""
        yield 1


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (waits, "waits is a coroutine function (async def)"),
        (functools.partial(waits), "waits is a coroutine function (async def)"),
        (yields, "yields is a generator function"),
        (yields_later, "yields_later is a generator function"),
        (Yielding(), "Yielding.__call__ is a generator function"),
        (distribute(MultiWorker(2))(train), "train is decorated with @distribute already"),
        (3, "The function itself comes first"),
    ],
)
def test_what_cannot_be_a_train_function_is_refused(function: Any, text: str) -> None:
    """The same wherever a function is taken: by the decorator, a launcher, or a model's builder."""
    entrances: list[Callable[[], Any]] = [
        lambda: Launcher(MultiWorker(2)).run(function),
        lambda: distribute(MultiWorker(2))(function),
        lambda: shipping.pickled(function, (), {}),
    ]
    for enter in entrances:
        with pytest.raises(PlanError) as refused:
            enter()
        assert text in str(refused.value)


@pytest.mark.parametrize(
    ("args", "kwargs", "text"),
    [
        ((), {}, "cannot be called with (): missing a required argument: 'epochs'."),
        ((3, 0.1), {}, "cannot be called with (3, 0.1): too many positional arguments."),
        (("x" * 99,), {"size": [1]}, f"('{'x' * 56}..., size=<list>): got an unexpected keyword"),
    ],
)
def test_arguments_that_the_function_does_not_take_are_refused(
    args: tuple[Any, ...], kwargs: dict[str, Any], text: str
) -> None:
    """Before a session is looked for; large arguments are named by their type."""
    with pytest.raises(PlanError) as refused:
        Launcher(MultiWorker(2)).run(train, *args, **kwargs)

    assert str(refused.value).startswith("train(epochs: 'int', *, rate: 'float' = 0.1) -> 'None'")
    assert text in str(refused.value)


def test_functions_that_fit_are_taken() -> None:
    """Partials, methods, objects, builtins that do not tell their arguments, and classes."""
    check_call(functools.partial(train, 3), (), {"rate": 0.2})
    check_call("text".join, (["a"],), {})
    check_call(max, (1, 2), {})
    check_call(dict, (), {"a": 1})


def test_a_misspelt_option_is_answered_with_the_nearest() -> None:
    """And with all there are."""
    with pytest.raises(PlanError, match=r"the options are .*Did you mean 'timeout_s'\?"):
        distribute(MultiWorker(2), timout_s=3)
    assert did_you_mean("zzz", ["epochs"]) == ""


def test_objects_of_spark_are_refused_with_what_to_use_instead() -> None:
    """Also an accumulator, whose additions would be lost without a word, and deep in a closure."""
    counted = Accumulator(1, 0, INT_ACCUMULATOR_PARAM)
    table: Any = object.__new__(Broadcast)
    rows: Any = object.__new__(DataFrame)
    hidden = {"list": [{"of": counted}]}

    def count() -> None:
        counted.add(5)

    def look_up() -> Any:
        return table.value

    def count_deep() -> Any:
        return hidden

    for function, text in (
        (count, "variable 'counted' is a Spark accumulator, whose additions"),
        (look_up, "variable 'table' is a Spark broadcast variable, which only Spark's own"),
        (count_deep, "variable 'hidden' is a Spark accumulator"),
    ):
        with pytest.raises(PlanError) as refused:
            shipping.pickled(function, (), {})
        assert text in str(refused.value)
    with pytest.raises(PlanError, match=r"argument 1 is a Spark DataFrame.*Feed the function"):
        shipping.pickled(train, (rows,), {})


ROWS: Any = object.__new__(DataFrame)
TWO = Launcher(MultiWorker(2))
OPTIONS = {
    "epochs": 1,
    "class_weight": None,
    "steps_per_epoch": None,
    "validation_steps": None,
    "initial_epoch": 0,
    "verbose": 2,
}


class Quiet:
    """A callback, by what Keras calls."""

    def set_model(self, model: object) -> None:
        """As Keras does."""


def test_arguments_of_fit_that_make_sense_are_taken() -> None:
    """The table below changes one of these at a time."""
    fit_arguments.check(ROWS, TWO, batch_size=2, callbacks=[Quiet()], options=OPTIONS)
    servers = Launcher(ParameterServer(2, servers=1))
    fit_arguments.check(ROWS, servers, batch_size=1, callbacks=(), options=OPTIONS)
    fit_arguments.check_feeding(columns={"x": Column()}, cache=None, shuffle=0, seed=0)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"df": [[1.0]]}, "df is a Spark DataFrame, found a list. Make one"),
        ({"launcher": MultiWorker(2)}, "Write launcher=Launcher(MultiWorker(2))."),
        ({"launcher": None}, "launcher is a Launcher, as in launcher=Launcher(MultiWorker(2)); "),
        ({"batch_size": 1}, "MultiWorker(2) needs a row for each of its workers in it; found 1."),
        ({"batch_size": 2.0}, "batch_size is a whole number of at least 1, found 2.0."),
        ({"callbacks": "early"}, "callbacks is a list of Keras callbacks"),
        ({"callbacks": Quiet()}, "callbacks is a list of Keras callbacks"),
        ({"callbacks": [Quiet]}, "callbacks holds the class Quiet; a callback is an object of it"),
        ({"callbacks": [3]}, "callbacks holds 3, which is not a Keras callback."),
        ({"epochs": "3"}, "epochs is a whole number of at least 1, found '3'."),
        ({"epochs": True}, "epochs is a whole number of at least 1, found True."),
        ({"initial_epoch": 2}, "initial_epoch=2 is behind the last epoch, because epochs=1"),
        ({"initial_epoch": -1}, "initial_epoch is a whole number of at least 0, found -1."),
        ({"steps_per_epoch": 0}, "steps_per_epoch is a whole number of at least 1, or None"),
        ({"validation_steps": 1.5}, "validation_steps is a whole number of at least 1, or None"),
        ({"class_weight": [1.0]}, "class_weight is a dictionary of numbers by the class's index"),
        ({"class_weight": {"a": 1}}, "class_weight is a dictionary of numbers by the class's"),
        ({"verbose": "loud"}, "verbose is 0, 1, 2 or \"auto\", found 'loud'."),
    ],
)
def test_an_argument_of_fit_that_makes_no_sense_is_refused(
    changed: dict[str, Any], text: str
) -> None:
    """It is named, with what was found and what to pass."""
    given = {"df": ROWS, "launcher": TWO, "batch_size": 2, "callbacks": [], **OPTIONS, **changed}
    options = {name: given.pop(name) for name in OPTIONS}
    frame, launcher = given.pop("df"), given.pop("launcher")

    with pytest.raises(PlanError) as refused:
        fit_arguments.check(frame, launcher, options=options, **given)

    assert text in str(refused.value)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"columns": [Column()]}, "columns is a dictionary, as in columns={'image'"),
        ({"columns": {"x": "float32"}}, "columns['x'] is a Column, as in Column(shape="),
        ({"cache": True}, "cache is a Cache, as in Cache(memory=True); found True."),
        ({"shuffle": -1}, "shuffle is the number of rows of a window"),
        ({"seed": -1}, "seed is a whole number from 0 to 2**32 - 1, or None; found -1."),
        ({"seed": 2**32}, "seed is a whole number from 0 to 2**32 - 1, or None; found 4294967296."),
        ({"seed": 1.0}, "seed is a whole number from 0 to 2**32 - 1, or None; found 1.0."),
    ],
)
def test_a_setting_of_the_feed_that_makes_no_sense_is_refused(
    changed: dict[str, Any], text: str
) -> None:
    """It is named, with what was found and what to pass."""
    given: dict[str, Any] = {"columns": None, "cache": None, "shuffle": None, "seed": None}

    with pytest.raises(PlanError) as refused:
        fit_arguments.check_feeding(**(given | changed))

    assert text in str(refused.value)


def test_a_label_that_is_a_time_is_refused() -> None:
    """Its number is in microseconds, which nobody means to learn; other columns may be times."""
    times = dict.fromkeys(("t", "since"), ("timestamp", "int64"))
    specs = [
        ColumnSpec(name=name, path=(name,), spark_type=kind, depth=0, dtype=dtype, shape=())
        for name, (kind, dtype) in {"x": ("float", "float32"), **times}.items()
    ]

    fit_arguments.check_labels(Selection("t", "x"), specs)
    with pytest.raises(PlanError, match=r"The label 't' is a timestamp, which is not a number"):
        fit_arguments.check_labels(Selection("x", {"a": "x", "b": "t"}), specs)


def test_a_run_inside_a_rank_is_refused() -> None:
    """Before it looks for a session, which would start a second driver in the rank's process."""
    with entered(lambda: pytest.fail("nobody asks for the context")):
        for launch in (lambda: TWO.run(train, 3), lambda: TWO.on(ROWS)):
            with pytest.raises(PlanError, match="cannot launch another run: its process is a rank"):
                launch()


def test_a_rows_argument_that_is_no_dataframe_is_refused_everywhere() -> None:
    """The same words in fit, predict and adapt; a session likewise."""
    rows: Any = [[1.0]]
    for call in (
        lambda: predict(lambda: None, rows, features="x"),
        lambda: adapt(Quiet(), rows, "x"),
        lambda: fit(train, rows, launcher=TWO, features="x", label="y", batch_size=2),
    ):
        with pytest.raises(PlanError, match=r"df is a Spark DataFrame, found a list\. Make one"):
            call()
    with pytest.raises(PlanError, match="spark is a SparkSession, found a int"):
        Launcher(MultiWorker(2), spark=3)  # type: ignore[arg-type]
    with pytest.raises(PlanError, match="spark is a SparkSession, found a NoneType"):
        register_udf(None, "score", train)  # type: ignore[arg-type]
    with pytest.raises(PlanError, match="evaluator is an Evaluator"):
        Launcher(MultiWorker(2), evaluator=train)  # type: ignore[arg-type]
    with pytest.raises(PlanError, match="scope is True or False, found 'no'"):
        Launcher(MultiWorker(2), scope="no")  # type: ignore[arg-type]
