"""Pickles a function with its arguments, and names what cannot be pickled."""

from __future__ import annotations

import inspect
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import cloudpickle

from spark_strategy.errors import PlanError


def pickled(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> bytes:
    """``(function, args, kwargs)`` as bytes that plain ``pickle.loads`` reads.

    A function of a script or of a project that is not installed goes by value, so that the
    executors need not have it.

    Raises:
        PlanError: names the argument, closure variable or global that cannot be pickled.
    """
    with _by_value(inspect.getmodule(function)):
        try:
            return bytes(cloudpickle.dumps((function, args, dict(kwargs))))
        # Pickling runs the objects' own code: anything can come out of it.
        except Exception as error:
            raise PlanError(_explain(function, args, kwargs, error)) from error


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
    roots = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    return not path or any(path.startswith(root) for root in roots)


def _explain(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    error: Exception,
) -> str:
    name = getattr(function, "__qualname__", repr(function))
    for what, value in _parts(function, args, kwargs):
        try:
            cloudpickle.dumps(value)
        except Exception as own:  # noqa: BLE001 - as in pickled()
            return (
                f"{name} cannot be sent to the executors: {what}, a "
                f"{type(value).__qualname__}, cannot be pickled ({own}). Create it inside "
                "the function, or pass something that can be pickled (a path, a setting)."
            )
    return f"{name} cannot be sent to the executors: {error}"


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
