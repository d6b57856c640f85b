"""A literal NULL as an argument of a SQL function, whose column has no type."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from spark_strategy.errors import DataError
from spark_strategy.serving import Output
from spark_strategy.spark.scoring import Limits, Scoring, score


def never(_: Any) -> Any:
    """No type is looked at, and no model server started."""
    raise AssertionError("the model is not needed for a null")


def test_a_literal_null_is_a_null() -> None:
    """A null result of the output's type, or a DataError with the argument's number."""
    output = Output("y", "float32", (2,))
    scoring = Scoring(
        key="k",
        name="m",
        model=bytes,
        fitting=never,
        replied=(output,),
        head=None,
        outputs=(output,),
        vectors=frozenset(),
        nested=False,
        batch_size=2,
        on_error="null",
        limits=Limits(),
        cores=None,
    )
    arguments = (pa.array([1.0, 2.0, 3.0]), pa.nulls(3))
    found = list(score(scoring, iter([arguments])))
    assert [array.to_pylist() for array in found] == [[None, None], [None]]
    assert found[0].type.value_type == pa.float32()
    with pytest.raises(DataError, match="Argument 2 is null in every row"):
        list(score(replace(scoring, on_error="raise"), iter([arguments])))
