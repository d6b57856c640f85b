"""One accepted connection of a ``LineServer``, and what its owner is told of it."""

from __future__ import annotations

import logging
import selectors
import socket
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

from spark_strategy.spark.line_protocol import BadFrame, Channel, Hosting, Message, Refused

if TYPE_CHECKING:
    from spark_strategy.spark.line_server import LineServer

_log = logging.getLogger(__name__)

_CHUNK_BYTES: Final = 64 * 1024


class Nonsense(Exception):  # noqa: N818 - what an owner answers a peer's message with
    """A peer has come or has said something out of turn; nothing else happens."""


class Owner(Protocol):
    """What a server tells its owner, all in the server's one thread."""

    def arrived(self, peer: Peer) -> None:
        """A peer has proved that it knows the secret.

        Raises:
            Nonsense: it is not wanted; its line ends, and it is not said to have left.
        """
        ...

    def heard(self, peer: Peer, body: bytes) -> None:
        """A peer's message.

        Raises:
            Nonsense: it makes no sense, and is ignored.
        """
        ...

    def left(self, peer: Peer, why: str) -> None:
        """A peer that had arrived is gone; ``why`` is empty if it just closed."""
        ...

    def look(self) -> float:
        """Do what time asks for; called often, so mostly it does nothing. Seconds until then."""
        ...


class Peer:
    """One connection; unless said otherwise, only the server's thread touches it."""

    def __init__(self, server: LineServer, sock: socket.socket, hosting: Hosting) -> None:
        self._server = server
        self._socket = sock
        self._hosting = hosting
        self._channel: Channel | None = None
        self._waiting: deque[memoryview] = deque()
        self._is_paused = False
        self.who = ""
        self.since = time.monotonic()
        self.has_arrived = False
        self.is_open = True
        self._has_said_nonsense = False
        self.stuck_since: float | None = None
        """Since when something waits for the peer to read, in monotonic seconds."""
        sock.settimeout(0)
        with suppress(OSError):  # a Unix socket has no such delay
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server.watch(sock, self._mask, self.ready)
        self._put(hosting.challenge)

    def send(self, message: Message) -> None:
        """Send it as fast as the peer reads."""
        assert self._channel is not None
        if self.is_open:
            self._put(self._channel.header(message), message.body)

    def send_soon(self, message: Message) -> None:
        """The same, from any thread."""
        self._server.later(lambda: self.send(message))

    def close_soon(self) -> None:
        """End the connection, from any thread."""
        self._server.later(lambda: self.close(""))

    def pause(self) -> None:
        """Read nothing more of it until :meth:`go_on`; the peer's own buffers fill."""
        self._is_paused = True
        self._watch()

    def go_on(self) -> None:
        """Read again."""
        self._is_paused = False
        self._watch()

    def close(self, why: str) -> None:
        """End the connection, which tells the owner."""
        if not self.is_open:
            return
        self.is_open = False
        self._server.forget(self, self._socket)
        self._socket.close()
        if self.has_arrived:
            self._server.owner.left(self, why)

    def abandon(self, deadline: float) -> None:
        """End the connection without telling the owner; what waits may go until ``deadline``."""
        if not self.is_open:
            return
        self.is_open = False
        self._server.forget(self, self._socket)
        with suppress(OSError):
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            self._socket.sendall(b"".join(self._waiting))
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def ready(self, mask: int) -> None:
        """The kernel has something, or has room."""
        if not self.is_open:  # closed by what else happened in the same moment
            return
        try:
            if mask & selectors.EVENT_WRITE:
                self._flush()
            if mask & selectors.EVENT_READ:
                data = self._socket.recv(_CHUNK_BYTES)
                if not data:
                    self.close("")
                    return
                self._take(data)
        except BlockingIOError:
            return
        except Refused as error:
            with suppress(OSError):
                self._socket.send(self._hosting.refusal)
            self.close(str(error))
        except (BadFrame, Nonsense) as error:
            _log.warning("The line of %s is ended: %s", self.who or "a stranger", error)
            self.close(str(error))
        except (OSError, UnicodeDecodeError) as error:  # a name may be any bytes
            self.close(str(error))

    def _take(self, data: bytes) -> None:
        if self._channel is None:
            found = self._hosting.receive(data)
            if found is not None:
                self.who, welcome, self._channel = found
                self._put(welcome)
            return
        for body in self._channel.receive(data):
            if not self.is_open:
                return
            if self.has_arrived:
                self._pass_on(body)
            else:
                self._server.owner.arrived(self)
                self.has_arrived = True
                self._server.count_in(self)

    def _pass_on(self, body: bytes) -> None:
        """Hand a message to the owner; one that makes no sense changes nothing."""
        try:
            self._server.owner.heard(self, body)
        except Nonsense as error:
            if not self._has_said_nonsense:
                _log.warning("A message of %s is ignored: %s", self.who, error)
            self._has_said_nonsense = True

    def _put(self, *parts: bytes) -> None:
        """Send the parts, or keep what the kernel does not take now."""
        self._waiting += [memoryview(part) for part in parts if part]
        if self.stuck_since is None:
            # Who writes learns of a broken line by reading.
            with suppress(OSError):
                self._flush()

    def _flush(self) -> None:
        try:
            while self._waiting:
                parts = [self._waiting[place] for place in range(min(2, len(self._waiting)))]
                sent = self._socket.sendmsg(parts)
                while self._waiting and sent >= len(self._waiting[0]):
                    sent -= len(self._waiting.popleft())
                if sent:
                    self._waiting[0] = self._waiting[0][sent:]
        except BlockingIOError:
            pass
        if bool(self._waiting) != (self.stuck_since is not None):
            self.stuck_since = time.monotonic() if self._waiting else None
            self._watch()

    @property
    def _mask(self) -> int:
        read = 0 if self._is_paused else selectors.EVENT_READ
        return read | (selectors.EVENT_WRITE if self.stuck_since is not None else 0)

    def _watch(self) -> None:
        if self.is_open:
            self._server.watch(self._socket, self._mask, self.ready)
