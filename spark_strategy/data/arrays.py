"""A column of an Arrow batch -> its values in one piece, as its spec says.

Whatever is wrong with a row is found here, and named. Where nothing has to be changed, the values
are a view of Arrow's own buffer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from spark_strategy.data.buffers import microseconds, numbers_of
from spark_strategy.data.columns import ColumnSpec
from spark_strategy.data.layout import STRING
from spark_strategy.errors import DataError

Array = npt.NDArray[Any]

_BLANK_STRING: Final = -1


@dataclass(frozen=True, slots=True)
class Texts:
    """Strings back to back.

    Attributes:
        offsets: where each begins, and the end: int64, from 0.
        data: their bytes.
    """

    offsets: Array
    data: Array


@dataclass(frozen=True, slots=True)
class Values:
    """All rows of a column.

    Attributes:
        leaf: the values, row after row.
        counts: for each length that varies, outermost first: how many there are in each row, and
            then in each of those.
        unit: values in each of the innermost of those; without counts, in each row.
    """

    leaf: Array | Texts
    counts: tuple[Array, ...]
    unit: int


def values_of(batch: pa.RecordBatch, spec: ColumnSpec) -> Values:
    """The rows of one column.

    Raises:
        DataError: a row has a null, another length than the spec says, or a number that the
            dtype cannot hold.
    """
    rows = _Rows(spec)
    leaf = rows.unnested(column_at(batch, spec.path))
    nulls = rows.nulls(leaf)
    if spec.dtype == STRING:
        texts = _contiguous(leaf)
        if nulls is not None:
            texts = pc.fill_null(texts, _text(spec.fill, texts.type))
        places, unit = rows.dense(np.arange(len(leaf)), _BLANK_STRING)
        return Values(_texts(_placed(texts, places, spec)), rows.varying(), unit)
    numbers = rows.numbers(leaf, nulls)
    numbers, unit = rows.dense(numbers, spec.fill if spec.pad is None else spec.pad)
    return Values(numbers, rows.varying(), unit)


class _Rows:
    """One column on its way; knows the row that a value belongs to."""

    def __init__(self, spec: ColumnSpec) -> None:
        self._spec = spec
        self._counts: list[Array] = []
        self._nulls: list[Array | None] = []

    def unnested(self, array: pa.Array) -> pa.Array:
        """The innermost values; remembers the lengths of the arrays around them."""
        for _ in range(self._spec.depth):
            nulls = self.nulls(array)
            counts = numbers_of(pc.list_value_length(array)).astype(np.int64)
            if nulls is not None:
                counts[nulls] = 0
            self._counts.append(counts)
            self._nulls.append(nulls)
            array = array.flatten()
        return array

    def nulls(self, array: pa.Array) -> Array | None:
        """Where the nulls are, if there are any and they may be filled."""
        if not array.null_count:
            return None
        nulls = numbers_of(array.is_null())
        if self._spec.fill is None:
            raise self._error(
                nulls,
                len(self._counts),
                "is null" if not self._counts else "has a null in its array",
                "Column(fill=0)" if self._spec.dtype != STRING else "Column(fill='')",
                "or remove such rows with df.na.drop",
            )
        return nulls

    def numbers(self, leaf: pa.Array, nulls: Array | None) -> Array:
        """Innermost values as the spec's dtype."""
        if pa.types.is_timestamp(leaf.type):
            values = self._microseconds(leaf, nulls)
        else:
            values = numbers_of(leaf)
        if nulls is not None:
            values = values.copy()
            values[nulls] = 0  # whatever is below a null need not fit the dtype
        values = self._cast(values, np.dtype(self._spec.dtype).newbyteorder("<"))
        if nulls is not None:
            values[nulls] = self._spec.fill
        return values

    def _microseconds(self, times: pa.Array, nulls: Array | None) -> Array:
        """Timestamps as Spark has them; never rounded."""
        values, wrong = microseconds(times)
        if nulls is not None:
            wrong &= ~nulls
        if wrong.any():
            raise self._error(
                wrong,
                self._spec.depth,
                f"holds {times[int(wrong.argmax())].value} {times.type.unit} since 1970, which "
                "whole microseconds cannot hold",
                None,
                "Write it in microseconds",
            )
        return values

    def dense(self, values: Array, blank: Any) -> tuple[Array, int]:
        """Values with the arrays of fixed length at that length, and how many are in the outermost.

        Args:
            values: the innermost ones.
            blank: stands where an array is null or shorter than it is padded to.
        """
        unit = 1
        for level in reversed(range(self._spec.ragged_rank, self._spec.depth)):
            length = self._spec.lengths[level]
            assert length is not None, "lengths vary at the front only"
            counts = self._checked(level, length)
            if (counts != length).any():
                whole = np.full((len(counts), length, unit), blank, values.dtype)
                whole[np.arange(length) < counts[:, None]] = values.reshape(-1, unit)
                values = whole.reshape(-1)
            unit *= length
        return values, unit

    def varying(self) -> tuple[Array, ...]:
        """The lengths that vary."""
        return tuple(self._counts[: self._spec.ragged_rank])

    def _checked(self, level: int, length: int) -> Array:
        """The lengths at one level of arrays, none of them wrong."""
        counts, nulls = self._counts[level], self._nulls[level]
        wrong = counts > length if self._spec.pad is not None else counts != length
        if nulls is not None:
            wrong &= ~nulls
        if wrong.any():
            spec, found = self._spec, int(counts[wrong.argmax()])
            blank = repr("" if spec.dtype == STRING else 0)
            if spec.ragged:
                advice = "Column(ragged=True) without a shape"
            elif spec.pad is not None:
                advice = f"Column(pad={spec.pad!r}, shape=...) with a larger shape"
            else:
                advice = f"Column(ragged=True) or Column(pad={blank}, shape=...)"
            raise self._error(
                wrong,
                level,
                f"has an array of {found}, and shape {spec.shape} takes {length}",
                advice,
                "or make its arrays fit in Spark",
            )
        return counts

    def _cast(self, values: Array, dtype: np.dtype[Any]) -> Array:
        """Values as another dtype.

        numpy wraps integers silently. It reports numbers that become infinite without another
        pass.
        """
        if values.dtype == dtype:
            return values
        if dtype.kind in "iu" and not np.can_cast(values.dtype, dtype):
            limits = np.iinfo(dtype)
            if len(values) and (values.min() < limits.min or values.max() > limits.max):
                self._refuse(values, (values < limits.min) | (values > limits.max))
        try:
            with np.errstate(over="raise"):
                return values.astype(dtype)
        except FloatingPointError:
            with np.errstate(over="ignore"):
                self._refuse(values, np.isinf(values.astype(dtype)) & np.isfinite(values))
            raise

    def _refuse(self, values: Array, wrong: Array) -> None:
        raise self._error(
            wrong,
            self._spec.depth,
            f"holds {values[wrong.argmax()]}, which {self._spec.dtype} cannot hold",
            "Column(dtype=...) with a wider dtype",
            "or correct it in Spark",
        )

    def _error(
        self, wrong: Array, level: int, found: str, advice: str | None, otherwise: str
    ) -> DataError:
        """Names the first row that is wrong.

        Args:
            wrong: which values are, inside ``level`` arrays.
            level: 0 for whole rows.
            found: what is wrong with it.
            advice: a declaration that would allow it; None if there is none.
            otherwise: what else to do.
        """
        rows = np.flatnonzero(wrong)
        for counts in reversed(self._counts[:level]):
            rows = np.unique(np.searchsorted(np.cumsum(counts), rows, side="right"))
        name, others = self._spec.name, len(rows) - 1
        remedy = otherwise
        if advice is not None:
            remedy = f"Declare columns={{{name!r}: {advice}}}, {otherwise}"
        more = f" (and {others:,} more)" if others else ""
        return DataError(
            f"Column {name!r} ({self._spec.spark_type}) {found}, in row {rows[0]}{more} of a "
            f"batch. {remedy}.",
            column=name,
            rows=rows.tolist(),
        )


