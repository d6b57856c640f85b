"""Arrow arrays out of flat values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from spark_strategy.tfrecord.features import Feature
from spark_strategy.tfrecord.wire import Array


class BadValuesError(Exception):
    """Values that do not fit the type of their column.

    Attributes:
        reasons: by the number of their row.
    """

    def __init__(self, reasons: dict[int, str]) -> None:
        super().__init__(reasons)
        self.reasons = reasons


@dataclass(frozen=True, slots=True)
class Layout:
    """How flat values spread over rows.

    Attributes:
        present: bool per row; the others are null.
        counts: values per row; with ``lists``, values per list.
        lists: lists per row, for an array of arrays.
    """

    present: Array
    counts: Array
    lists: Array | None

    def row_of(self, value: int) -> int:
        """The row that a flat value belongs to."""
        at = int(np.searchsorted(np.cumsum(self.counts), value, side="right"))
        if self.lists is None:
            return at
        return int(np.searchsorted(np.cumsum(self.lists), at, side="right"))


def arrow_array(feature: Feature, layout: Layout, values: tuple[Array, Array | None]) -> pa.Array:
    """A column.

    Args:
        feature: whose type the array gets.
        layout: of the values.
        values: flat; of strings their bytes, and where each begins.

    Raises:
        BadValuesError: values out of the range of the type, or text that is no UTF-8.
    """
    flat, ends = values
    if feature.depth == 0 and not layout.present.all():
        flat, ends = _spread(layout.present, flat, ends)
    valid = layout.present if feature.depth == 0 else None
    if ends is not None:
        array = _strings(feature, layout, flat, ends, valid)
    else:
        array = _numbers(feature, layout, flat, valid)
    if feature.depth == 0:
        return array
    if feature.is_vector:
        return _vectors(feature, layout, array)
    if layout.lists is not None:
        array = _list(feature.arrow.value_type, layout.counts, None, array)
        return _list(feature.arrow, layout.lists, layout.present, array)
    return _list(feature.arrow, layout.counts, layout.present, array)


def _spread(present: Array, flat: Array, ends: Array | None) -> tuple[Array, Array | None]:
    """A slot for each row, also for those without a value."""
    rows = len(present)
    if ends is None:
        out = np.zeros(rows, flat.dtype)
        out[present] = flat
        return out, None
    sizes = np.zeros(rows, np.int64)
    sizes[present] = np.diff(ends)
    return flat, np.concatenate([[0], np.cumsum(sizes)])


def _bitmap(valid: Array | None) -> pa.Buffer | None:
    if valid is None or valid.all():
        return None
    return pa.py_buffer(np.packbits(valid, bitorder="little"))


def _strings(
    feature: Feature, layout: Layout, text: Array, ends: Array, valid: Array | None
) -> pa.Array:
    # A batch's records are fewer than 2^31 bytes, so their strings are as well.
    buffers = [_bitmap(valid), pa.py_buffer(ends.astype(np.int32)), pa.py_buffer(text)]
    array = pa.Array.from_buffers(feature.scalar, len(ends) - 1, buffers)
    if pa.types.is_string(feature.scalar):
        try:
            array.validate(full=True)
        except pa.ArrowInvalid:
            pieces = (text[ends[i] : ends[i + 1]].tobytes() for i in range(len(ends) - 1))
            bad = [at for at, piece in enumerate(pieces) if not _is_text(piece)]
            why = f"feature {feature.name!r} is no UTF-8, but its column is text"
            raise BadValuesError(_blame(feature, layout, bad, why)) from None
    return array


def _is_text(piece: bytes) -> bool:
    try:
        piece.decode()
    except UnicodeDecodeError:
        return False
    return True


def _blame(feature: Feature, layout: Layout, values: list[int], why: str) -> dict[int, str]:
    """By row; of scalars, each row has a slot already."""
    rows = values if feature.depth == 0 else [layout.row_of(value) for value in values]
    return dict.fromkeys(rows, why)


def _numbers(feature: Feature, layout: Layout, flat: Array, valid: Array | None) -> pa.Array:
    kind = feature.scalar
    array = pa.Array.from_buffers(
        pa.int64() if flat.dtype == np.int64 else pa.float32(),
        len(flat),
        [_bitmap(valid), pa.py_buffer(flat)],
    )
    if array.type == kind:
        return array
    try:
        return _cast(array, kind)
    except pa.ArrowInvalid:
        reasons: dict[int, str] = {}
        for at, value in enumerate(array):
            if not _fits(value, kind):
                row = at if feature.depth == 0 else layout.row_of(at)
                why = f"feature {feature.name!r} has the value {value}, which {kind} cannot hold"
                reasons.setdefault(row, why)
        raise BadValuesError(reasons) from None


def _cast(array: pa.Array, kind: pa.DataType) -> pa.Array:
    if pa.types.is_boolean(kind):
        if not np.isin(np.asarray(array.drop_null()), (0, 1)).all():
            raise pa.ArrowInvalid("neither 0 nor 1")
        return array.cast(kind)
    if pa.types.is_timestamp(kind):
        return array.view(kind)
    if pa.types.is_date32(kind):
        return array.cast(pa.int32()).view(kind)
    if pa.types.is_decimal(kind):
        return array.cast(pa.float64()).cast(kind)
    return array.cast(kind)


def _fits(value: Any, kind: pa.DataType) -> bool:
    if not value.is_valid:
        return True
    try:
        _cast(pa.array([value.as_py()], value.type), kind)
    except pa.ArrowInvalid:
        return False
    return True


def _list(kind: pa.DataType, counts: Array, valid: Array | None, values: pa.Array) -> pa.Array:
    ends = np.zeros(len(counts) + 1, np.int32)
    np.cumsum(counts, out=ends[1:])
    buffers = [_bitmap(valid), pa.py_buffer(ends)]
    return pa.Array.from_buffers(kind, len(counts), buffers, children=[values])


def _vectors(feature: Feature, layout: Layout, values: pa.Array) -> pa.Array:
    rows = len(layout.present)
    fields = list(feature.arrow)
    parts = [
        pa.array(np.ones(rows, np.int8)),
        pa.nulls(rows, fields[1].type),
        pa.nulls(rows, fields[2].type),
        _list(fields[3].type, layout.counts, layout.present, values),
    ]
    return pa.Array.from_buffers(feature.arrow, rows, [_bitmap(layout.present)], children=parts)
