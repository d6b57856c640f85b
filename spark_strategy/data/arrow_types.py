"""Arrow's types in Spark's words, as ``DataFrame.schema.jsonValue()`` has them."""

from __future__ import annotations

from typing import Any, Final

import pyarrow as pa
from pyarrow import types

# Unsigned integers and half floats, which Spark lacks, as what holds them.
_NAMES: Final = {
    pa.bool_(): "boolean",
    pa.int8(): "byte",
    pa.int16(): "short",
    pa.int32(): "integer",
    pa.int64(): "long",
    pa.uint8(): "short",
    pa.uint16(): "integer",
    pa.uint32(): "long",
    pa.uint64(): "long",
    pa.float16(): "float",
    pa.float32(): "float",
    pa.float64(): "double",
    pa.string(): "string",
    pa.large_string(): "string",
    pa.string_view(): "string",
    pa.binary(): "binary",
    pa.large_binary(): "binary",
    pa.binary_view(): "binary",
    pa.date32(): "date",
}


def spark_field(field: pa.Field) -> dict[str, Any]:
    """A column."""
    return {
        "name": field.name,
        "type": _spark_type(field.type),
        "nullable": field.nullable,
        "metadata": {},
    }


def _spark_type(kind: pa.DataType) -> Any:
    """A type; Arrow's own word for what Spark lacks, so that whoever asks for it is told."""
    if types.is_dictionary(kind):
        return _spark_type(kind.value_type)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        element = _spark_type(kind.value_type)
        return {"type": "array", "elementType": element, "containsNull": True}
    if types.is_struct(kind):
        return {"type": "struct", "fields": [spark_field(kind.field(k)) for k in range(len(kind))]}
    if types.is_decimal(kind):
        return f"decimal({kind.precision},{kind.scale})"
    if types.is_timestamp(kind):
        return "timestamp" if kind.tz else "timestamp_ntz"
    return _NAMES.get(kind, "binary" if types.is_fixed_size_binary(kind) else str(kind))


def wide(kind: pa.DataType) -> pa.DataType:
    """The same type with offsets of 64 bits, which reach any amount of text and any array."""
    if types.is_list(kind) or types.is_large_list(kind):
        return pa.large_list(wide(kind.value_type))
    if types.is_struct(kind):
        return pa.struct([field.with_type(wide(field.type)) for field in kind])
    return {pa.string(): pa.large_string(), pa.binary(): pa.large_binary()}.get(kind, kind)
