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
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Final

from spark_strategy.errors import RendezvousError

MAX_LINE_BYTES: Final = 64 * 1024
_HANDSHAKE_S: Final = 10.0
_CHALLENGE_BYTES: Final = 32
_PROOF_BYTES: Final = 32
# Connections that have not proved themselves yet; the next ones wait in the kernel.
_STRANGERS: Final = 64
_RETRY_S: Final = 0.05


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
        self._closed = threading.Event()
        self._strangers = threading.BoundedSemaphore(_STRANGERS)
        sock.listen(512)
        threading.Thread(target=self._accept, daemon=True, name="spark_strategy-accept").start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._socket.getsockname()[1])

    def close(self) -> None:
        """Stop listening and end every connection."""
        self._closed.set()
        # Wakes accept() on Linux; macOS refuses it for listening sockets, close() wakes it there.
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        with self._lock:
            lines = list(self._lines)
        for line in lines:
            line.close()

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                sock, _ = self._socket.accept()
            except OSError:  # closed; or out of descriptors for a moment, accept(2) goes on
                self._closed.wait(_RETRY_S)
                continue
            if not self._strangers.acquire(timeout=_HANDSHAKE_S):
                sock.close()
                continue
            threading.Thread(
                target=self._welcome, args=(sock,), daemon=True, name="spark_strategy-line"
            ).start()

    def _welcome(self, sock: socket.socket) -> None:
        with sock, suppress(OSError):
            try:
                who = self._authenticated(sock)
            finally:
                self._strangers.release()
            if who is None:
                return
            sock.settimeout(None)
            line = Line(sock)
            with self._lock:
                self._lines.add(line)
            try:
                if not self._closed.is_set():
                    self._serve(who, line)
            finally:
                with self._lock:
                    self._lines.discard(line)

    def _authenticated(self, sock: socket.socket) -> str | None:
        deadline = time.monotonic() + _HANDSHAKE_S
        challenge = secrets.token_bytes(_CHALLENGE_BYTES)
        sock.settimeout(_HANDSHAKE_S)
        sock.sendall(challenge)
        proof = _exactly(sock, _PROOF_BYTES, deadline)
        length = _exactly(sock, 1, deadline)
        who = _exactly(sock, length[0], deadline)
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
    deadline = time.monotonic() + timeout_s
    with ExitStack() as undo:
        try:
            sock = socket.create_connection((host, int(port)), timeout=timeout_s)
            undo.callback(sock.close)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            proof = _proof(secret, _exactly(sock, _CHALLENGE_BYTES, deadline), name)
            sock.sendall(proof + bytes([len(name)]) + name)
            welcome = _exactly(sock, _PROOF_BYTES, deadline)
            if not hmac.compare_digest(welcome, _proof(secret, proof, b"welcome")):
                raise ConnectionError("whoever listens there does not know this run's secret")
            sock.settimeout(None)
        except OSError as error:
            raise RendezvousError(f"could not reach {address} as {who}: {error}") from error
        undo.pop_all()
    return Line(sock)


def _proof(secret: bytes, challenge: bytes, who: bytes) -> bytes:
    return hmac.digest(secret, challenge + who, "sha256")


def _exactly(sock: socket.socket, count: int, deadline: float) -> bytes:
    """``count`` bytes, however slowly they drip, before ``deadline`` (monotonic seconds)."""
    received = b""
    while len(received) < count:
        sock.settimeout(max(0.001, deadline - time.monotonic()))
        chunk = sock.recv(count - len(received))
        if not chunk:
            raise ConnectionError("the other end closed during the handshake")
        received += chunk
    return received