def column_at(batch: pa.RecordBatch, path: tuple[str, ...]) -> pa.Array:
    """The column; a null struct is a null in each of its fields."""
    array = batch.column(batch.schema.get_field_index(path[0]))
    for name in path[1:]:
        array = pc.struct_field(array, [name])
    return array


def _contiguous(texts: pa.Array) -> pa.Array:
    """Strings in the layout of offsets and bytes."""
    kind = texts.type
    if pa.types.is_string_view(kind):
        return texts.cast(pa.large_string())
    if pa.types.is_binary_view(kind) or pa.types.is_fixed_size_binary(kind):
        return texts.cast(pa.large_binary())
    return texts


def _text(value: Any, kind: pa.DataType) -> pa.Scalar:
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    return pa.scalar(value if is_text else value.encode(), kind)


def _placed(texts: pa.Array, places: Array, spec: ColumnSpec) -> pa.Array:
    """Texts with blanks put between them."""
    blanks = places == _BLANK_STRING
    if not blanks.any():
        return texts
    blank = spec.fill if spec.pad is None else spec.pad
    return pc.fill_null(texts.take(pa.array(places, mask=blanks)), _text(blank, texts.type))


def _texts(array: pa.Array) -> Texts:
    """Strings without nulls."""
    if not len(array):
        return Texts(np.zeros(1, np.int64), np.empty(0, np.uint8))
    kind = array.type
    is_large = pa.types.is_large_string(kind) or pa.types.is_large_binary(kind)
    _, offsets, data = array.buffers()
    ends = np.frombuffer(offsets, np.int64 if is_large else np.int32)
    ends = ends[array.offset : array.offset + len(array) + 1].astype(np.int64)
    held = np.empty(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)
    return Texts(ends - ends[0], held[ends[0] : ends[-1]])
