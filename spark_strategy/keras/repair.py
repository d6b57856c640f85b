"""Repairs of installed Keras: each applies itself only where the fault it mends is found."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from spark_strategy.errors import UnsupportedKerasError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Repair:
    """One upstream fault and its repair.

    Args:
        name: short, for log lines and errors.
        upstream: the issue or source line the fault is in, and when the repair can go.
        fits: whether the private functions it replaces are there, with the arguments it knows.
        faulty: the canary: whether the installed version still behaves wrongly. Runs while Keras
            is being imported, so it must not touch TensorFlow's eager context: a
            MultiWorkerMirroredStrategy can only be made before that exists.
        mend: replaces the faulty function.
    """

    name: str
    upstream: str
    fits: Callable[[], bool]
    faulty: Callable[[], bool]
    mend: Callable[[], None]


def apply(repairs: Iterable[Repair], version: str) -> tuple[str, ...]:
    """Mends what is faulty; returns the names of the repairs that were needed.

    Raises:
        UnsupportedKerasError: a function to be mended is gone or has other arguments. Nothing has
            been replaced then.
    """
    wanted = tuple(repairs)
    for repair in wanted:
        if not repair.fits():
            raise UnsupportedKerasError(
                f"Keras {version} does not have the functions that the multi-worker repair "
                f"{repair.name!r} ({repair.upstream}) works on. Install a Keras that this version "
                "of spark-strategy was tested with (docs/keras.md names them), or upgrade "
                "spark-strategy."
            )
    needed = tuple(repair for repair in wanted if repair.faulty())
    for repair in needed:
        repair.mend()
    names = tuple(repair.name for repair in needed)
    logger.info("Keras %s: multi-worker repairs applied: %s", version, ", ".join(names) or "none")
    return names


def takes(owner: Any, name: str, *parameters: str) -> bool:
    """Whether ``owner.name`` is a function with exactly these parameter names, in order."""
    function = getattr(owner, name, None)
    return callable(function) and tuple(inspect.signature(function).parameters) == parameters
