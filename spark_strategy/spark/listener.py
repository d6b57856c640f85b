"""The driver's end of the live output: lines from every rank, as they are printed."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from spark_strategy.errors import RendezvousError
from spark_strategy.spark.capacity import driver_host, is_connect
from spark_strategy.spark.rendezvous import reserve
from spark_strategy.spark.wire import Line, Listener

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_log = logging.getLogger(__name__)


class Output(Protocol):
    """The live output of one attempt."""

    @property
    def address(self) -> str:
        """``host:port`` where its ranks bring their lines."""
        ...

    @property
    def hosts(self) -> dict[str, str]:
        """Host by task, of every rank that has connected."""
        ...

    def warn_if_unheard(self) -> None:
        """Say that output was lost, where ranks have run and none has connected."""
        ...

    def close(self, timeout_s: float) -> None:
        """Take what is still on its way, for at most ``timeout_s`` seconds, and end it."""
        ...


class OutputListener:
    """Hands each line, with its task in front, to a function; knows who has arrived.

    Args:
        host: how executors reach the driver.
        secret: the run's secret.
        show: called with one line at a time, never from two threads at once.
        port_range: ports to listen on; None for any.
    """

    def __init__(
        self,
        host: str,
        secret: bytes,
        show: Callable[[str], None],
        *,
        port_range: tuple[int, int] | None,
    ) -> None:
        self._show: Callable[[str], None] | None = show
        self._lock = threading.Lock()
        # Apart from the other lock: a function that blocks must not block the run's deadlines.
        self._showing = threading.Lock()
        self._open: Counter[str] = Counter()
        self._heard = self._warned = False
        self._hosts: dict[str, str] = {}
        self._drained = threading.Condition(self._lock)
        self._listener = Listener(reserve(port_range), secret, self._serve)
        self.address = f"{host}:{self._listener.port}"

    @property
    def hosts(self) -> dict[str, str]:
        """Host by task, of every rank that has connected."""
        with self._lock:
            return dict(self._hosts)

    def of(self, task: str) -> Output:
        """The output of one task, whose run shares this listener with other runs."""
        return _OutputOfTask(self, task)

    def warn_if_unheard(self) -> None:
        """Say once that output was lost, where ranks have run and none has connected."""
        with self._lock:
            unheard = not self._heard and not self._warned
            self._warned = self._warned or unheard
        if unheard:
            _log.warning("No rank reached the driver at %s: its output was lost", self.address)

    def close(self, timeout_s: float) -> None:
        """Take what is still under way, for at most ``timeout_s`` seconds; stop listening."""
        try:
            with self._lock:
                self._drained.wait_for(lambda: not self._open, timeout_s)
        finally:  # also when the wait is interrupted
            self._listener.close()

    def forget(self, task: str, timeout_s: float) -> None:
        """Take what is still under way from a task that has ended, and keep nothing of it."""
        with self._lock:
            self._drained.wait_for(lambda: task not in self._open, timeout_s)
            self._hosts.pop(task, None)

    def host_of(self, task: str) -> str | None:
        """The host of a task that has connected."""
        with self._lock:
            return self._hosts.get(task)

    def _serve(self, who: str, line: Line) -> None:
        task, _, host = who.partition("@")
        with self._lock:
            self._hosts[task] = host
            self._open[task] += 1
            self._heard = True
        try:
            for text in line:
                self._print(f"{task} | {text.decode(errors='replace')}")
        finally:
            with self._lock:
                self._open[task] -= 1
                self._open = +self._open  # without the tasks that have no line any more
                self._drained.notify_all()

    def _print(self, text: str) -> None:
        with self._showing:
            if self._show is None:
                return
            try:
                self._show(text)
            # The user's function, or a notebook's closed stream: output is not worth a run.
            except Exception as error:  # noqa: BLE001
                self._show = None
                _log.warning("Live output stopped: %s", error)


class _OutputOfTask:
    """The lines of one task at a listener that other runs use as well."""

    def __init__(self, listener: OutputListener, task: str) -> None:
        self._listener = listener
        self._task = task
        self.address = listener.address

    @property
    def hosts(self) -> dict[str, str]:
        """The task's host, once it has connected."""
        host = self._listener.host_of(self._task)
        return {} if host is None else {self._task: host}

    def warn_if_unheard(self) -> None:
        """Say once for all runs that their output was lost."""
        self._listener.warn_if_unheard()

    def close(self, timeout_s: float) -> None:
        """Take what the task still sends; the others go on."""
        self._listener.forget(self._task, timeout_s)


def listen(
    spark: SparkSession,
    secret: bytes,
    show: Callable[[str], None] | None,
    *,
    port_range: tuple[int, int] | None,
) -> OutputListener | None:
    """A listener where output is wanted and can come; where it cannot, None, said once."""
    if show is None:
        return None
    if is_connect(spark):
        _log.warning("Spark Connect: the ranks' output is in the executors' logs only")
        return None
    with suppress(OSError, RendezvousError):
        return OutputListener(driver_host(spark), secret, show, port_range=port_range)
    _log.warning("No port to listen on: the ranks' output is in the executors' logs only")
    return None
