"""The function that each worker of a Spark ML fit builds its model with."""

from __future__ import annotations

import importlib
import inspect
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from spark_strategy import shipping
from spark_strategy.errors import PlanError
from spark_strategy.keras import transport

_SERIALIZED: Final = "spark_strategy.serialized"


@dataclass(frozen=True, slots=True)
class Build:
    """Builds and compiles a model; pickled as it is.

    Attributes:
        pickled: a function, or a compiled model.
        arguments: of the function.
        overrides: arguments of ``compile``.
        seed: set before a function builds; None to leave Keras' own.
    """

    pickled: bytes = field(repr=False)
    arguments: Mapping[str, Any]
    overrides: Mapping[str, Any]
    seed: int | None

    def __call__(self) -> Any:
        """The model, compiled."""
        made = pickle.loads(self.pickled)
        if not transport.is_model(made):
            if self.seed is not None:
                import keras

                keras.utils.set_random_seed(self.seed % 2**32)
            function, _, _ = made
            made = function(**self.arguments)
        if self.overrides:
            _compile(made, {name: _revived(one) for name, one in self.overrides.items()})
        return made


def build(
    model: Any, arguments: Mapping[str, Any], overrides: Mapping[str, Any], seed: int | None
) -> Build:
    """What builds this model.

    Args:
        model: a compiled Keras model or a function.
        arguments: of the function.
        overrides: optimizer, loss and metrics that replace the model's.
        seed: for the weights that a function draws.

    Raises:
        PlanError: the function takes other arguments, or cannot be sent.
    """
    portable = {name: _portable(one) for name, one in overrides.items()}
    if not transport.is_model(model):
        check_arguments(model, arguments)
        return Build(shipping.pickled(model, (), {}), dict(arguments), portable, seed)
    if arguments:
        raise PlanError(
            f"buildArgs {', '.join(arguments)} are for a function, and model is {model.name!r}, "
            "which is built already. Set a function that builds it."
        )
    if getattr(model, "optimizer", None) is None and "optimizer" not in overrides:
        raise PlanError(f"{model.name!r} is not compiled: call compile(...), or set an optimizer.")
    return Build(transport.dumps(model), {}, portable, None)


def check_arguments(function: Any, arguments: Mapping[str, Any]) -> None:
    """Refuse arguments that a function does not take, or lacks.

    Raises:
        PlanError: names them.
    """
    signature = inspect.signature(function)
    try:
        signature.bind(**arguments)
    except TypeError as error:
        name = getattr(function, "__name__", repr(function))
        raise PlanError(
            f"{name}{signature} cannot be called with buildArgs={dict(arguments)}: {error}."
        ) from error


def _compile(model: Any, overrides: Mapping[str, Any]) -> None:
    """Compile again, with what the model had and these."""
    had = dict(model.get_compile_config() or {}) if getattr(model, "optimizer", None) else {}
    if had:
        library = transport.flavour_of(model)
        had = {name: _revived((_SERIALIZED, library, one)) for name, one in had.items()}
    model.compile(**{**had, **overrides})


def _portable(value: Any) -> Any:
    """Keras' objects as their configuration; they are made in the strategy's scope."""
    if isinstance(value, list | tuple):
        return [_portable(one) for one in value]
    if isinstance(value, dict):
        return {name: _portable(one) for name, one in value.items()}
    if hasattr(value, "get_config"):
        library = _library(value)
        config = importlib.import_module(library).saving.serialize_keras_object(value)
        return (_SERIALIZED, library, config)
    return value


def _library(value: Any) -> str:
    """The Keras that an object belongs to, also one of a class of the user's own."""
    modules = {one.__module__.partition(".")[0] for one in type(value).__mro__}
    return "tf_keras" if "tf_keras" in modules else "keras"


def _revived(value: Any) -> Any:
    if isinstance(value, tuple) and len(value) == 3 and value[0] == _SERIALIZED:
        _, library, config = value
        return importlib.import_module(library).saving.deserialize_keras_object(config)
    if isinstance(value, list):
        return [_revived(one) for one in value]
    if isinstance(value, dict):
        return {name: _revived(one) for name, one in value.items()}
    return value
