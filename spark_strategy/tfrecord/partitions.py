"""Columns that the names of folders give: ``year=2013/part-0.tfrecord``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from typing import Any, Final
from urllib.parse import quote

import pyarrow as pa

from spark_strategy.errors import PlanError
from spark_strategy.tfrecord.files import NULL_PARTITION, File

# What a folder may be named after, narrowest first: Spark's name of the type, and its reader.
_TYPES: Final[Sequence[tuple[str, Callable[[str], Any]]]] = (
    ("integer", lambda text: _whole(text, 31)),
    ("long", lambda text: _whole(text, 63)),
    ("double", float),
    ("date", date.fromisoformat),
    ("string", str),
)


def _whole(text: str, bits: int) -> int:
    value = int(text)
    if not -(2**bits) <= value < 2**bits:
        raise ValueError(text)
    return value


def partition_types(files: Sequence[File]) -> dict[str, str]:
    """Spark's type of each partition column, the narrowest that all its values fit.

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
        name: _narrowest(file.partition[name] for file in files)
        for name in (files[0].partition if files else ())
    }


def _narrowest(texts: Iterable[str | None]) -> str:
    values = {text for text in texts if text is not None}
    for name, read in _TYPES:
        try:
            for text in values:
                read(text)
        except ValueError:
            continue
        return name
    raise AssertionError("any text is a string")


def partition_scalar(text: str | None, kind: pa.DataType) -> pa.Scalar:
    """A folder's value as a column has it.

    Raises:
        PlanError: it is no value of that type.
    """
    if text is None:
        return pa.scalar(None, kind)
    try:
        return pa.scalar(text).cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise PlanError(f"The folder's value {text!r} is no {kind}: {error}") from error


def folder_of(values: Mapping[str, Any]) -> str:
    """The folder for rows with these values, as Spark names it."""
    return "/".join(f"{_escaped(name)}={_text(value)}" for name, value in values.items())


def _text(value: Any) -> str:
    if value is None or value == "":
        return NULL_PARTITION
    return _escaped(str(value).lower() if isinstance(value, bool) else str(value))


def _escaped(text: str) -> str:
    return quote(text, safe=" !$&()+,;@-._~")
