"""Reads JSON into dataclasses, and refuses every other shape with one clear error.

What is read here was written by another process of this library, so a shape that does not fit
means that the two processes run different versions of it.
"""

from __future__ import annotations

import functools
import json
import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from spark_strategy.errors import ExecutorEnvironmentError

T = TypeVar("T")


def parse(kind: type[T], text: str | bytes, /, **given: Any) -> T:
    """The dataclass that a JSON object describes.

    Args:
        kind: a dataclass of JSON's own types, enumerations, tuples and other such dataclasses.
        text: JSON.
        given: fields that the JSON does not hold.

    Raises:
        ExecutorEnvironmentError: the text is not JSON, or has another shape.
    """
    return build(kind, parse_any(kind.__name__, text), **given)


def parse_any(what: str, text: str | bytes) -> Any:
    """What any JSON says.

    Raises:
        ExecutorEnvironmentError: it is not JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _refused(what, f"it is not JSON ({type(error).__name__})") from error


def build(kind: type[T], value: Any, /, **given: Any) -> T:
    """The dataclass that an object out of JSON describes.

    Raises:
        ExecutorEnvironmentError: it has another shape.
    """
    what = kind.__name__
    expected = {one.name: one for one in fields(kind) if one.name not in given}  # type: ignore[arg-type]
    if not isinstance(value, Mapping):
        raise _refused(what, f"it is a {type(value).__name__}, not an object")
    missing = [
        name
        for name, one in expected.items()
        if name not in value and one.default is MISSING and one.default_factory is MISSING
    ]
    if missing:
        raise _refused(what, f"it lacks {', '.join(missing)}")
    if unknown := [name for name in value if name not in expected]:
        raise _refused(what, f"it has {len(unknown)} fields that are not known here")
    hints = _hints(kind)  # type: ignore[arg-type] # a class
    read = {name: _read(hints[name], one, f"{what}.{name}") for name, one in value.items()}
    return kind(**read, **given)


@functools.cache
def _hints(kind: type) -> Mapping[str, Any]:
    return get_type_hints(kind)


def _read(hint: Any, value: Any, where: str) -> Any:
    if isinstance(hint, types.UnionType):
        return _read_optional(hint, value, where)
    if get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise _refused(where, f"it is a {type(value).__name__}, not a list")
        return tuple(_read(get_args(hint)[0], one, where) for one in value)
    if get_origin(hint) is not None and issubclass(get_origin(hint), Mapping):
        if not isinstance(value, Mapping):
            raise _refused(where, f"it is a {type(value).__name__}, not an object")
        return {name: _read(get_args(hint)[1], one, where) for name, one in value.items()}
    if is_dataclass(hint):
        return build(hint, value)  # type: ignore[arg-type] # a class, not an instance
    if issubclass(hint, Enum):
        try:
            return hint(value)
        except ValueError as error:
            raise _refused(where, f"it is none of the {hint.__name__}s known here") from error
    return _read_plain(hint, value, where)


def _read_optional(hint: types.UnionType, value: Any, where: str) -> Any:
    if value is None:
        return None
    (kind,) = (one for one in get_args(hint) if one is not types.NoneType)
    return _read(kind, value, where)


def _read_plain(hint: type, value: Any, where: str) -> Any:
    if hint is float and type(value) is int:
        return float(value) if abs(value) < 2**53 else math.inf
    if type(value) is not hint:
        raise _refused(where, f"it is a {type(value).__name__}, not a {hint.__name__}")
    return value


def _refused(what: str, why: str) -> ExecutorEnvironmentError:
    return ExecutorEnvironmentError(
        f"{what}, as another process of the run wrote it, cannot be read: {why}. "
        "Driver and executors need the same version of spark_strategy."
    )
