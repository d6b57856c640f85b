"""The dtype of columns that are put side by side: one in which none of them loses a digit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

# Bits of an integer that a dtype holds exactly, smallest dtype first.
_INTEGER_BITS: Final = {
    "bool": 1,
    "int8": 7,
    "uint8": 8,
    "int16": 15,
    "uint16": 16,
    "int32": 31,
    "int64": 63,
    "float16": 11,
    "float32": 24,
    "float64": 53,
}

# Up to this, float64 holds every integer.
EXACT_INTEGERS: Final = 2 ** _INTEGER_BITS["float64"]


def common_dtype(dtypes: Iterable[str]) -> str:
    """The smallest dtype that holds all values of each of these; float64 where there is none.

    There is none for int64 beside floats: :func:`is_exact` tells whose values must be looked at.
    """
    given = set(dtypes)
    if len(given) == 1:
        return given.pop()
    fitting = (one for one in _INTEGER_BITS if all(is_exact(dtype, one) for dtype in given))
    return next(fitting, "float64")


def is_exact(dtype: str, other: str) -> bool:
    """Whether ``other`` holds every value of ``dtype``."""
    if dtype == other:
        return True
    if dtype.startswith("float") and not other.startswith("float"):
        return False
    if dtype.startswith(("int", "float")) and other.startswith(("uint", "bool")):
        return False
    return _INTEGER_BITS[dtype] <= _INTEGER_BITS[other]
