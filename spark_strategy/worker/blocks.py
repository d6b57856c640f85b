"""Block files -> tensors, by TensorFlow's own ops; the format is in ``data/layout.py``.

Between :func:`decode` and :func:`finish` rows can be sliced, gathered and rebatched: each column
travels as one or more tensors whose first dimension is the row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import cast

import tensorflow as tf

from spark_strategy.data.columns import ColumnSpec
from spark_strategy.data.layout import (
    ALIGN_BYTES,
    INT64_BYTES,
    ITEM_BYTES,
    STRING,
    counts_key,
    sizes_key,
    values_key,
)


def carriers(specs: Sequence[ColumnSpec]) -> tuple[str, ...]:
    """Keys of the tensors that columns travel as; a column of fixed shape as its own name."""
    return tuple(part.key for spec in specs for part in spec.parts)


def decode(content: tf.Tensor, specs: Sequence[ColumnSpec]) -> dict[str, tf.Tensor]:
    """The rows of a block.

    Args:
        content: a block file's content, a scalar string.
        specs: all columns of the block.

    Returns:
        One tensor for each of :func:`carriers`, with the rows first.
    """
    kinds = [part for spec in specs for part in spec.parts]
    # A ragged column's carriers have one string per row.
    shapes = {spec.name: spec.shape for spec in specs if not spec.ragged}
    count = sum(2 if part.dtype == STRING else 1 for part in kinds)
    header_bytes = INT64_BYTES * (1 + count)
    header = tf.io.decode_raw(tf.strings.substr(content, 0, header_bytes), tf.int64)
    rows, sizes = header[0], tf.ensure_shape(header[1:], [count])
    room = -(-tf.concat([[header_bytes], sizes], axis=0) // ALIGN_BYTES) * ALIGN_BYTES
    begins = tf.cumsum(room)
    sections = iter([(begins[k], sizes[k]) for k in range(count)])
    raw = tf.io.decode_raw(content, tf.uint8)
    columns = {}
    for part in kinds:
        if part.dtype == STRING:
            texts = [tf.strings.substr(content, *next(sections)) for _ in range(2)]
            values = _strings(*texts)
        else:
            values = _numbers(raw, *next(sections), part.dtype)
        shape = shapes.get(part.key, ())
        columns[part.key] = tf.ensure_shape(tf.reshape(values, [rows, *shape]), [None, *shape])
    return columns


def finish(
    columns: Mapping[str, tf.Tensor], specs: Sequence[ColumnSpec]
) -> dict[str, tf.Tensor | tf.RaggedTensor]:
    """The rows of a batch as the train function gets them.

    Args:
        columns: the :func:`carriers` of ``specs``, and maybe more; any number of rows.
        specs: the columns that are wanted.

    Returns:
        By column name.
    """
    return {
        spec.name: _ragged(columns, spec)
        if spec.ragged
        else tf.ensure_shape(columns[spec.name], [None, *spec.shape])
        for spec in specs
    }


def element_spec(specs: Sequence[ColumnSpec]) -> dict[str, tf.TensorSpec | tf.RaggedTensorSpec]:
    """What :func:`finish` gives."""
    return {
        spec.name: tf.RaggedTensorSpec(
            [None, *spec.shape], spec.dtype, spec.ragged_rank, row_splits_dtype=tf.int64
        )
        if spec.ragged
        else tf.TensorSpec([None, *spec.shape], spec.dtype)
        for spec in specs
    }


def _numbers(raw: tf.Tensor, begin: tf.Tensor, size: tf.Tensor, dtype: str) -> tf.Tensor:
    """The numbers in a section of a block's bytes, in the same memory."""
    section = raw[begin : begin + size]
    if dtype == "bool":
        return tf.cast(section, tf.bool)
    if ITEM_BYTES[dtype] == 1:
        return tf.bitcast(section, dtype)
    return tf.bitcast(tf.reshape(section, [-1, ITEM_BYTES[dtype]]), dtype)


def _ragged(columns: Mapping[str, tf.Tensor], spec: ColumnSpec) -> tf.RaggedTensor:
    rows = columns[values_key(spec.name)]
    value_bytes = ITEM_BYTES.get(spec.dtype, INT64_BYTES)
    if spec.dtype == STRING:
        measured = columns[sizes_key(spec.name)]
        values = _strings(tf.strings.reduce_join(measured), tf.strings.reduce_join(rows))
    else:
        measured = rows
        values = tf.io.decode_raw(tf.strings.reduce_join(rows), spec.dtype)
    inner = cast("tuple[int, ...]", spec.shape[spec.ragged_rank :])
    values = tf.reshape(values, [-1, *inner])
    if spec.ragged_rank == 1:
        unit_bytes = value_bytes * math.prod(inner)
        return _split(values, _lengths(measured) // unit_bytes)
    counts = columns[counts_key(spec.name)]
    arrays = tf.io.decode_raw(tf.strings.reduce_join(counts), tf.int64)
    return _split(_split(values, arrays), _lengths(counts) // INT64_BYTES)


def _split(values: tf.Tensor | tf.RaggedTensor, lengths: tf.Tensor) -> tf.RaggedTensor:
    return tf.RaggedTensor.from_row_lengths(values, lengths, validate=False)


def _lengths(strings: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.strings.length(strings), tf.int64)


def _strings(sizes: tf.Tensor, data: tf.Tensor) -> tf.Tensor:
    """The strings of these sizes, int64 in a scalar string, that are back to back in ``data``."""
    lengths = tf.io.decode_raw(sizes, tf.int64)
    return tf.strings.substr(data, tf.cumsum(lengths, exclusive=True), lengths)
