"""The listening end of authenticated lines: one thread for all of them, however many.

The theory. One thread waits for whatever happens on any connection and hands each message to the
owner, which therefore needs no lock for what only its own methods touch. Nothing in that thread
waits for a single peer. What a peer's full buffers do not take is kept and sent when there is room;
the owner looks at :attr:`Peer.stuck_since` before it sends more to one that does not read.

Whoever connects is a stranger until its first frame has come, which it sends when it has seen
this side's proof. A stranger has ``handshake_s`` seconds. Their number is limited; when it is
reached, the next one takes the place of the oldest that has had ``_FAIR_S``, or waits in the kernel
until there is one. So neither connections that say nothing nor a thousand ranks that come at once
keep a rank out, which needs its place for a round trip and tries again if it loses it.
"""

from __future__ import annotations

import errno
import logging
import resource
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from spark_strategy.spark.line_peer import Owner, Peer
from spark_strategy.spark.line_protocol import Hosting

_log = logging.getLogger(__name__)

HANDSHAKE_S: Final = 10.0
# What one message of a rank can hold: the row counts of thousands of DataFrames.
MOST_FROM_PEER_BYTES: Final = 4 * 2**20
_STRANGERS: Final = 512
_BACKLOG: Final = 4096
_ACCEPTS: Final = 64
_CHUNK_BYTES: Final = 64 * 1024
_RETRY_S: Final = 0.1
_FAIR_S: Final = 1.0
_IDLE_S: Final = 1.0
_JOIN_S: Final = 5.0
# For all peers together, to take what they have not read yet when this side closes.
_LAST_WORDS_S: Final = 2.0
# Beside the lines: what the process has open otherwise.
_OTHER_DESCRIPTORS: Final = 1024


class LineServer:
    """Accepts authenticated lines and serves them all in one thread.

    Args:
        sock: a bound socket; it is made to listen and owned from now on.
        secret: the run's secret.
        owner: told what happens.
        lines: how many are expected; room for as many file descriptors is asked for.
        strangers: how many connections may be unproved at the same time.
        handshake_s: seconds that each has.
    """

    def __init__(
        self,
        sock: socket.socket,
        secret: bytes,
        owner: Owner,
        *,
        lines: int = 0,
        strangers: int = _STRANGERS,
        handshake_s: float = HANDSHAKE_S,
    ) -> None:
        self.owner = owner
        self._socket = sock
        self._secret = secret
        self._most_strangers = strangers
        self._handshake_s = handshake_s
        self._strangers: dict[Peer, None] = {}  # oldest first
        self._peers: set[Peer] = set()
        self._calls: deque[Callable[[], None]] = deque()
        self._waiting: list[threading.Event] = []
        self._closed = False
        self._accepts_at, self._strangers_then = 0.0, 0
        self._selector = selectors.DefaultSelector()
        self._wakes, self._waker = socket.socketpair()
        _make_room(lines)
        for one in (sock, self._wakes, self._waker):
            one.settimeout(0)
        sock.listen(_BACKLOG)
        self.port = int(sock.getsockname()[1])
        self._watch_door()
        self.watch(self._wakes, selectors.EVENT_READ, lambda _: self._wakes.recv(_CHUNK_BYTES))
        self._thread = threading.Thread(target=self._run, daemon=True, name="spark_strategy-lines")
        self._thread.start()

    def later(self, call: Callable[[], None]) -> None:
        """Run ``call`` in the server's thread, soon. Safe from any thread."""
        self._calls.append(call)
        with suppress(OSError):  # full: it wakes up anyway; or closed
            self._waker.send(b"\0")

    def read_all(self, timeout_s: float) -> None:
        """Wait until all that has reached this host is handed to the owner. From any thread."""
        done = threading.Event()
        self.later(lambda: self._waiting.append(done))
        done.wait(timeout_s)

    def close(self) -> None:
        """Stop listening and end every connection. Safe from any thread, and to call again."""
        self._closed = True
        self.later(lambda: None)
        if threading.current_thread() is not self._thread:
            self._thread.join(_JOIN_S)

    def watch(self, sock: socket.socket, mask: int, ready: Callable[[int], object]) -> None:
        """Call ``ready`` when one of ``mask`` happens on a socket; never, with an empty mask."""
        is_watched = sock in self._selector.get_map()
        if mask and is_watched:
            self._selector.modify(sock, mask, ready)
        elif mask:
            self._selector.register(sock, mask, ready)
        elif is_watched:
            self._selector.unregister(sock)

    def count_in(self, peer: Peer) -> None:
        """A stranger has become a peer."""
        self._strangers.pop(peer, None)
        self._peers.add(peer)

    def forget(self, peer: Peer, sock: socket.socket) -> None:
        """A connection ends."""
        self.watch(sock, 0, peer.ready)
        self._strangers.pop(peer, None)
        self._peers.discard(peer)

    def _run(self) -> None:
        wait_s = 0.0
        try:
            while not self._closed:
                happened = self._selector.select(min(0.0 if self._waiting else wait_s, _IDLE_S))
                for key, mask in happened:
                    key.data(mask)
                while self._waiting and not happened:
                    self._waiting.pop().set()
                while self._calls:
                    self._calls.popleft()()
                wait_s = min(self.owner.look(), self._look_at_strangers())
        # Without its thread, every line would hang: close them, which their other ends see.
        except Exception:  # noqa: BLE001 - it is logged
            _log.exception("The lines of a run have ended")
        finally:
            deadline = time.monotonic() + _LAST_WORDS_S
            for peer in [*self._strangers, *self._peers]:
                peer.abandon(deadline)
            for one in (self._socket, self._wakes, self._waker):
                one.close()
            self._selector.close()

    def _watch_door(self) -> None:
        self.watch(self._socket, selectors.EVENT_READ, lambda _: self._accept())

    def _accept(self) -> None:
        for _ in range(_ACCEPTS):
            try:
                sock, _ = self._socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._make_way()
                    self._close_door(_RETRY_S)
                    return
                continue  # that connection has ended already
            hosting = Hosting(self._secret, most_bytes=MOST_FROM_PEER_BYTES)
            self._strangers[Peer(self, sock, hosting)] = None
            if len(self._strangers) >= self._most_strangers and not self._make_way():
                self._close_door(_FAIR_S)
                return

    def _make_way(self) -> bool:
        """Whether a stranger that has had its time was sent away."""
        oldest = next(iter(self._strangers), None)
        if oldest is None or time.monotonic() - oldest.since < _FAIR_S:
            return False
        oldest.close("")
        return True

    def _close_door(self, seconds: float) -> None:
        """Accept nobody for a while, or until a stranger has become a peer or has left."""
        self._accepts_at = time.monotonic() + seconds
        self._strangers_then = len(self._strangers)
        self.watch(self._socket, 0, lambda _: None)

    def _look_at_strangers(self) -> float:
        """Send away the strangers whose time is up; seconds until the next one's."""
        now = time.monotonic()
        while self._strangers and now - (peer := next(iter(self._strangers))).since > (
            self._handshake_s
        ):
            peer.close("")
        if self._accepts_at:
            if now < self._accepts_at and len(self._strangers) >= self._strangers_then:
                return self._accepts_at - now
            self._accepts_at = 0.0
            self._make_way()
            self._watch_door()
        return _IDLE_S


def _make_room(lines: int) -> None:
    """Raise this process's soft limit of open files where ``lines`` would not fit below it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = lines + _STRANGERS + _OTHER_DESCRIPTORS
    if lines and soft != resource.RLIM_INFINITY and soft < wanted:
        wanted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
