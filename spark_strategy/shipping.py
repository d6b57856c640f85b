"""Pickles a function with its arguments, and names what cannot be pickled."""

from __future__ import annotations

import functools
import inspect
import io
import pickle
import site
import sys
import sysconfig
import threading
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, ClassVar, Final

import cloudpickle

from spark_strategy.bounds import text_of
from spark_strategy.errors import PlanError
from spark_strategy.spark_objects import advice
from spark_strategy.train_function import check_function

# cloudpickle's registry of modules is the process's; two runs may start at once. Pickling runs the
# objects' own code, which may pickle a function here in turn.
_REGISTRY: Final = threading.RLock()
_NO_FILE: Final = "<dynamic-code>"


def pickled(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> bytes:
    """``(function, args, kwargs)`` as bytes that plain ``pickle.loads`` reads.

    A function whose own module is a script, or is not installed, goes by value with what it
    refers to in that module, so that the executors need not have it.

    Raises:
        PlanError: it cannot be a train function; or names the argument, closure variable or global
            that cannot be pickled.
    """
    check_function(function)
    with _REGISTRY, _by_value(inspect.getmodule(_innermost(function))):
        try:
            return _dumps((function, args, dict(kwargs)))
        # Pickling runs the objects' own code: anything can come out of it.
        except Exception as error:
            raise PlanError(_explain(function, args, kwargs, error)) from error


class SharedFunction:
    """A function that is pickled once, for calls with many arguments.

    What the function and an argument have in common arrives as two objects; classes stay one.

    Raises:
        PlanError: it cannot be a train function, or cannot be pickled.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        check_function(function)
        self._function = function
        self._pickled = self._dumped(function, {})

    def with_arguments(self, arguments: Mapping[str, Any]) -> bytes:
        """A call as bytes for plain ``pickle.loads``, as from :func:`pickled`.

        Raises:
            PlanError: an argument cannot be pickled; it is named.
        """
        return pickle.dumps(_Call(self._pickled, self._dumped(dict(arguments), arguments)))

    def _dumped(self, value: Any, arguments: Mapping[str, Any]) -> bytes:
        with _REGISTRY, _by_value(inspect.getmodule(_innermost(self._function))):
            try:
                return _dumps(value)
            # Pickling runs the objects' own code: anything can come out of it.
            except Exception as error:
                raise PlanError(_explain(self._function, (), arguments, error)) from error


class _Call:
    """Two pickles that are read as one."""

    def __init__(self, function: bytes, arguments: bytes) -> None:
        self._parts = (function, arguments)

    def __reduce__(self) -> tuple[Any, tuple[bytes, bytes]]:
        return joined, self._parts


def joined(function: bytes, arguments: bytes) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """``(function, args, kwargs)`` from the two pickles of a call; where the call is made."""
    return pickle.loads(function), (), pickle.loads(arguments)


def by_value(function: Callable[..., Any]) -> bytes:
    """One function as bytes for plain ``pickle.loads``, by value if its module is not installed."""
    with _REGISTRY, _by_value(inspect.getmodule(_innermost(function))):
        return _dumps(function)


def _code(code: CodeType) -> tuple[Any, ...]:
    make, arguments = cloudpickle.Pickler.dispatch_table[CodeType](code)
    return make, tuple(code.co_filename if one == _NO_FILE else one for one in arguments)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc] # it has no annotations
    """Keeps the files that functions are from, for tracebacks with the lines of the source.

    cloudpickle leaves them out from 3.1.3 on (cloudpickle#560).
    """

    dispatch_table: ClassVar[Any] = ChainMap({CodeType: _code}, cloudpickle.Pickler.dispatch_table)

    def reducer_override(self, obj: Any) -> Any:
        """As cloudpickle's, and refuses what would arrive as something that cannot be used."""
        if text := advice(obj):
            raise _SparkObjectError(text)
        return super().reducer_override(obj)


class _SparkObjectError(Exception):
    """An object of Spark's was about to be pickled; the text says what it is and what to do."""


def _dumps(value: Any) -> bytes:
    file = io.BytesIO()
    _Pickler(file).dump(value)
    return file.getvalue()


def _innermost(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function inside partials and bound methods, whose module is the caller's."""
    while isinstance(function, functools.partial):
        function = function.func
    inner: Callable[..., Any] = getattr(function, "__func__", function)
    return inner


@contextmanager
def _by_value(module: ModuleType | None) -> Iterator[None]:
    """Have cloudpickle send ``module``'s functions and classes by value, if it is not installed."""
    if module is None or module.__name__ == "__main__" or _is_installed(module):
        yield
        return
    already = module.__name__ in cloudpickle.list_registry_pickle_by_value()
    cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        if not already:
            cloudpickle.unregister_pickle_by_value(module)


def _is_installed(module: ModuleType) -> bool:
    if module.__name__.partition(".")[0] in sys.stdlib_module_names | {"spark_strategy"}:
        return True
    path = getattr(module, "__file__", None) or ""
    roots = {*map(sysconfig.get_path, ("purelib", "platlib")), site.getusersitepackages()}
    inside = any(Path(path).is_relative_to(root) for root in roots)
    return not path or inside or "dist-packages" in Path(path).parts  # Debian's own packages


def _explain(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    error: Exception,
) -> str:
    name = getattr(function, "__qualname__", repr(function))
    for what, value in _parts(function, args, kwargs):
        try:
            _dumps(value)
        except _SparkObjectError as own:
            return f"{name} cannot be sent to the executors: {what} is {own}."
        except Exception as own:  # noqa: BLE001 - as in pickled()
            return (
                f"{name} cannot be sent to the executors: {what}, a "
                f"{type(value).__qualname__}, cannot be pickled ({text_of(own)}). Create it inside "
                "the function, or pass something that can be pickled (a path, a setting)."
            )
    refers = "it refers to " if isinstance(error, _SparkObjectError) else ""
    return f"{name} cannot be sent to the executors: {refers}{text_of(error)}"


def _parts(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
    """Everything that is pickled along with a function, with a name for each."""
    for position, value in enumerate(args):
        yield f"argument {position + 1}", value
    for key, value in kwargs.items():
        yield f"argument {key!r}", value
    if (owner := getattr(function, "__self__", None)) is not None:
        yield from _attributes(owner)
    plain = inspect.unwrap(getattr(function, "__func__", function))
    if not inspect.isfunction(plain):
        return
    variables = inspect.getclosurevars(plain)
    for key, value in {**variables.nonlocals, **variables.globals}.items():
        yield f"variable {key!r}", value


def _attributes(owner: object) -> Iterator[tuple[str, Any]]:
    for key, value in getattr(owner, "__dict__", {}).items():
        yield f"attribute {key!r} of its {type(owner).__qualname__}", value
