"""Who this process is in the run: ``get_context()``."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from spark_strategy.errors import PlanError
from spark_strategy.topology import TaskId

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """What a train function can ask about its own process.

    Attributes:
        task: this process in TensorFlow's cluster, such as ``worker:1``.
        rank: its rank, 0 for the chief.
        num_workers: how many processes run the function.
        is_chief: whether this one's value is the run's value.
        attempt: 0 for the first launch of the run.
        strategy: the ``tf.distribute`` strategy; TensorFlow's default one with
            ``scope=False`` and under ``.local()``.
        scratch: a folder of this process's own, gone when the run ends.
    """

    task: TaskId
    rank: int
    num_workers: int
    is_chief: bool
    attempt: int
    strategy: tf.distribute.Strategy
    scratch: str

    def save(self, model: Any, path: str) -> None:
        """Save a Keras model so that one complete artifact stands at ``path``.

        Call it on every rank: the chief writes beside ``path`` and then renames, the others
        take part in collective reads and keep nothing.

        Args:
            model: a Keras 3 or tf_keras model.
            path: ``*.keras``, ``*.h5``, ``*.weights.h5``, or a folder for a SavedModel. It
                is written by the chief's host: name a place that outlives the executor.
        """
        from spark_strategy import keras

        keras.save(model, path, is_chief=self.is_chief, scratch=self.scratch)


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
