"""Columns that the names of folders give: ``year=2013/part-0.tfrecord``."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, tzinfo
from decimal import Decimal
from functools import reduce
from typing import Any, Final

import numpy as np
import pyarrow as pa

from spark_strategy.errors import DataError, PlanError
from spark_strategy.tfrecord.files import NULL_PARTITION, File

# The characters that Spark does not leave as they are in the name of a folder
# (ExternalCatalogUtils.escapePathName); all others, also beyond ASCII, stay.
_ESCAPED: Final = re.compile(r"""[\x01-\x1f"#%'*/:=?\\\x7f{\[\]^]""")
_ESCAPE: Final = re.compile(r"%([0-9A-Fa-f]{2})")

# What Java's parsers take, which is neither what Python's nor what Arrow's take.
_WHOLE: Final = re.compile(r"[+-]?\d+")
_BIG: Final = re.compile(r"[+-]?(\d+\.?(\d*)|\.(\d+))([eE]([+-]?\d{1,3}))?")
_DOUBLE: Final = re.compile(
    r"([+-]?)(NaN|Infinity|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?=[fFdD]?$)"
    r"|0[xX](?:[0-9a-fA-F]+\.?|[0-9a-fA-F]*\.[0-9a-fA-F]+)[pP][+-]?\d+(?=[fFdD]?$))[fFdD]?",
    re.ASCII,
)
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_ANY_DATE: Final = re.compile(r"(\d{4})(?:-(\d{1,2})(?:-(\d{1,2}))?)?", re.ASCII)
_TIMESTAMP: Final = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{1,9})?", re.ASCII)
# Spark's largest number of digits, of any decimal and of those that an integer and a long take.
_DIGITS: Final = {"integer": 10, "long": 20}
_MOST_DIGITS: Final = 38


def partition_types(files: Sequence[File], *, inferred: bool = True) -> dict[str, str]:
    """Spark's type of each partition column, the narrowest that all its values fit.

    The rules are those of ``PartitioningUtils.inferPartitionColumnValue`` and of its table of
    wider types.

    Args:
        files: with the values of their folders.
        inferred: whether types are looked for; else all are strings
            (``spark.sql.sources.partitionColumnTypeInference.enabled``).

    Raises:
        PlanError: some files have a column that others lack.
    """
    names = {tuple(file.partition): file.path for file in files}
    if len(names) > 1:
        (first, one), (second, other) = list(names.items())[:2]
        raise PlanError(
            f"{one} is partitioned by {list(first)}, but {other} by {list(second)}. Load them "
            "apart, or give the folder in which they agree."
        )
    return {
        name: _narrowest({file.partition[name] for file in files}) if inferred else "string"
        for name in (files[0].partition if files else ())
    }


def _narrowest(texts: Iterable[str | None]) -> str:
    kinds = {_kind(text) for text in texts if text is not None}
    return reduce(_wider, sorted(kinds)) if kinds else "string"


def _kind(text: str) -> str:
    """Spark's type of one value."""
    if _WHOLE.fullmatch(text):
        bits = int(text).bit_length() if int(text) >= 0 else (~int(text)).bit_length()
        if bits <= 63:
            return "integer" if bits <= 31 else "long"
    if digits := _whole_digits(text):
        return f"decimal({digits},0)"
    for name, read in (("double", _double), ("timestamp", _strict_timestamp), ("date", _date)):
        if read(text) is not None:
            return name
    return "string"


def _whole_digits(text: str) -> int:
    """The digits of a whole number that may be written with an exponent; 0 if it is none."""
    match = _BIG.fullmatch(text)
    if match is None or len(match[2] or match[3] or "") > int(match[5] or 0):
        return 0
    digits = len(str(abs(int(Decimal(text))))) if int(match[5] or 0) <= _MOST_DIGITS else 99
    return digits if digits <= _MOST_DIGITS else 0


def _wider(one: str, other: str) -> str:
    """Spark's type that holds values of both."""
    pair = {one, other}
    if len(pair) == 1:
        return one
    if pair == {"integer", "long"}:
        return "long"
    if pair == {"integer", "double"}:
        return "double"
    if pair == {"date", "timestamp"}:
        return "timestamp"
    digits = [_DIGITS.get(kind) or _decimal_digits(kind) for kind in pair]
    return f"decimal({max(digits)},0)" if all(digits) else "string"


