"""Authenticated lines of text over TCP, for control between tasks and for live output.

The theory. Whoever listens sends a random challenge; whoever connects answers with
``HMAC-SHA256(secret, challenge + who)``, where ``who`` is its name; the listener proves in
turn that it knows the secret by an HMAC over that answer.
The secret is made for one run and reaches the executors inside Spark's own serialized task,
so it is as safe as Spark's RPC (``spark.authenticate``, ``spark.network.crypto.enabled``).
It never crosses this connection, and an answer is worthless for another challenge. What
follows is plain text: lines up to ``MAX_LINE_BYTES``. Nothing is unpickled.
"""

from __future__ import annotations

import hmac
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final

from spark_strategy.errors import RendezvousError

MAX_LINE_BYTES: Final = 64 * 1024
_HANDSHAKE_S: Final = 10.0
_CHALLENGE_BYTES: Final = 32


def new_secret() -> bytes:
    """A secret for one run."""
    return secrets.token_bytes(32)


class Line:
    """One connection; several threads may send."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._reader = sock.makefile("rb")
        self._lock = threading.Lock()

    def send(self, text: bytes) -> None:
        """Send one line.

        Raises:
            OSError: the other end is gone.
        """
        with self._lock:
            self._socket.sendall(text.replace(b"\n", b" ") + b"\n")

    def __iter__(self) -> Iterator[bytes]:
        """Lines until the other end closes or breaks."""
        try:
            while line := self._reader.readline(MAX_LINE_BYTES):
                yield line.rstrip(b"\n")
        except OSError:
            return

    def close(self) -> None:
        """End the connection; a reader on either side sees its end."""
        with suppress(OSError):  # the other end was faster
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class Listener:
    """Accepts authenticated lines and hands each to its own thread.

    Args:
        sock: a bound socket; it is made to listen and owned from now on.
        secret: the run's secret.
        serve: called with who connected and the line, in a thread per connection.
    """

    def __init__(
        self, sock: socket.socket, secret: bytes, serve: Callable[[str, Line], None]
    ) -> None:
        self._socket = sock
        self._secret = secret
        self._serve = serve
        self._lines: set[Line] = set()
        self._lock = threading.Lock()
        sock.listen(512)
        threading.Thread(target=self._accept, daemon=True, name="spark_strategy-accept").start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._socket.getsockname()[1])

    def close(self) -> None:
        """Stop listening and end every connection."""
        # Wakes accept() on Linux; macOS refuses it for listening sockets, close() wakes it there.
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        with self._lock:
            lines = list(self._lines)
        for line in lines:
            line.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(
                target=self._welcome, args=(sock,), daemon=True, name="spark_strategy-line"
            ).start()

    def _welcome(self, sock: socket.socket) -> None:
        with sock:
            sock.settimeout(_HANDSHAKE_S)
            try:
                who = self._authenticated(sock)
                if who is None:
                    return
                sock.settimeout(None)
                line = Line(sock)
                with self._lock:
                    self._lines.add(line)
                try:
                    self._serve(who, line)
                finally:
                    with self._lock:
                        self._lines.discard(line)
            except OSError:
                return

    def _authenticated(self, sock: socket.socket) -> str | None:
        challenge = secrets.token_bytes(_CHALLENGE_BYTES)
        sock.sendall(challenge)
        proof = _exactly(sock, 32)
        length = _exactly(sock, 1)
        who = _exactly(sock, length[0])
        if not hmac.compare_digest(proof, _proof(self._secret, challenge, who)):
            return None
        sock.sendall(_proof(self._secret, proof, b"welcome"))
        return who.decode()


def connect(address: str, secret: bytes, who: str, *, timeout_s: float) -> Line:
    """A line to the listener at ``host:port``.

    Args:
        address: where it listens.
        secret: the run's secret.
        who: what to introduce oneself as, at most 255 bytes.
        timeout_s: seconds for connecting and for the handshake.

    Raises:
        RendezvousError: nobody answers there, or it is not this run's listener.
    """
    host, _, port = address.rpartition(":")
    name = who.encode()
    try:
        sock = socket.create_connection((host, int(port)), timeout=timeout_s)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        challenge = _exactly(sock, _CHALLENGE_BYTES)
        proof = _proof(secret, challenge, name)
        sock.sendall(proof + bytes([len(name)]) + name)
        if not hmac.compare_digest(_exactly(sock, 32), _proof(secret, proof, b"welcome")):
            raise ConnectionError("whoever listens there does not know this run's secret")
        sock.settimeout(None)
    except OSError as error:
        raise RendezvousError(f"could not reach {address} as {who}: {error}") from error
    return Line(sock)


def _proof(secret: bytes, challenge: bytes, who: bytes) -> bytes:
    return hmac.digest(secret, challenge + who, "sha256")


def _exactly(sock: socket.socket, count: int) -> bytes:
    received = b""
    while len(received) < count:
        chunk = sock.recv(count - len(received))
        if not chunk:
            raise ConnectionError("the other end closed during the handshake")
        received += chunk
    return received
