"""Columns of a DataFrame as one array of cells per row, their types checked on the driver."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pyspark.ml.functions import vector_to_array
from pyspark.ml.linalg import VectorUDT
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812 - what every Spark program calls it
from pyspark.sql.types import (
    ArrayType,
    BooleanType,
    ByteType,
    DataType,
    DoubleType,
    IntegerType,
    LongType,
    NumericType,
    ShortType,
    StringType,
)

from spark_strategy.errors import PlanError
from spark_strategy.spark.expressions import at, numbered

CELLS: Final = "cells"


@dataclass(frozen=True)
class Kind:
    """What cells a layer can learn from.

    Attributes:
        name: as messages say it.
        accepts: Spark types of a cell.
        read_as: the type that all of them are cast to.
    """

    name: str
    accepts: tuple[type[DataType], ...]
    read_as: DataType


NUMBERS: Final = Kind("numbers", (NumericType, BooleanType), DoubleType())
INTEGERS: Final = Kind("integers", (ByteType, ShortType, IntegerType, LongType), LongType())
STRINGS: Final = Kind("strings", (StringType,), StringType())


@dataclass(frozen=True)
class Cells:
    """The rows of a DataFrame, each as one array.

    Attributes:
        frame: a DataFrame of the one column `CELLS`. A row without an array has null there,
            an array may hold nulls.
        names: the columns that the cells come from.
        single: whether each row has exactly one cell because its column is a scalar.
    """

    frame: DataFrame
    names: tuple[str, ...]
    single: bool

    def __str__(self) -> str:
        """The columns as messages name them."""
        noun = "column" if len(self.names) == 1 else "columns"
        return f"{noun} {', '.join(map(repr, self.names))}"


def cells_of(df: DataFrame, column: str | Sequence[str], kind: Kind) -> Cells:
    """The cells of one column, or of several scalar columns side by side.

    Args:
        df: any DataFrame, classic or Connect; nothing is computed yet.
        column: a scalar column, an array column, a Spark ML vector column where numbers are
            wanted, or the names of several scalar columns.
        kind: what a cell must be.

    Raises:
        PlanError: no such column, or its type is not of this kind.
    """
    names = (column,) if isinstance(column, str) else tuple(column)
    fields = [(field.name, field.dataType) for field in df.schema.fields]
    known = [name for name, _ in fields]
    if not names:
        raise PlanError("adapt was asked for no column. Name at least one.")
    for name in names:
        if known.count(name) != 1:
            found = "has twice" if name in known else "lacks"
            raise PlanError(
                f"adapt was asked for column {name!r}, which the DataFrame {found}. "
                f"It has {', '.join(known) or 'no column'}."
            )
    places = [known.index(name) for name in names]
    types = dict(fields)
    rows = numbered(df)
    if len(names) == 1 and (array := _array(at(places[0]), types[names[0]], kind)) is not None:
        return Cells(rows.select(array.alias(CELLS)), names, single=False)
    for name in names:
        if not isinstance(types[name], kind.accepts):
            alone = " alone" if len(names) > 1 and isinstance(types[name], ArrayType) else ""
            raise PlanError(
                f"The layer learns from {kind.name}, but column {name!r} holds "
                f"{types[name].simpleString()}. Cast it first, or adapt over another column{alone}."
            )
    cells = F.array(*(at(place).cast(kind.read_as) for place in places))
    return Cells(rows.select(cells.alias(CELLS)), names, single=len(names) == 1)


def _array(column: Column, found: DataType, kind: Kind) -> Column | None:
    """The column as an array of this kind, None if it is not one."""
    if isinstance(found, ArrayType) and isinstance(found.elementType, kind.accepts):
        return column.cast(ArrayType(kind.read_as))
    if isinstance(found, VectorUDT) and kind is NUMBERS:
        # vector_to_array throws on null; as null it is counted with the others.
        return F.when(column.isNotNull(), vector_to_array(column))
    return None
