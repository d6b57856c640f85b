"""The numbers in an Arrow array, as a view of its own buffer wherever they are stored so."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Array = npt.NDArray[Any]

# What float64 holds exactly: all integers below the one, powers of ten up to the other.
_EXACT_INTEGERS: Final = 2**53
_EXACT_POWERS: Final = 22

_MICROSECONDS: Final = {"s": 1_000_000, "ms": 1000}


def numbers_of(array: pa.Array) -> Array:
    """Numbers as Arrow stores them; a decimal as float64, a date as an integer."""
    kind = array.type
    if pa.types.is_boolean(kind):
        return numbers_of(array.cast(pa.uint8())).view(np.bool_)
    if pa.types.is_decimal(kind):
        return _decimals(array)
    is_date = pa.types.is_date32(kind)
    return _stored(array, np.dtype(np.int32 if is_date else kind.to_pandas_dtype()))


def microseconds(times: pa.Array) -> tuple[Array, Array]:
    """Timestamps of any unit in microseconds, and which of them these cannot hold."""
    held = _stored(times, np.dtype(np.int64))
    if times.type.unit == "us":
        return held, np.zeros(len(held), np.bool_)
    if times.type.unit == "ns":
        values, rest = np.divmod(held, 1000)
        return values, rest != 0
    factor = _MICROSECONDS[times.type.unit]
    limit = np.iinfo(np.int64).max // factor
    wrong = (held > limit) | (held < -limit)
    return np.where(wrong, 0, held) * factor, wrong


def _stored(array: pa.Array, dtype: np.dtype[Any]) -> Array:
    if not len(array):
        return np.empty(0, dtype)
    return np.frombuffer(array.buffers()[1], dtype)[array.offset : array.offset + len(array)]


def _decimals(array: pa.Array) -> Array:
    """Decimals as the nearest float64; by Arrow's own cast 0.47 is not the nearest one."""
    scale = array.type.scale
    if pa.types.is_decimal128(array.type) and len(array) and 0 <= scale <= _EXACT_POWERS:
        held = np.frombuffer(array.buffers()[1], "<i8").reshape(-1, 2)
        low, high = held[array.offset : array.offset + len(array)].T
        if ((low > -_EXACT_INTEGERS) & (low < _EXACT_INTEGERS) & (high == low >> 63)).all():
            numbers: Array = low / 10.0**scale
            return numbers
    return numbers_of(array.cast(pa.string()).cast(pa.float64()))
