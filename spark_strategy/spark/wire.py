"""The connecting end of an authenticated line (``line_protocol.py``): blocking, with tries."""

from __future__ import annotations

import random
import secrets
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Final

from spark_strategy.cluster import OPEN_PORTS
from spark_strategy.errors import RendezvousError
from spark_strategy.spark.line_protocol import (
    CHALLENGE_BYTES,
    PROOF_BYTES,
    Channel,
    Joining,
    Message,
    Refused,
)

_CHUNK_BYTES: Final = 64 * 1024
# Of connecting again, doubled each time; every rank of a run tries at the same moment.
_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 1.0
# One try of several: a connection that was lost on the way must not use up all the time.
_SHORTEST_TRY_S: Final = 1.0


def new_secret() -> bytes:
    """A secret for one run."""
    return secrets.token_bytes(32)


class Line:
    """The connecting end of a line; several threads may send, one reads."""

    def __init__(self, sock: socket.socket, channel: Channel) -> None:
        self._socket = sock
        self._channel = channel
        self._lock = threading.Lock()
        self._received: deque[bytes] = deque()
        self.ended = ""
        """Why there is nothing more to read; empty before, and when the other end just closed."""

    def send(self, body: bytes) -> None:
        """Send one message.

        Raises:
            OSError: the other end is gone, or has not read for long.
        """
        message = Message(body)
        with self._lock:
            self._socket.sendall(self._channel.header(message) + body)

    def limit_sends(self, timeout_s: int) -> None:
        """Let a send fail that the other end's full buffers hold up so long; 0 for never."""
        self._socket.setsockopt(
            socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", timeout_s, 0)
        )

    def __iter__(self) -> Iterator[bytes]:
        """Bodies until the other end closes, breaks, or sends what it cannot have sent."""
        try:
            while True:
                while self._received:
                    yield self._received.popleft()
                data = self._socket.recv(_CHUNK_BYTES)
                if not data:
                    return
                self._received += self._channel.receive(data)
        except OSError as error:
            self.ended = str(error)

    def close(self) -> None:
        """End the connection; a reader on either side sees its end."""
        with suppress(OSError):  # the other end was faster
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def connect(
    address: str, secret: bytes, who: str, *, timeout_s: float, send_timeout_s: int = 0
) -> Line:
    """A line to the listener at ``host:port``; tries again until it has one.

    Args:
        address: where it listens.
        secret: the run's secret.
        who: what to introduce oneself as, at most 255 bytes.
        timeout_s: seconds for all tries.
        send_timeout_s: whole seconds after which a send that the other end's full buffers hold up
            has failed; 0 for never.

    Raises:
        RendezvousError: nobody answers there, or it is not this run's listener.
    """
    deadline, pause = time.monotonic() + timeout_s, _FIRST_PAUSE_S
    one_try_s = max(_SHORTEST_TRY_S, timeout_s / 3)
    while True:
        try:
            line = _connected(address, secret, who, min(deadline, time.monotonic() + one_try_s))
        except OSError as error:
            pause_s = pause * random.uniform(0.5, 1.5)  # noqa: S311 - no secret
            if isinstance(error, Refused) or time.monotonic() + pause_s > deadline:
                raise RendezvousError(
                    f"could not reach {address}: {error}. {OPEN_PORTS}"
                ) from error
        else:
            line.limit_sends(send_timeout_s)
            return line
        time.sleep(pause_s)
        pause = min(2 * pause, _LONGEST_PAUSE_S)


def _connected(address: str, secret: bytes, who: str, deadline: float) -> Line:
    host, _, port = address.rpartition(":")
    joining = Joining(secret, who)
    with ExitStack() as undo:
        sock = socket.create_connection((host, int(port)), timeout=_left(deadline))
        undo.callback(sock.close)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(joining.answer(_exactly(sock, CHALLENGE_BYTES, deadline)))
        welcomed = joining.welcome(_exactly(sock, PROOF_BYTES, deadline))
        assert welcomed is not None
        channel, first = welcomed
        sock.sendall(first)
        sock.settimeout(None)
        undo.pop_all()
    return Line(sock, channel)


def _exactly(sock: socket.socket, count: int, deadline: float) -> bytes:
    """``count`` bytes, however slowly they drip, before ``deadline`` (monotonic seconds)."""
    received = b""
    while len(received) < count:
        sock.settimeout(_left(deadline))
        chunk = sock.recv(count - len(received))
        if not chunk:
            raise ConnectionError("the other end closed during the handshake")
        received += chunk
    return received


def _left(deadline: float) -> float:
    return max(0.001, deadline - time.monotonic())
