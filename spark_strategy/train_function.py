"""What can be a train function and which arguments it takes; decided before a launch."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from spark_strategy.errors import PlanError


def check_call(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> None:
    """Refuse a call that cannot work on any rank.

    Args:
        function: what every rank would call.
        args: its positional arguments.
        kwargs: its keyword arguments.

    Raises:
        PlanError: ``function`` is not a function, is a coroutine or generator function, is
            decorated already, or does not take these arguments.
    """
    check_function(function)
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a builtin that does not tell
        return
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise PlanError(
            f"{name_of(function)}{signature} cannot be called with "
            f"{_listed(args, kwargs)}: {error}."
        ) from None


def check_function(function: Any) -> None:
    """Refuse what is not a plain function; see :func:`check_call`.

    Raises:
        PlanError: says what it is instead, and what to pass.
    """
    if not callable(function):
        raise PlanError(
            "The function itself comes first, then its arguments, as in run(train, epochs=3), not "
            f"run(train(epochs=3)); found {_brief(function)}."
        )
    if is_distributed(function):
        raise PlanError(
            f"{name_of(function)} is decorated with @distribute already. Call it, or call its "
            "run(...); to launch it in another way, pass the plain function "
            f"({name_of(function)}.__wrapped__)."
        )
    plain = _plain(function)
    if inspect.iscoroutinefunction(plain):
        raise PlanError(
            f"{name_of(function)} is a coroutine function (async def), and a rank calls a plain "
            "one. Use def, and asyncio.run(...) inside it."
        )
    if inspect.isgeneratorfunction(plain) or inspect.isasyncgenfunction(plain):
        raise PlanError(
            f"{name_of(function)} is a generator function (it has a yield), and a rank calls a "
            "function that returns its result. Return a list instead."
        )


def is_distributed(function: Any) -> bool:
    """Whether ``distribute`` has made this."""
    return getattr(type(function), "runs_on_spark", False) is True


def name_of(function: Any) -> str:
    """What the user calls it."""
    return str(getattr(_plain(function), "__qualname__", type(function).__qualname__))


def _plain(function: Any) -> Any:
    """The function inside partials, bound methods and objects that can be called."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isroutine(function) or inspect.isclass(function) or is_distributed(function):
        return function
    return type(function).__call__


def _listed(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    given = [*map(_brief, args), *(f"{name}={_brief(one)}" for name, one in kwargs.items())]
    return f"({', '.join(given)})"


def _brief(value: Any) -> str:
    """A number or a text as it is written; of everything else its type, which costs nothing."""
    if value is None or isinstance(value, bool | int | float | str):
        text = repr(value)
        return text if len(text) <= 60 else f"{text[:57]}..."
    return f"<{type(value).__qualname__}>"