def _decimal_digits(kind: str) -> int:
    return int(kind[8:].partition(",")[0]) if kind.startswith("decimal") else 0


def _double(text: str) -> float | None:
    match = _DOUBLE.fullmatch(text.strip("".join(map(chr, range(33)))))
    if match is None:
        return None
    number = match[2]
    return float.fromhex(match[1] + number) if "x" in number.lower() else float(match[1] + number)


def _date(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if _DATE.fullmatch(text) else None
    except ValueError:
        return None


def _strict_timestamp(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text[:26]) if _TIMESTAMP.fullmatch(text) else None
    except ValueError:
        return None


def _any_date(text: str) -> date | None:
    """A date as Spark's cast takes it: month and day may lack, or have one digit."""
    match = _ANY_DATE.fullmatch(text.strip())
    return date(int(match[1]), int(match[2] or 1), int(match[3] or 1)) if match else None


def _any_timestamp(text: str) -> datetime | None:
    found = _any_date(text)
    return datetime.combine(found, datetime.min.time()) if found else datetime.fromisoformat(text)


def _flag(text: str) -> bool | None:
    return {"true": True, "false": False}.get(text.lower())


def partition_scalar(text: str | None, kind: pa.DataType, zone: tzinfo = UTC) -> pa.Scalar:
    """A folder's value as a column has it.

    Args:
        text: the value; None for null.
        kind: of the column.
        zone: the session's, in which timestamps are written.

    Raises:
        PlanError: it is not a value of that type.
    """
    if text is None:
        return pa.scalar(None, kind)
    try:
        value = next(read for fits, read in _READERS if fits(kind))(text)
        if isinstance(value, datetime) and kind.tz and value.tzinfo is None:
            value = value.replace(tzinfo=zone)
        if value is not None:
            return pa.scalar(value, kind)
    except (ValueError, ArithmeticError, pa.ArrowException):
        pass
    raise PlanError(f"The folder's value {text!r} is not of the type {kind}, which its column has.")


def _whole(text: str) -> int | None:
    return int(text) if _WHOLE.fullmatch(text) else None


def _decimal(text: str) -> Decimal | None:
    return Decimal(text) if _BIG.fullmatch(text) else None


# How Spark reads a folder's value as a type (PartitioningUtils.castPartValueToDesiredType).
_READERS: Final[Sequence[tuple[Callable[[pa.DataType], bool], Callable[[str], Any]]]] = (
    (pa.types.is_string, str),
    (pa.types.is_binary, str.encode),
    (pa.types.is_integer, _whole),
    (pa.types.is_floating, _double),
    (pa.types.is_decimal, _decimal),
    (pa.types.is_boolean, _flag),
    (pa.types.is_date, _any_date),
    (pa.types.is_timestamp, _any_timestamp),
)


def folder_of(values: Mapping[str, Any], zone: tzinfo = UTC) -> str:
    """The folder for rows with these values, as Spark names it.

    Args:
        values: by column.
        zone: the session's, in which timestamps are written.

    Raises:
        DataError: binary that is not UTF-8 text.
    """
    return "/".join(f"{_escaped(name)}={_named(value, zone)}" for name, value in values.items())


def _named(value: Any, zone: tzinfo) -> str:
    return NULL_PARTITION if value is None or value in ("", b"") else _escaped(_text(value, zone))


def _text(value: Any, zone: tzinfo) -> str:
    """A value as Spark's cast to a string writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float | np.floating) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        local = value if value.tzinfo is None else value.astimezone(zone)
        text = local.replace(tzinfo=None).isoformat(" ")
        return text.rstrip("0") if local.microsecond else text
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise DataError(f"{value!r} cannot name a folder, since it is not UTF-8.") from error
    return str(value)


def _escaped(text: str) -> str:
    return _ESCAPED.sub(lambda match: f"%{ord(match[0]):02X}", text)


def unescaped(text: str) -> str:
    """The text that a folder's name stands for."""
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)), text)
