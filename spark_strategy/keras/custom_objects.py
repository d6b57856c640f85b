"""The user's own classes and functions that a model is made of."""

from __future__ import annotations

import contextlib
import inspect
import sys
import threading
import types
from collections.abc import Iterator, Mapping
from typing import Any

_LIBRARIES = ("keras", "tf_keras", "tensorflow", "builtins", "numpy")
_LAMBDA = "<lambda>"
# What Keras's base classes put into every configuration.
_BASE_ENTRIES = frozenset({"name", "trainable", "dtype"})
# Saving runs the user's own code, which may save another model.
_NAMING = threading.RLock()


def collect(model: Any) -> dict[str, Any]:
    """Every class and function outside Keras that the model's configuration may name, by name."""
    found: dict[str, Any] = {}
    for part in parts(model):
        own = part if isinstance(part, types.FunctionType | type) else type(part)
        package = (own.__module__ or "").partition(".")[0]  # a function made by exec has None
        if package not in _LIBRARIES and own.__name__ != _LAMBDA:
            found[own.__name__] = own
            found[_registered_name(own)] = own
    return found


@contextlib.contextmanager
def named_lambdas(model: Any) -> Iterator[dict[str, Any]]:
    """Gives each lambda a name of its own while the model is saved, and yields them by it.

    Keras stores a lambda as bytecode, without the globals it needs; a function with a name is
    looked up among the custom objects instead, and those cloudpickle carries completely. The name
    is in the function itself, which models in other threads may share: one at a time is saved.
    """
    with _NAMING:
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


def readable(config: Any, custom: Mapping[str, Any]) -> Any:
    """A saved configuration, so that Keras revives classes whose constructor takes little.

    ``def __init__(self)`` is how most layers are written, but Keras passes what its base classes
    put into every configuration (name, dtype, trainable). Those entries are left out where the
    constructor takes them not. Classes that take ``**kwargs`` or have a ``from_config`` of their
    own get everything.

    Args:
        config: what ``config.json`` of a ``.keras`` archive holds, or a part of it.
        custom: the user's classes by the name that the configuration has for them.
    """
    if isinstance(config, list):
        return [readable(one, custom) for one in config]
    if not isinstance(config, dict):
        return config
    parts = {name: readable(value, custom) for name, value in config.items()}
    # None for Keras's own classes, as Keras looks it up.
    own = custom.get(str(config.get("registered_name", config.get("class_name"))))
    if isinstance(own, type) and isinstance(parts.get("config"), dict) and _is_plain(own):
        dropped = _BASE_ENTRIES - set(inspect.signature(own).parameters)
        parts["config"] = {k: v for k, v in parts["config"].items() if k not in dropped}
    return parts


def _is_plain(own: type) -> bool:
    """Whether the class accepts named arguments only, and leaves reviving to Keras."""
    reviving = next((base for base in own.__mro__ if "from_config" in vars(base)), None)
    if reviving is None or reviving.__module__.partition(".")[0] not in _LIBRARIES:
        return False
    kinds = [parameter.kind for parameter in inspect.signature(own).parameters.values()]
    return inspect.Parameter.VAR_KEYWORD not in kinds


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
