"""The driver's end of the live output: lines from every rank, as they are printed."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

from spark_strategy.errors import RendezvousError
from spark_strategy.spark.capacity import driver_host, is_connect
from spark_strategy.spark.line_server import LineServer
from spark_strategy.spark.rendezvous import reserve

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from spark_strategy.spark.line_peer import Peer

_log = logging.getLogger(__name__)

# Read ahead of a function that shows lines slowly; beyond it the ranks are not read for a while.
_AHEAD_BYTES: Final = 16 * 2**20
_LOOK_S: Final = 1.0


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

    One thread reads all ranks, another one calls the function: one that blocks must not block the
    run's deadlines, which ask who has arrived.

    Args:
        host: how executors reach the driver.
        secret: the run's secret.
        show: called with one line at a time, never from two threads at once.
        port_range: ports to listen on; None for any.
        lines: how many ranks may come.
    """

    def __init__(
        self,
        host: str,
        secret: bytes,
        show: Callable[[str], None],
        *,
        port_range: tuple[int, int] | None,
        lines: int = 0,
    ) -> None:
        self._show: Callable[[str], None] | None = show
        self._hosts: dict[str, str] = {}
        self._open: Counter[str] = Counter()
        self._heard = self._warned = False
        self._read: deque[tuple[str, bytes]] = deque()
        self._unshown: Counter[str] = Counter()
        self._read_bytes = 0
        self._paused: list[Peer] = []
        self._closed = False
        self._changed = threading.Condition()
        self._server = LineServer(reserve(port_range), secret, self, lines=lines)
        self.address = f"{host}:{self._server.port}"
        threading.Thread(target=self._show_all, daemon=True, name="spark_strategy-show").start()

    @property
    def hosts(self) -> dict[str, str]:
        """Host by task, of every rank that has connected."""
        with self._changed:
            return dict(self._hosts)

    def of(self, task: str) -> Output:
        """The output of one task, whose run shares this listener with other runs."""
        return _OutputOfTask(self, task)

    def warn_if_unheard(self) -> None:
        """Say once that output was lost, where ranks have run and none has connected."""
        with self._changed:
            unheard = not self._heard and not self._warned
            self._warned = self._warned or unheard
        if unheard:
            _log.warning("No rank reached the driver at %s: its output was lost", self.address)

    def close(self, timeout_s: float) -> None:
        """Take what is still under way, for at most ``timeout_s`` seconds; stop listening."""
        try:
            self._wait(lambda: not (self._open or self._unshown), timeout_s)
        finally:  # also when the wait is interrupted
            with self._changed:
                self._closed = True
                self._changed.notify_all()
            self._server.close()

    def forget(self, task: str, timeout_s: float) -> None:
        """Take what is still under way from a task that has ended, and keep nothing of it."""
        self._wait(lambda: task not in self._open and task not in self._unshown, timeout_s)
        with self._changed:
            self._hosts.pop(task, None)

    def host_of(self, task: str) -> str | None:
        """The host of a task that has connected."""
        with self._changed:
            return self._hosts.get(task)

    def arrived(self, peer: Peer) -> None:
        """A rank has connected."""
        task, _, host = peer.who.partition("@")
        with self._changed:
            self._hosts[task] = host
            self._open[task] += 1
            self._heard = True

    def heard(self, peer: Peer, body: bytes) -> None:
        """Lines that it has printed."""
        task = peer.who.partition("@")[0]
        with self._changed:
            self._read.append((task, body))
            self._unshown[task] += 1
            self._read_bytes += len(body)
            if self._read_bytes > _AHEAD_BYTES:
                peer.pause()
                self._paused.append(peer)
            self._changed.notify_all()

    def left(self, peer: Peer, why: str) -> None:
        """It has ended its output."""
        if why:
            _log.warning("The output of %s broke off: %s", peer.who, why)
        with self._changed:
            _one_less(self._open, peer.who.partition("@")[0])
            self._changed.notify_all()

    def look(self) -> float:
        """Nothing goes by time."""
        return _LOOK_S

    def _wait(self, condition: Callable[[], bool], timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        self._server.read_all(timeout_s)
        with self._changed:
            self._changed.wait_for(condition, max(0.0, deadline - time.monotonic()))

    def _show_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._read)
                if self._closed:
                    return
                task, body = self._read.popleft()
                self._read_bytes -= len(body)
                go_on = self._paused if self._read_bytes < _AHEAD_BYTES / 2 else []
                if go_on:
                    self._paused = []
            for peer in go_on:
                self._server.later(peer.go_on)
            for text in body.split(b"\n"):
                self._print(f"{task} | {text.decode(errors='replace')}")
            with self._changed:
                _one_less(self._unshown, task)
                self._changed.notify_all()

    def _print(self, text: str) -> None:
        if self._show is None:
            return
        try:
            self._show(text)
        # The user's function, or a notebook's closed stream: output is not worth a run.
        except Exception as error:  # noqa: BLE001
            self._show = None
            _log.warning("Live output stopped: %s", error)


def _one_less(counter: Counter[str], task: str) -> None:
    counter[task] -= 1
    if not counter[task]:
        del counter[task]


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
    lines: int = 0,
) -> OutputListener | None:
    """A listener where output is wanted and can come; where it cannot, None, said once.

    Args:
        spark: the session.
        secret: the run's secret.
        show: called with one line at a time; None for no output.
        port_range: ports to listen on; None for any.
        lines: how many ranks may come.
    """
    if show is None:
        return None
    if is_connect(spark):
        _log.warning("Spark Connect: the ranks' output is in the executors' logs only")
        return None
    with suppress(OSError, RendezvousError):
        host = driver_host(spark)
        return OutputListener(host, secret, show, port_range=port_range, lines=lines)
    _log.warning("No port to listen on: the ranks' output is in the executors' logs only")
    return None
