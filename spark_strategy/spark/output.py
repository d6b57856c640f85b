"""Relays a child's output: to the driver within a budget, to the executor's log in full."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import closing, suppress
from typing import IO, Final

from spark_strategy.errors import RendezvousError
from spark_strategy.spark.wire import Line

_TAIL_LINES: Final = 40
_CHUNK_BYTES: Final = 256 * 1024
_MAX_LINE_BYTES: Final = 64 * 1024
# Lines that wait travel together.
_MESSAGE_BYTES: Final = 64 * 1024
_QUEUE_LINES: Final = 20_000
# What a terminal or a notebook can still show; the rest is counted.
_BURST_BYTES: Final = 2 * 2**20
_BYTES_PER_S: Final = 256 * 1024


class DriverOutput:
    """Lines on their way to the driver. Never blocks: what exceeds the budget is counted.

    Args:
        line: opens the connection, in a thread of this object's own, so that a driver that cannot
            be reached delays nothing; None where there is nobody to send to.
        has_log: whether the executor's own log holds what is left out here.
    """

    def __init__(self, line: Callable[[], Line] | None, *, has_log: bool) -> None:
        self._open = line
        self._line: Line | None = None
        self._where = " (the executor's log has them)" if has_log else ""
        self._queue: queue.Queue[bytes | None] = queue.Queue(_QUEUE_LINES)
        self._budget = float(_BURST_BYTES)
        self._refilled = time.monotonic()
        self._dropped = 0
        self._thread = threading.Thread(target=self._send, daemon=True)
        if line is not None:
            self._thread.start()

    def put(self, text: bytes) -> None:
        """One line, without its end."""
        if self._open is None:
            return
        if not self._affordable(len(text) + 1):
            self._dropped += 1
            return
        if self._dropped and not self._queue.full():
            self._queue.put(b"... %d lines left out%s" % (self._dropped, self._where.encode()))
            self._dropped = 0
        try:
            self._queue.put_nowait(text)
        except queue.Full:
            self._dropped += 1

    def close(self, timeout_s: float) -> None:
        """Send what waits, for at most ``timeout_s`` seconds, then hang up."""
        if self._open is None:
            return
        deadline = time.monotonic() + timeout_s
        last = b"... %d lines left out%s" % (self._dropped, self._where.encode())
        for text in [last, None] if self._dropped else [None]:
            try:
                self._queue.put(text, timeout=max(0.0, deadline - time.monotonic()))
            except queue.Full:
                break
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._line is not None and self._thread.is_alive():
            self._line.close()

    def _affordable(self, size: int) -> bool:
        now = time.monotonic()
        refill = (now - self._refilled) * _BYTES_PER_S
        self._budget = min(float(_BURST_BYTES), self._budget + refill)
        self._refilled = now
        if size > self._budget:
            return False
        self._budget -= size
        return True

    def _send(self) -> None:
        assert self._open is not None
        # Where the driver cannot be reached, or stops listening, the executor's log goes on.
        with suppress(RendezvousError, OSError), closing(self._open()) as self._line:
            has_ended = False
            while not has_ended:
                lines, has_ended = self._waiting_lines()
                if lines:
                    self._line.send(b"\n".join(lines))
        self._open = None

    def _waiting_lines(self) -> tuple[list[bytes], bool]:
        """The next line and what waits behind it; and whether nothing follows."""
        lines: list[bytes] = []
        size = 0
        while size < _MESSAGE_BYTES and (not lines or not self._queue.empty()):
            text = self._queue.get()
            if text is None:
                return lines, True
            lines.append(text)
            size += len(text)
        return lines, False


class Relay:
    """Reads a child's output until it ends.

    Args:
        stream: the child's standard output and error.
        prefix: put before each line in the log, such as ``worker:1 |``.
        driver: where lines go live.
        log: file descriptor of the executor's log; None where that is the driver's console.
    """

    def __init__(
        self, stream: IO[bytes], *, prefix: str, driver: DriverOutput, log: int | None
    ) -> None:
        self._stream = stream
        self._prefix = prefix.encode() + b" "
        self._driver = driver
        self._log = log
        self._tail: deque[bytes] = deque(maxlen=_TAIL_LINES)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @property
    def tail(self) -> str:
        """The last lines."""
        return b"\n".join(list(self._tail)).decode(errors="replace")

    def say(self, text: str) -> None:
        """A line of the task's own among the child's."""
        self._pass_on([text.encode()])

    def join(self, timeout_s: float) -> None:
        """Wait for the end of the output."""
        self._thread.join(timeout_s)

    def _read(self) -> None:
        rest = b""
        while chunk := os.read(self._stream.fileno(), _CHUNK_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > _MAX_LINE_BYTES // 2:
                lines, rest = [*lines, rest], b""
            self._pass_on(lines)
        if rest:
            self._pass_on([rest])

    def _pass_on(self, lines: list[bytes]) -> None:
        if not lines:
            return
        if self._log is not None:
            text = b"".join(b"%s%s\n" % (self._prefix, line) for line in lines)
            try:
                _write_all(self._log, text)
            except OSError:  # a closed log must not block the child's output
                self._log = None
        for line in lines:
            shown = _shown(line)
            self._tail.append(shown[:2000])
            self._driver.put(shown[: _MAX_LINE_BYTES // 2])


def _shown(line: bytes) -> bytes:
    """What a terminal would show: a progress bar's last state, not all of them."""
    return line.rstrip(b"\r").rpartition(b"\r")[2].rpartition(b"\b")[2]


def _write_all(descriptor: int, text: bytes) -> None:
    while text:
        text = text[os.write(descriptor, text) :]
