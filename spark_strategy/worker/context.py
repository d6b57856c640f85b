"""Who this process is in the run: ``get_context()``."""

from __future__ import annotations

from collections.abc import Iterator
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
    """One child process runs one function: its context is the process's."""

    context: WorkerContext | None = None


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
    return _PROCESS.context


@contextmanager
def entered(context: WorkerContext) -> Iterator[WorkerContext]:
    """Make ``context`` what :func:`get_context` returns."""
    previous, _PROCESS.context = _PROCESS.context, context
    try:
        yield context
    finally:
        _PROCESS.context = previous
