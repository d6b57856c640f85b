"""Columns of a DataFrame as Spark expressions, by position where that is known.

Spark looks a name up without regard to case, takes a dot for a struct's field and a star for all
columns, and refuses a name that stands twice. A position means one column, whatever it is called.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import Column as Expression
    from pyspark.sql import DataFrame

    from spark_strategy.data.columns import ColumnSpec


def numbered(frame: DataFrame) -> DataFrame:
    """The same columns, called so that :func:`at` finds them."""
    return frame.toDF(*(_key(position) for position in range(len(frame.columns))))


def at(position: int) -> Expression:
    """The column at this position, in a DataFrame that is :func:`numbered`."""
    from pyspark.sql import functions as F  # noqa: N812 - as everyone writes it

    return F.col(_key(position))


def selected(frame: DataFrame, positions: Iterable[int]) -> DataFrame:
    """The columns at these positions, under their own names."""
    names = frame.columns
    return numbered(frame).select(*(at(place).alias(names[place]) for place in positions))


def is_clear(frame: DataFrame, name: str) -> bool:
    """Whether Spark finds the column of this name by it, also where it does not regard case."""
    return bool(name) and [one.lower() for one in frame.columns].count(name.lower()) == 1


def named(name: str) -> Expression:
    """The column of a name that :func:`is_clear`."""
    from pyspark.sql import functions as F  # noqa: N812 - as everyone writes it

    return F.col(_quoted(name))


def carried(column: Expression, spec: ColumnSpec, dtype: str | None = None) -> Expression:
    """What Arrow can carry of a column: of a Spark ML vector its values, null where it is null.

    Args:
        column: the whole column, also where ``spec`` is a field of it.
        spec: what it becomes.
        dtype: of a vector's values; by default "float32" where ``spec`` has that, else "float64".
    """
    if not spec.is_vector:
        for name in spec.path[1:]:
            column = column.getField(name)
        return column
    from pyspark.ml.functions import vector_to_array
    from pyspark.sql import functions as F  # noqa: N812 - as everyone writes it

    of_values = dtype or ("float32" if spec.dtype == "float32" else "float64")
    # Spark fails on a null itself, to which Column(fill=) or on_error="null" may have an answer.
    return F.when(column.isNotNull(), vector_to_array(column, of_values))


def _key(position: int) -> str:
    return f"_{position}"


def _quoted(name: str) -> str:
    """A name as Spark SQL reads it, whatever is in it."""
    return f"`{name.replace('`', '``')}`"
