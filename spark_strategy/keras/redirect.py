"""Makes existing functions and callbacks write through ``artifact``."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from typing import Any

from spark_strategy.keras.artifacts import artifact, scratch_path
from spark_strategy.keras.place import Place


def through_artifact(
    owner: Any, name: str, place: Place, *, chief_if: Callable[[str], bool] | None = None
) -> None:
    """Replaces the function ``owner.name`` by one whose ``filepath`` is written as an artifact.

    A file object is passed through, and on the chief a path for which ``chief_if`` is false and a
    sharded save, whose index names its neighbours: they are more than one file or directory.
    """
    save = getattr(owner, name)
    signature = inspect.signature(save)

    @functools.wraps(save)
    def saved(*args: Any, **kwargs: Any) -> Any:
        call = signature.bind(*args, **kwargs)
        path = call.arguments.get("filepath")
        if not isinstance(path, str | os.PathLike) or str(path).startswith("hf://"):
            return save(*args, **kwargs)
        sharded = call.arguments.get("max_shard_size") is not None
        several = sharded or (chief_if is not None and not chief_if(os.fspath(path)))
        if several and place.is_chief:
            return save(*args, **kwargs)
        with artifact(os.fspath(path), place) as target:
            call.arguments["filepath"] = target
            return save(*call.args, **call.kwargs)

    setattr(owner, name, saved)


def into_scratch(callback: Any, attribute: str, place: Place) -> None:
    """Lets every new ``callback`` of a rank that is not the chief write below scratch."""
    if place.is_chief:
        return

    def redirected(self: Any) -> None:
        setattr(self, attribute, scratch_path(str(getattr(self, attribute)), place))

    callback.__init__ = _followed_by(callback.__init__, redirected)


def _followed_by(method: Callable[..., None], then: Callable[[Any], None]) -> Callable[..., None]:
    """The method, after which ``then(self)`` runs."""

    @functools.wraps(method)
    def both(self: Any, *args: Any, **kwargs: Any) -> None:
        method(self, *args, **kwargs)
        then(self)

    return both
