"""Arrow batches -> blocks, in the format of ``layout.py``.

No row passes through Python: values go from Arrow's buffers into the file, by way of numpy only
where they change.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from spark_strategy.data.arrays import Texts, Values, values_of
from spark_strategy.data.columns import ColumnSpec
from spark_strategy.data.layout import ALIGN_BYTES, INT64_BYTES

_Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Block:
    """The content of a block file.

    Attributes:
        rows: rows in it; at least 1.
        nbytes: bytes of all buffers.
        buffers: to be written one after the other. Some are views of the batch.
    """

    rows: int
    nbytes: int
    buffers: Sequence[memoryview]


def encode(
    batch: pa.RecordBatch, specs: Sequence[ColumnSpec], *, block_bytes: int
) -> Iterator[Block]:
    """The rows of a batch, in order.

    Args:
        batch: columns in any order; what no spec names is left out.
        specs: what the columns become.
        block_bytes: bytes of a block, about. A larger batch is cut into several of one size, each
            with one row at least.

    Raises:
        DataError: a row does not fit its spec; then there is no block of this batch.
    """
    parts = [part for spec in specs for part in _parts(values_of(batch, spec))]
    row_bytes = np.zeros(batch.num_rows, np.int64)
    for part in parts:
        row_bytes += part.row_bytes()
    for first, end in _cuts(row_bytes, block_bytes):
        yield _block(end - first, [view for part in parts for view in part.cut(first, end)])


@dataclass(frozen=True, slots=True)
class _Numbers:
    """A part that is numbers."""

    values: _Array
    per_row: int

    def row_bytes(self) -> int:
        return self.per_row * self.values.itemsize

    def cut(self, first: int, end: int) -> list[memoryview]:
        return [_view(self.values[first * self.per_row : end * self.per_row])]


@dataclass(frozen=True, slots=True)
class _Strings:
    """A part that is byte strings."""

    offsets: _Array
    data: _Array
    per_row: int = 1

    def row_bytes(self) -> _Array:
        ends: _Array = self.offsets[:: self.per_row]
        return np.diff(ends) + INT64_BYTES * self.per_row

    def cut(self, first: int, end: int) -> list[memoryview]:
        offsets = self.offsets[first * self.per_row : end * self.per_row + 1]
        data = self.data[offsets[0] : offsets[-1]]
        return [_view(_int64(np.diff(offsets))), _view(data)]


def _parts(values: Values) -> Iterator[_Numbers | _Strings]:
    """A column's parts, in the order of ``ColumnSpec.parts``."""
    leaf, unit = values.leaf, values.unit
    if not values.counts:
        if isinstance(leaf, Texts):
            yield _Strings(leaf.offsets, leaf.data, unit)
        else:
            yield _Numbers(leaf, unit)
        return
    outer, *inner = values.counts
    ends = _offsets(outer)
    for counts in inner:
        yield _Strings(ends * INT64_BYTES, _int64(counts).view(np.uint8))
        ends = _offsets(counts)[ends]
    ends = ends * unit
    if isinstance(leaf, Texts):
        yield _Strings(ends * INT64_BYTES, _int64(np.diff(leaf.offsets)).view(np.uint8))
        yield _Strings(leaf.offsets[ends], leaf.data)
    else:
        yield _Strings(ends * leaf.itemsize, leaf.view(np.uint8))


def _block(rows: int, sections: Sequence[memoryview]) -> Block:
    header = _view(_int64(np.array([rows, *(section.nbytes for section in sections)])))
    buffers = [buffer for section in (header, *sections) for buffer in _aligned(section)]
    return Block(rows, sum(buffer.nbytes for buffer in buffers), buffers)


def _aligned(section: memoryview) -> Iterator[memoryview]:
    """The section, and what it takes for the next one to begin where it should."""
    if section.nbytes:
        yield section
    if missing := -section.nbytes % ALIGN_BYTES:
        yield memoryview(bytes(missing))


def _cuts(row_bytes: _Array, block_bytes: int) -> Iterator[tuple[int, int]]:
    """First row and the row after the last one of each block; as even as rows allow."""
    if not len(row_bytes):
        return
    ends = np.cumsum(row_bytes)
    blocks = -(-int(ends[-1]) // block_bytes)
    # A row belongs to the block that its last byte falls into.
    number = (ends - 1) * blocks // ends[-1]
    cuts = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), len(row_bytes)]
    yield from itertools.pairwise(cuts)


def _offsets(counts: _Array) -> _Array:
    return np.concatenate([[0], np.cumsum(counts)])


def _int64(numbers: _Array) -> _Array:
    return numbers.astype("<i8", copy=False)


def _view(array: _Array) -> memoryview:
    return array.view(np.uint8).data
