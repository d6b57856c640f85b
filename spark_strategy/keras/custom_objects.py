"""The user's own classes and functions that a model is made of."""

from __future__ import annotations

import contextlib
import inspect
import sys
import types
from collections.abc import Iterable, Iterator
from typing import Any

_LIBRARIES = ("keras", "tf_keras", "tensorflow", "builtins", "numpy")
_LAMBDA = "<lambda>"


def collect(model: Any) -> dict[str, Any]:
    """Every class and function outside Keras that the model's configuration may name, by name."""
    found: dict[str, Any] = {}
    for part in parts(model):
        own = part if isinstance(part, types.FunctionType | type) else type(part)
        if own.__module__.partition(".")[0] not in _LIBRARIES and own.__name__ != _LAMBDA:
            found[own.__name__] = own
            found[_registered_name(own)] = own
    return found


@contextlib.contextmanager
def named_lambdas(model: Any) -> Iterator[dict[str, Any]]:
    """Gives each lambda a name of its own while the model is saved, and yields them by it.

    Keras stores a lambda as bytecode, without the globals it needs; a function with a name is
    looked up among the custom objects instead, and those cloudpickle carries completely.
    """
    lambdas = [
        part
        for part in parts(model)
        if isinstance(part, types.FunctionType) and part.__name__ == _LAMBDA
    ]
    named = {f"lambda_{number}": function for number, function in enumerate(lambdas)}
    for name, function in named.items():
        function.__name__ = name
    try:
        yield named
    finally:
        for function in lambdas:
            function.__name__ = _LAMBDA


@contextlib.contextmanager
def plain_constructors(custom: Iterable[Any]) -> Iterator[None]:
    """Lets Keras revive classes whose constructor takes no name, dtype or trainable.

    ``def __init__(self)`` is how most models are written, but Keras passes what its base classes
    put into every configuration. Classes that take ``**kwargs`` or have a ``from_config`` of their
    own are left alone.
    """
    plain = {own for own in custom if isinstance(own, type) and _is_plain(own)}
    for own in plain:
        own.from_config = classmethod(_from_known)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for own in plain:
            del own.from_config  # type: ignore[attr-defined]


def _is_plain(own: type) -> bool:
    """Whether the class accepts named arguments only, and leaves reviving to Keras."""
    if not hasattr(own, "from_config") or own.from_config.__module__ == own.__module__:
        return False
    kinds = [parameter.kind for parameter in inspect.signature(own).parameters.values()]
    return inspect.Parameter.VAR_KEYWORD not in kinds


def _from_known(own: Any, config: dict[str, Any]) -> Any:
    """What Keras' ``from_config`` does, without the base classes' entries nobody asked for."""
    accepted = inspect.signature(own).parameters
    base = {"name", "trainable", "dtype"} - set(accepted)
    return super(own, own).from_config({k: v for k, v in config.items() if k not in base})


def parts(model: Any) -> Iterator[Any]:
    """The model, and every layer, optimizer, loss, metric or function reachable from it, once."""
    waiting, seen = [model], set()
    while waiting:
        part = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, dict):
            waiting.extend(part.values())
        elif isinstance(part, list | tuple | set):
            waiting.extend(part)
        elif isinstance(part, types.FunctionType):
            yield part
        elif hasattr(type(part), "get_config"):
            yield part
            waiting.extend(_attributes(part))


def _attributes(part: Any) -> list[Any]:
    """What Keras keeps in the object; a model's compile arguments are one attribute of it."""
    compiled = getattr(part, "_compile_config", None)
    # Keras wraps methods such as build per instance; those hold the instance, and have no name.
    kept = [
        value
        for name, value in vars(part).items()
        if not (isinstance(value, types.FunctionType) and hasattr(type(part), name))
    ]
    return [*kept, getattr(compiled, "config", None)]


def _registered_name(own: Any) -> str:
    """The name under which ``register_keras_serializable`` has it, or its own."""
    for flavour in ("keras", "tf_keras"):
        saving = getattr(sys.modules.get(flavour), "saving", None)
        if saving is not None and saving.get_registered_name(own) != own.__name__:
            return str(saving.get_registered_name(own))
    return str(own.__name__)
