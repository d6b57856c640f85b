"""The context of the train function that runs in this process: ``get_context()``.

The theory. A rank's process runs one train function, and any thread that the function starts (a
generator of TensorFlow's, a pool of Keras's) may ask for its context. A driver may make several
plain calls (``.local()``) at the same time, in threads, in tasks of asyncio, one inside the other.
So a context belongs to whoever entered it, as a context variable, and a thread that entered none
gets the only one that is open in the process. Where several are, it is not clear which is meant.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from spark_strategy.errors import PlanError
from spark_strategy.topology import TaskId
from spark_strategy.worker.context import WorkerContext


class _Entry:
    """One train function that runs.

    Args:
        context: gives its context.
        outer: the one that it was called from; None for none.
        of_rank: whether it runs in a rank's process, and not by ``.local()``.
    """

    def __init__(
        self, context: Callable[[], WorkerContext], outer: _Entry | None, *, of_rank: bool
    ) -> None:
        self.context = context
        self.outer = outer
        self.of_rank = of_rank
        self.inner = 0
        self.is_open = True


class _Open:
    """All train functions that run in this process."""

    def __init__(self) -> None:
        self._entries: list[_Entry] = []
        self._lock = threading.Lock()

    def add(self, entry: _Entry) -> None:
        """One has begun."""
        with self._lock:
            self._entries.append(entry)
            if entry.outer is not None:
                entry.outer.inner += 1

    def remove(self, entry: _Entry) -> None:
        """It has ended."""
        with self._lock:
            entry.is_open = False
            self._entries.remove(entry)
            if entry.outer is not None:
                entry.outer.inner -= 1

    @property
    def innermost(self) -> list[_Entry]:
        """Those that have not called another one in turn."""
        with self._lock:
            return [entry for entry in self._entries if not entry.inner]


_OPEN: Final = _Open()
_OWN: Final[ContextVar[_Entry | None]] = ContextVar("spark_strategy_train_function", default=None)


def get_context() -> WorkerContext:
    """The context of the train function that is running here.

    Raises:
        PlanError: no train function is running in this process; or several are, and this thread
            is one that a function of theirs started.
    """
    own = _OWN.get()
    if own is not None and own.is_open:
        return own.context()
    running = _OPEN.innermost
    if not running:
        raise PlanError(
            "get_context() works inside a function that distribute or Launcher runs, and "
            "none is running in this process."
        )
    if len(running) > 1:
        raise PlanError(
            f"{len(running)} train functions are running in this process, and get_context() was "
            "called in a thread that belongs to none of them. Call it in the train function itself "
            "and hand its result to the thread."
        )
    return running[0].context()


def refuse_in_rank() -> None:
    """Refuse to launch from a train function that was launched itself.

    Raises:
        PlanError: this is the process of a rank.
    """
    if any(entry.of_rank for entry in _OPEN.innermost):
        raise PlanError(
            "A train function cannot launch another run: its process is a rank, and Spark's driver "
            "is elsewhere. Start the second run where the first was started, after it or in "
            "another thread; for a plain call here use .local(...)."
        )


@contextmanager
def entered(context: Callable[[], WorkerContext], *, of_rank: bool = True) -> Iterator[None]:
    """Make what ``context`` returns the answer of :func:`get_context`.

    Args:
        context: gives the context.
        of_rank: whether this is the process of a rank.
    """
    entry = _Entry(context, _OWN.get(), of_rank=of_rank)
    _OPEN.add(entry)
    token = _OWN.set(entry)
    try:
        yield
    finally:
        _OWN.reset(token)
        _OPEN.remove(entry)


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

        with entered(context, of_rank=False):
            yield
