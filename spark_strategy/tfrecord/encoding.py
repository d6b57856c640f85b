"""Arrow batches to framed records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from spark_strategy.errors import DataError
from spark_strategy.tfrecord.codec import codec
from spark_strategy.tfrecord.features import Feature
from spark_strategy.tfrecord.wire import Array, Column, Kind, Message

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
    for depth in range(feature.depth):
        if depth and array.null_count:
            raise _null_inside(feature)
        lengths = pc.fill_null(pc.list_value_length(array), 0)
        offsets.append(np.cumsum([0, *np.asarray(lengths)], dtype=np.int64))
        array = array.flatten()
    if feature.depth and array.null_count:
        raise _null_inside(feature)
    column = _values(array, feature)
    if offsets:
        column = replace(column, outer=offsets[0], inner=offsets[1] if offsets[1:] else None)
    return replace(column, valid=valid)


def _null_inside(feature: Feature) -> DataError:
    return DataError(
        f"Column {feature.name!r} has an array with a null in it, which no feature can hold. "
        "Replace it first, for example with array_compact."
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
        array = array.cast(stored)
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
