"""A model's outputs as columns: their names and Spark's types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from spark_strategy.errors import PlanError
from spark_strategy.serving import Output

if TYPE_CHECKING:
    from pyspark.sql import DataFrame
    from pyspark.sql.types import DataType


def wanted_columns(
    df: DataFrame, outputs: Sequence[Output], names: str | Mapping[str, str]
) -> dict[str, str]:
    """The columns to make, by output.

    Raises:
        PlanError: an output or a column is wrong.
    """
    known = [one.name for one in outputs]
    if isinstance(names, str):
        wanted = {known[0] if len(known) == 1 else "": names}
    else:
        wanted = dict(names)
        lacks_the_one = len(known) == 1 and set(wanted) != set(known)
        if lacks_the_one or set(wanted) - set(known) or not wanted:
            raise PlanError(
                f"output names {', '.join(map(repr, wanted)) or 'nothing'}, and the model's "
                f"outputs are {', '.join(map(repr, known))}."
            )
    for name in wanted.values():
        if not name or name.lower() in {one.lower() for one in df.columns}:
            raise PlanError(
                f"The DataFrame has a column {name!r} already. Choose another output, or drop it."
            )
    if len(set(wanted.values())) < len(wanted):
        raise PlanError(f"Two outputs want the same column: {', '.join(wanted.values())}.")
    return wanted


def check_vectors(
    vectors: Sequence[str], wanted: Mapping[str, str], outputs: Sequence[Output]
) -> None:
    """Refuse vectors that cannot be made.

    Raises:
        PlanError: one is no new column, or has no flat array of numbers per row.
    """
    made = {to: one for one in outputs for name, to in wanted.items() if name == one.name}
    for name in vectors:
        one = made.get(name)
        if one is None or len(one.shape) != 1 or one.dtype == "string":
            raise PlanError(
                f"vectors names {name!r}, and a vector is a new column for an output with a flat "
                f"array of numbers per row; there are {', '.join(made) or 'none'}."
            )


def type_of(outputs: Sequence[Output], vectors: frozenset[str]) -> DataType:
    """Spark's type of what the function returns."""
    from pyspark.sql.types import StructType

    if len(outputs) == 1:
        return _column_type(outputs[0], is_vector=outputs[0].name in vectors)
    made = StructType()
    for one in outputs:
        made = made.add(one.name, _column_type(one, is_vector=one.name in vectors))
    return made


def _column_type(output: Output, *, is_vector: bool) -> DataType:
    from pyspark.ml.linalg import VectorUDT
    from pyspark.sql import types

    if is_vector:
        return VectorUDT()
    made: DataType = {
        "bool": types.BooleanType(),
        "int8": types.ByteType(),
        "int16": types.ShortType(),
        "int32": types.IntegerType(),
        "int64": types.LongType(),
        "float32": types.FloatType(),
        "float64": types.DoubleType(),
        "string": types.StringType(),
    }[output.dtype]
    for _ in () if output.shape == (1,) else output.shape:
        made = types.ArrayType(made)
    return made
