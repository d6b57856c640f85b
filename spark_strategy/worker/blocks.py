"""Block files -> tensors, by TensorFlow's own ops; the format is in ``data/layout.py``.

Between :func:`decode` and :func:`finish` rows can be sliced, gathered and rebatched: each column
travels as one or more tensors whose first dimension is the row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import tensorflow as tf

from spark_strategy.data.columns import ColumnSpec
from spark_strategy.data.layout import (
    ITEM_BYTES,
    STRING,
    STRINGS_CONTENT,
    STRINGS_TYPE_AND_SHAPE,
    VARINT_BYTES,
    VARINT_MARKS,
    VARINT_SHIFTS,
    counts_key,
    sizes_key,
    values_key,
)

_INT64_BYTES: Final = 8


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
    shapes = {spec.name: spec.shape for spec in specs}
    kinds = [part for spec in specs for part in spec.parts]
    header_bytes = _INT64_BYTES * (1 + len(kinds))
    header = tf.io.decode_raw(tf.strings.substr(content, 0, header_bytes), tf.int64)
    header = tf.ensure_shape(header, [1 + len(kinds)])
    begins = header_bytes + tf.cumsum(header[1:], exclusive=True)
    columns = {}
    for place, part in enumerate(kinds):
        data = tf.strings.substr(content, begins[place], header[place + 1])
        if part.dtype == STRING:
            values = tf.io.parse_tensor(data, tf.string)
        else:
            values = tf.io.decode_raw(data, part.dtype)
        # A carrier has one string per row.
        shape = shapes.get(part.key, ())
        values = tf.reshape(values, [header[0], *shape])
        columns[part.key] = tf.ensure_shape(values, [None, *shape])
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


def _ragged(columns: Mapping[str, tf.Tensor], spec: ColumnSpec) -> tf.RaggedTensor:
    rows = columns[values_key(spec.name)]
    value_bytes = ITEM_BYTES.get(spec.dtype, VARINT_BYTES)
    if spec.dtype == STRING:
        measured = columns[sizes_key(spec.name)]
        values = _strings(tf.strings.reduce_join(measured), tf.strings.reduce_join(rows))
    else:
        measured = rows
        values = tf.io.decode_raw(tf.strings.reduce_join(rows), spec.dtype)
    inner = spec.shape[spec.ragged_rank :]
    values = tf.reshape(values, [-1, *inner])
    if spec.ragged_rank == 1:
        unit_bytes = value_bytes * tf.reduce_prod(tf.constant(inner, tf.int64))
        return _split(values, _lengths(measured) // unit_bytes)
    counts = columns[counts_key(spec.name)]
    arrays = tf.io.decode_raw(tf.strings.reduce_join(counts), tf.int64)
    return _split(_split(values, arrays), _lengths(counts) // _INT64_BYTES)


def _split(values: tf.Tensor | tf.RaggedTensor, lengths: tf.Tensor) -> tf.RaggedTensor:
    return tf.RaggedTensor.from_row_lengths(values, lengths, validate=False)


def _lengths(strings: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.strings.length(strings), tf.int64)


def _strings(sizes: tf.Tensor, data: tf.Tensor) -> tf.Tensor:
    """The strings that have these sizes, as varints, and these bytes."""
    count = _lengths(sizes) // VARINT_BYTES
    content = tf.strings.join([sizes, data])
    tensor = [
        tf.constant(STRINGS_TYPE_AND_SHAPE),
        _varint(count),
        tf.constant(STRINGS_CONTENT),
        _varint(_lengths(content)),
        content,
    ]
    return tf.reshape(tf.io.parse_tensor(tf.strings.join(tensor), tf.string), [count])


def _varint(number: tf.Tensor) -> tf.Tensor:
    """A number as a varint of fixed width."""
    groups = tf.bitwise.right_shift(number, tf.constant(VARINT_SHIFTS, tf.int64))
    marked = (groups & 127) | tf.constant(VARINT_MARKS, tf.int64)
    return tf.strings.reduce_join(tf.gather([bytes([byte]) for byte in range(256)], marked))
