"""A model server's reply -> Arrow columns; the protocol is in ``serving.py``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from spark_strategy.errors import DataError
from spark_strategy.serving import Output

Array = npt.NDArray[Any]

# As Spark stores a vector (``VectorUDT.sqlType``): this type is a dense one.
_DENSE: Final = 1


def values_in(reply: memoryview, outputs: Sequence[Output], rows: int) -> Iterator[Any]:
    """Each output's values: an array with the rows first; of strings an Arrow array."""
    place = 0
    for output in outputs:
        count = rows * math.prod(output.shape)
        if output.dtype == "string":
            lengths = np.frombuffer(reply, "<i8", count, place)
            place += lengths.nbytes
            size = int(lengths.sum())
            yield _texts(lengths, reply[place : place + size])
            place += size
        else:
            numbers = np.frombuffer(reply, output.dtype, count, place)
            place += numbers.nbytes
            yield numbers.reshape(rows, *output.shape)


def column(values: Any, shape: tuple[int, ...]) -> pa.Array:
    """Values as a column: of numbers, of arrays, of arrays of arrays.

    Args:
        values: as :func:`values_in` gives them.
        shape: of one row. One value in each, of shape (1,), is a number.
    """
    made = values if isinstance(values, pa.Array) else _numbers(values)
    for length in reversed(() if shape == (1,) else shape):
        offsets = np.arange(0, len(made) + 1, length)
        made = lists(offsets, made)
    return made


def vector(values: Array) -> pa.Array:
    """Values of shape ``[rows, n]`` as dense Spark ML vectors."""
    rows, length = values.shape
    offsets = np.arange(rows + 1) * length
    fields = {
        "type": _numbers(np.full(rows, _DENSE, np.int8)),
        "size": pa.nulls(rows, pa.int32()),
        "indices": pa.nulls(rows, pa.list_(pa.int32())),
        "values": lists(offsets, _numbers(values.astype(np.float64))),
    }
    return pa.StructArray.from_arrays(list(fields.values()), names=list(fields))


def spread(made: pa.Array, good: Array) -> pa.Array:
    """A column of the good rows as one of all rows, null elsewhere.

    Args:
        made: one value for each row that is good.
        good: which rows are.
    """
    if good.all():
        return made
    places = np.cumsum(good) - 1
    return made.take(pa.array(places, mask=~good))


def _numbers(values: Array) -> pa.Array:
    """Values one after the other, in the same memory.

    ``pa.array`` would import pandas: 28 MB in each Python worker of an executor (*measured*).
    """
    if values.dtype == np.bool_:
        return _numbers(values.view(np.uint8)).cast(pa.bool_())
    flat = np.ascontiguousarray(values).reshape(-1)
    kind = pa.from_numpy_dtype(flat.dtype)
    return pa.Array.from_buffers(kind, len(flat), [None, pa.py_buffer(flat)])


def lists(offsets: Array, values: pa.Array) -> pa.ListArray:
    """Arrays back to back as a column.

    Args:
        offsets: where each begins, and the end.
        values: of all of them.

    Raises:
        DataError: Spark's offsets of 32 bits would not reach the end.
    """
    return pa.ListArray.from_arrays(_numbers(_offsets(offsets)), values)


def _offsets(offsets: Array) -> Array:
    """Offsets as Spark has them, of 32 bits.

    Raises:
        DataError: they would not reach the end.
    """
    if offsets[-1] > np.iinfo(np.int32).max:
        raise DataError(
            f"The model gave {offsets[-1]:,} values or bytes for {len(offsets) - 1:,} rows, and "
            "Spark takes 2**31 - 1 in one column of a batch. Use a smaller batch_size."
        )
    return offsets.astype(np.int32)


def _texts(lengths: Array, data: memoryview) -> pa.Array:
    offsets = _offsets(np.concatenate([[0], np.cumsum(lengths)]))
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.string(), len(lengths), buffers)
