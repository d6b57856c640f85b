"""Checks of Spark ML parameters when they are set; each raises TypeError, as pyspark.ml does."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pyspark.ml.param import TypeConverters

from spark_strategy.data.columns import Column
from spark_strategy.errors import PlanError
from spark_strategy.keras import transport
from spark_strategy.launcher import Launcher


def count(value: Any) -> int:
    """A whole number of at least 1."""
    number: int = TypeConverters.toInt(value)
    if number < 1:
        raise TypeError(f"a whole number of at least 1 is needed, found {value!r}")
    return number


def seconds(value: Any) -> float:
    """A number above 0."""
    number: float = TypeConverters.toFloat(value)
    if not number > 0 or math.isinf(number):
        raise TypeError(f"a number of seconds above 0 is needed, found {value!r}")
    return number


def one_of(*choices: str) -> Callable[[Any], str]:
    """One of these words."""

    def convert(value: Any) -> str:
        if value not in choices:
            raise TypeError(f"one of {', '.join(choices)} is needed, found {value!r}")
        return str(value)

    return convert


def names(value: Any) -> Any:
    """A column; a list of them; or a dictionary of these by the model's name for it."""
    if isinstance(value, Mapping) and value:
        return {str(key): _columns(one) for key, one in value.items()}
    return _columns(value)


def _columns(value: Any) -> str | list[str]:
    if isinstance(value, str) and value:
        return value
    is_list = isinstance(value, Sequence) and not isinstance(value, str) and value
    if is_list and all(isinstance(one, str) and one for one in value):
        return list(value)
    raise TypeError(
        "a column's name, a list of names, or a dictionary of these by the model's input is "
        f"needed, found {value!r}"
    )


def declarations(value: Any) -> dict[str, dict[str, Any]]:
    """Declarations as JSON can hold them; :func:`as_columns` is the way back."""
    if not isinstance(value, Mapping):
        raise TypeError(f"a dictionary of Column by the column's name is needed, found {value!r}")
    made = {str(name): _plain(one) for name, one in value.items()}
    try:
        as_columns(made)
    except PlanError as error:
        raise TypeError(str(error)) from error
    return made


def _plain(column: Any) -> dict[str, Any]:
    if not isinstance(column, Column | Mapping):
        raise TypeError(f"a Column is needed, as in Column(shape=(28, 28)); found {column!r}")
    fields = asdict(column) if isinstance(column, Column) else dict(column)
    shape = fields.get("shape")
    return {**fields, "shape": None if shape is None else list(shape)}


def as_columns(plain: Mapping[str, Mapping[str, Any]]) -> dict[str, Column]:
    """The declarations of a ``columns`` parameter."""
    return {
        name: Column(**{**one, "shape": None if one["shape"] is None else tuple(one["shape"])})
        for name, one in plain.items()
    }


def launcher(value: Any) -> Launcher:
    """A launcher."""
    if not isinstance(value, Launcher):
        raise TypeError(f"a Launcher is needed, as in Launcher(MultiWorker(2)); found {value!r}")
    return value


def model(value: Any) -> Any:
    """A Keras model, or a function."""
    if not transport.is_model(value) and not callable(value):
        raise TypeError(f"a compiled Keras model or a function that builds one, found {value!r}")
    return value


def listed(value: Any) -> list[Any]:
    """A list."""
    return list(value)


def kept(value: Any) -> Any:
    """Whatever it is."""
    return value
