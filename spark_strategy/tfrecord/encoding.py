"""Arrow batches to framed records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from spark_strategy.errors import DataError
from spark_strategy.tfrecord.codec import codec
from spark_strategy.tfrecord.features import Feature
from spark_strategy.tfrecord.wire import Array, Column, Kind, Message

# Characters of a value in a message.
_SHOWN: Final = 80
_STORED: Final = {Kind.INT64: pa.int64(), Kind.FLOAT: pa.float32(), Kind.BYTES: pa.large_binary()}


def encode_batch(
    batch: pa.RecordBatch, features: Sequence[Feature], message: Message
) -> memoryview:
    """The records of all rows, ready to be appended to a file.

    Args:
        batch: one column per feature, in their order.
        features: what each column is.
        message: what a record holds; ``features.check_message`` has accepted it.

    Returns:
        Bytes; features within a record are in the order of their names, as in protobuf's
        deterministic serialization. Null columns are left out.

    Raises:
        DataError: a null where a record has no place for one.
    """
    made = [_column(array, feature) for array, feature in zip(batch.columns, features, strict=True)]
    if message is Message.RAW and made[0].valid is not None:
        raise DataError(
            f"Column {made[0].name!r} has nulls, and a record of bytes cannot be null. Drop these "
            "rows first."
        )
    made.sort(key=lambda column: column.name.encode())
    context = [column for column in made if column.depth < 2]
    lists = [column for column in made if column.depth == 2]
    return codec().encode(context, lists, rows=batch.num_rows, message=message)


def _column(array: pa.Array, feature: Feature) -> Column:
    valid = _mask(array) if array.null_count else None
    if feature.is_vector:
        values, outer = _dense(array)
        return Column(feature.name, Kind.FLOAT, 1, values, valid=valid, outer=outer)
    offsets: list[Array] = []
    whole = array
    for depth in range(feature.depth):
        if depth and array.null_count:
            raise _null_inside(feature, whole)
        lengths = pc.fill_null(pc.list_value_length(array), 0)
        offsets.append(np.cumsum([0, *np.asarray(lengths)], dtype=np.int64))
        array = array.flatten()
    if feature.depth and array.null_count:
        raise _null_inside(feature, whole)
    column = _values(array, feature)
    if offsets:
        column = replace(column, outer=offsets[0], inner=offsets[1] if offsets[1:] else None)
    return replace(column, valid=valid)


def _null_inside(feature: Feature, whole: pa.Array) -> DataError:
    first = next(value for value in whole if _has_null(value.as_py()))
    text = str(first.as_py())
    return DataError(
        f"Column {feature.name!r} has an array with a null in it, which no feature can hold: "
        f"{text if len(text) <= _SHOWN else text[:_SHOWN] + '...'}. Replace it first, for example "
        "with array_compact."
    )


def _has_null(value: Any) -> bool:
    return isinstance(value, list) and any(one is None or _has_null(one) for one in value)


def _check_range(name: str, before: pa.Array, after: pa.Array) -> None:
    """Refuse numbers that 32 bits make infinite.

    Raises:
        DataError: with the first such number.
    """
    lost = pc.and_(pc.is_finite(before), pc.invert(pc.is_finite(after)))
    if pc.any(lost).as_py():
        first = before.filter(lost)[0]
        raise DataError(
            f"Column {name!r} has the value {first}, which a float_list cannot hold: its floats "
            "have 32 bits, up to 3.4e38."
        )


def _mask(array: pa.Array) -> Array:
    return np.asarray(array.is_valid()).view(np.uint8)


def _values(array: pa.Array, feature: Feature) -> Column:
    """The flat values; those of null scalars are never looked at."""
    stored = _STORED[feature.kind]
    if pa.types.is_date32(array.type):
        array = array.cast(pa.int32())
    elif pa.types.is_decimal(array.type):
        array = array.cast(pa.float64())
    elif pa.types.is_timestamp(array.type):
        array = array.cast(pa.timestamp("us", array.type.tz))
    if array.type != stored:
        wide, array = array, array.cast(stored)
        if feature.kind is Kind.FLOAT:
            _check_range(feature.name, wide, array)
    if feature.kind is Kind.BYTES:
        _, ends, text = array.buffers()
        first, size = array.offset, len(array) + 1
        starts = (
            np.frombuffer(ends, np.int64, first + size)[first:] if ends else np.zeros(1, np.int64)
        )
        data = np.frombuffer(text, np.uint8) if text else np.empty(0, np.uint8)
        return Column(feature.name, feature.kind, feature.depth, data, starts)
    dtype = np.int64 if feature.kind is Kind.INT64 else np.float32
    values = np.frombuffer(array.buffers()[1] or b"", dtype)[array.offset :][: len(array)]
    return Column(feature.name, feature.kind, feature.depth, values)


def _dense(array: pa.Array) -> tuple[Array, Array]:
    """All values of vectors, the sparse ones filled up, and where each begins."""
    kinds = np.asarray(pc.fill_null(array.field("type"), 1))
    sizes, indices, values = (
        pc.struct_field(array, name) for name in ("size", "indices", "values")
    )
    present = np.asarray(array.is_valid())
    stored = np.where(present, np.asarray(pc.fill_null(pc.list_value_length(values), 0)), 0)
    lengths = np.where(kinds == 1, stored, np.asarray(pc.fill_null(sizes, 0)))
    outer = np.cumsum([0, *np.where(present, lengths, 0)], dtype=np.int64)
    out = np.zeros(int(outer[-1]), np.float32)
    flat = np.asarray(values.flatten(), np.float32)
    rows = np.repeat(np.arange(len(array)), stored)
    within = np.arange(len(flat)) - np.repeat(np.cumsum(stored) - stored, stored)
    sparse = kinds[rows] == 0
    within[sparse] = np.asarray(indices.flatten())
    out[outer[rows] + within] = flat
    return out, outer
