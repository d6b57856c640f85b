"""Spark's types: which ones a tensor can hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from spark_strategy.data.layout import STRING
from spark_strategy.errors import PlanError

# Spark's name for a type, without its arguments -> dtype. A decimal's digits beyond the 15th are
# lost; a date is days since 1970-01-01; a timestamp microseconds since then, in UTC, and one
# without a time zone microseconds of its own clock.
_DTYPES: Final[Mapping[str, str]] = {
    "boolean": "bool",
    "byte": "int8",
    "short": "int16",
    "integer": "int32",
    "long": "int64",
    "float": "float32",
    "double": "float64",
    "decimal": "float64",
    "string": STRING,
    "char": STRING,
    "varchar": STRING,
    "binary": STRING,
    "date": "int32",
    "timestamp": "int64",
    "timestamp_ntz": "int64",
}

_VECTORS: Final = frozenset(
    {"org.apache.spark.ml.linalg.VectorUDT", "org.apache.spark.mllib.linalg.VectorUDT"}
)
_MAX_DEPTH: Final = 2


@dataclass(frozen=True, slots=True)
class Leaf:
    """A column that is no struct, or a field of one.

    Attributes:
        path: the names on the way to it: one for each struct, and its own.
        spark_type: its type in words.
        depth: levels of arrays; 0 for a scalar.
        dtype: what its values become unless something else is declared.
        is_vector: whether it is a Spark ML vector.
    """

    path: tuple[str, ...]
    spark_type: str
    depth: int
    dtype: str
    is_vector: bool

    @property
    def name(self) -> str:
        """The path, dotted."""
        return ".".join(self.path)


def leaves(struct: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[Leaf]:
    """The columns of a schema in order, and instead of a struct its fields.

    Args:
        struct: as ``StructType.jsonValue()`` gives it.
        above: names of the structs around it.

    Raises:
        PlanError: no tensor can hold a column.
    """
    for field in struct["fields"]:
        path, kind = (*above, field["name"]), field["type"]
        if isinstance(kind, Mapping) and kind["type"] == "struct":
            yield from leaves(kind, path)
        else:
            yield _leaf(path, kind)


def position_of(struct: Mapping[str, Any], name: str) -> int:
    """Where the column stands that has this name, or that is a struct with the field it names.

    Args:
        struct: as ``StructType.jsonValue()`` gives it.
        name: of a column, or dotted of a struct's field.

    Raises:
        PlanError: there is no such column, or there are two.
    """
    fields = struct["fields"]
    found = [place for place, field in enumerate(fields) if field["name"] == name]
    found = found or [place for place, field in enumerate(fields) if _has(field, name)]
    if not found:
        known = ", ".join(field["name"] for field in fields)
        raise PlanError(f"There is no column {name!r}; the columns are {known}.")
    if len(found) > 1:
        raise PlanError(f"Two columns are called {name!r}. Rename one of them.")
    return found[0]


def _has(field: Mapping[str, Any], name: str) -> bool:
    """Whether a field is a struct in which ``name``, dotted from its own name on, is a field."""
    kind, rest = field["type"], name.removeprefix(f"{field['name']}.")
    if rest == name or not isinstance(kind, Mapping) or kind["type"] != "struct":
        return False
    return any(inner["name"] == rest or _has(inner, rest) for inner in kind["fields"])


def _leaf(path: tuple[str, ...], kind: Any) -> Leaf:
    printed = _printed(kind)
    if _is_vector(kind):
        if len(path) > 1:
            raise PlanError(
                f"Column {'.'.join(path)!r} is a vector inside a struct, which is not supported. "
                "Make it a column of its own with df.withColumn."
            )
        return Leaf(path, printed, 1, "float64", is_vector=True)
    depth = 0
    while isinstance(kind, Mapping) and kind["type"] == "array":
        depth, kind = depth + 1, kind["elementType"]
    # "decimal(10,2)", "varchar(8)", "string collate UNICODE".
    scalar = kind.partition("(")[0].partition(" collate ")[0] if isinstance(kind, str) else ""
    if scalar not in _DTYPES or depth > _MAX_DEPTH:
        raise PlanError(
            f"Column {'.'.join(path)!r} is {printed}, which no tensor can hold. Leave it out with "
            "df.drop, or make it a number, a string, or an array (or array of arrays) of them."
        )
    return Leaf(path, printed, depth, _DTYPES[scalar], is_vector=False)


def _is_vector(kind: Any) -> bool:
    return isinstance(kind, Mapping) and kind["type"] == "udt" and kind.get("class") in _VECTORS


def _printed(kind: Any) -> str:
    if not isinstance(kind, Mapping):
        return str(kind)
    match kind["type"]:
        case "array":
            return f"array<{_printed(kind['elementType'])}>"
        case "map":
            return f"map<{_printed(kind['keyType'])}, {_printed(kind['valueType'])}>"
        case "udt" if _is_vector(kind):
            return "vector"
        case "udt":
            return f"udt {kind.get('class') or kind.get('pyClass')}"
        case other:
            return str(other)
