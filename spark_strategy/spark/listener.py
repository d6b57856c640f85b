"""The driver's end of the live output: lines from every rank, as they are printed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from spark_strategy.errors import RendezvousError
from spark_strategy.spark.capacity import driver_host, is_connect
from spark_strategy.spark.rendezvous import reserve
from spark_strategy.spark.wire import Line, Listener

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_log = logging.getLogger(__name__)


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
        self._open = 0
        self._hosts: dict[str, str] = {}
        self._drained = threading.Condition(self._lock)
        self._listener = Listener(reserve(port_range), secret, self._serve)
        self.address = f"{host}:{self._listener.port}"

    @property
    def hosts(self) -> dict[str, str]:
        """Host by task, of every rank that has connected."""
        with self._lock:
            return dict(self._hosts)

    def close(self, timeout_s: float) -> None:
        """Take what is still under way, for at most ``timeout_s`` seconds; stop listening."""
        try:
            with self._lock:
                self._drained.wait_for(lambda: self._open == 0, timeout_s)
        finally:  # also when the wait is interrupted
            self._listener.close()

    def _serve(self, who: str, line: Line) -> None:
        task, _, host = who.partition("@")
        with self._lock:
            self._hosts[task] = host
            self._open += 1
        try:
            for text in line:
                self._print(f"{task} | {text.decode(errors='replace')}")
        finally:
            with self._lock:
                self._open -= 1
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
