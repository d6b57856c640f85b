"""The context of the train function that runs in this process: ``get_context()``."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from spark_strategy.errors import PlanError
from spark_strategy.topology import TaskId
from spark_strategy.worker.context import WorkerContext


class _Process:
    """One process runs one train function at a time: its context is the process's."""

    context: Callable[[], WorkerContext] | None = None


_PROCESS: Final = _Process()


def get_context() -> WorkerContext:
    """The context of the train function that is running in this process.

    Raises:
        PlanError: no train function is running here.
    """
    if _PROCESS.context is None:
        raise PlanError(
            "get_context() works inside a function that distribute or Launcher runs, and "
            "none is running in this process."
        )
    return _PROCESS.context()


@contextmanager
def entered(context: Callable[[], WorkerContext]) -> Iterator[None]:
    """Make what ``context`` returns the answer of :func:`get_context`."""
    previous, _PROCESS.context = _PROCESS.context, context
    try:
        yield
    finally:
        _PROCESS.context = previous


@contextmanager
def alone() -> Iterator[None]:
    """The context of a plain call in this process: rank 0 of 1, TensorFlow's own strategy.

    TensorFlow is imported when the function asks for its context, not before.
    """
    with tempfile.TemporaryDirectory(prefix="spark_strategy-") as scratch:

        def context() -> WorkerContext:
            import tensorflow as tf

            strategy = tf.distribute.get_strategy()
            return WorkerContext(
                task=TaskId("worker", 0),
                rank=0,
                num_workers=1,
                is_chief=True,
                attempt=0,
                strategy=strategy,
                scratch=scratch,
            )

        with entered(context):
            yield
