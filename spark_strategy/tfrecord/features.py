"""Spark's types as features: which list a column becomes, and how deep.

The conventions are those of spark-tfrecord and of spark-tensorflow-connector: a feature has its
column's name; whole numbers are int64_list, fractions (decimals too) float_list, text and binary
bytes_list; an ML vector is a float_list; an array of arrays is a FeatureList. Beyond them: a
boolean is 0 or 1, a date days and a timestamp microseconds since 1970-01-01 (UTC).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from spark_strategy.errors import PlanError
from spark_strategy.tfrecord.wire import Kind, Message

# Spark's name of a type -> its list, and its values in Arrow.
_SCALARS: Final[Mapping[str, tuple[Kind, pa.DataType]]] = {
    "boolean": (Kind.INT64, pa.bool_()),
    "byte": (Kind.INT64, pa.int8()),
    "short": (Kind.INT64, pa.int16()),
    "integer": (Kind.INT64, pa.int32()),
    "long": (Kind.INT64, pa.int64()),
    "date": (Kind.INT64, pa.date32()),
    "timestamp": (Kind.INT64, pa.timestamp("us", tz="UTC")),
    "timestamp_ntz": (Kind.INT64, pa.timestamp("us")),
    "float": (Kind.FLOAT, pa.float32()),
    "double": (Kind.FLOAT, pa.float64()),
    "string": (Kind.BYTES, pa.string()),
    "char": (Kind.BYTES, pa.string()),
    "varchar": (Kind.BYTES, pa.string()),
    "binary": (Kind.BYTES, pa.binary()),
}

_DECIMAL: Final = re.compile(r"decimal\((\d+),\s*(\d+)\)")
_VECTORS: Final = frozenset(
    {"org.apache.spark.ml.linalg.VectorUDT", "org.apache.spark.mllib.linalg.VectorUDT"}
)
# VectorUDT.sqlType, as Spark gives and takes it in Arrow.
VECTOR: Final = pa.struct(
    [
        pa.field("type", pa.int8(), nullable=False),
        pa.field("size", pa.int32()),
        pa.field("indices", pa.list_(pa.field("element", pa.int32(), nullable=False))),
        pa.field("values", pa.list_(pa.field("element", pa.float64(), nullable=False))),
    ]
)


@dataclass(frozen=True, slots=True)
class Feature:
    """A column, and the feature it is in a record.

    Attributes:
        name: of both.
        kind: of the feature's list.
        depth: 0 for a scalar, 1 for an array, 2 for an array of arrays.
        scalar: Arrow's type of one value.
        arrow: Arrow's type of the column.
        nullable: whether a record may lack it.
    """

    name: str
    kind: Kind
    depth: int
    scalar: pa.DataType
    arrow: pa.DataType
    nullable: bool

    @property
    def is_vector(self) -> bool:
        """Whether it is a Spark ML vector."""
        return bool(self.arrow == VECTOR)


def features_of(struct: Mapping[str, Any]) -> list[Feature]:
    """The features of a schema, in its order.

    Args:
        struct: as ``StructType.jsonValue()`` gives it.

    Raises:
        PlanError: a column cannot be a feature.
    """
    return [
        _feature(field["name"], field["type"], nullable=field["nullable"])
        for field in struct["fields"]
    ]


def _feature(name: str, kind: Any, *, nullable: bool) -> Feature:
    if isinstance(kind, Mapping) and kind.get("class") in _VECTORS:
        return Feature(name, Kind.FLOAT, 1, pa.float64(), VECTOR, nullable)
    holes: list[bool] = []
    leaf = kind
    while isinstance(leaf, Mapping) and leaf["type"] == "array":
        holes.append(leaf["containsNull"])
        leaf = leaf["elementType"]
    found = _scalar(leaf) if isinstance(leaf, str) else None
    if found is None or len(holes) > 2:
        raise PlanError(
            f"Column {name!r} is {_printed(kind)}, which no TFRecord feature can hold. Make it a "
            "number, text, binary, an ML vector, or an array (or array of arrays) of these."
        )
    arrow = found[1]
    for nulls in reversed(holes):
        arrow = pa.list_(pa.field("element", arrow, nullable=nulls))
    return Feature(name, found[0], len(holes), found[1], arrow, nullable)


def _scalar(name: str) -> tuple[Kind, pa.DataType] | None:
    if match := _DECIMAL.fullmatch(name):
        return Kind.FLOAT, pa.decimal128(int(match[1]), int(match[2]))
    # A type may have a length or a collation behind its name.
    return _SCALARS.get(name.partition("(")[0].partition(" collate ")[0])


def _printed(kind: Any) -> str:
    if isinstance(kind, Mapping):
        return (
            f"array of {_printed(kind['elementType'])}"
            if "elementType" in kind
            else "a " + str(kind["type"])
        )
    return str(kind)


def check_message(features: Sequence[Feature], message: Message) -> None:
    """Refuse columns that a record of this type cannot hold.

    Raises:
        PlanError: with the column and what to do.
    """
    if message is Message.RAW:
        held = [f for f in features if f.kind is Kind.BYTES and f.depth == 0]
        if len(features) != 1 or held != list(features):
            raise PlanError(
                "recordType=ByteArray takes one column of binary or string, found "
                f"{', '.join(f'{f.name} {f.arrow}' for f in features)}. Select it first."
            )
    for feature in features:
        if feature.depth == 2 and message is Message.EXAMPLE:
            raise PlanError(
                f"Column {feature.name!r} is an array of arrays, which an Example cannot hold. "
                "Set option recordType to SequenceExample, or flatten it."
            )
    names = [feature.name for feature in features]
    if twice := {name for name in names if names.count(name) > 1}:
        raise PlanError(f"Several columns are called {', '.join(sorted(twice))}. Rename them.")
