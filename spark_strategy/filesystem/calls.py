"""A call that somebody waits for, but not for ever."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Call(Generic[T]):
    """Runs a function in a thread of its own, at once.

    A daemon thread: what never returns must not keep the process from ending. Starting one takes
    about 50 microseconds, which is little beside any remote answer.

    Args:
        function: what to run.
        what: says what it is, for the error.
    """

    def __init__(self, function: Callable[[], T], what: str) -> None:
        self._function = function
        self._what = what
        self._done = threading.Event()
        self._value: Any = None
        self._error: BaseException | None = None
        threading.Thread(target=self._run, name="spark_strategy-files", daemon=True).start()

    def result(self, timeout_s: float) -> T:
        """What the function returned.

        Raises:
            TimeoutError: it has not ended after another ``timeout_s`` seconds; it is left alone.
            BaseException: what it raised.
        """
        if not self._done.wait(timeout_s):
            raise TimeoutError(f"{self._what}: no answer within {timeout_s:g} s")
        if self._error is not None:
            raise self._error
        value: T = self._value
        return value

    def _run(self) -> None:
        try:
            self._value = self._function()
        # Whatever it is, it belongs to the thread that waits.
        except BaseException as error:  # noqa: BLE001
            self._error = error
        finally:
            self._done.set()
