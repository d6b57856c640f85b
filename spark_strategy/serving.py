"""What the tasks of an executor and its model server share: a folder, and a protocol.

The theory. One process per executor (or GPU) holds a model: its *server*. Whichever task needs the
model first starts it. The tasks' Python processes are its *clients*. Folder and socket belong to
one user and nobody else can enter; each end also asks the kernel who is at the other one.

Two locks say what is going on, and the kernel drops them with their holder, however it ends:

- ``KEY.lock``, beside the folder, is held while a server is started, or decides to end;
- ``alive``, in it, is held by the server from before its first instruction until its end.

A client says first how long it waits for a block, and passes two pieces of anonymous memory along.
A request is the number of the piece that holds a block of rows (``data/layout.py``) and the block's
size; two may be under way, so that rows are prepared while the model computes. A reply is a status
and bytes: each output's values back to back, or the text of an error, or why the server ends.
Nothing is unpickled from the socket.

Two files in the folder say more. ``lease``, written by clients, names a file that Spark removes
when the driver has dropped the model. ``state``, written by the server, tells the other servers of
the executor since when it has had no client: together they keep a bound (``worker/room.py``).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pickle
import shutil
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from spark_strategy.file_lock import locked_file

SLOTS: Final = 2
HELLO: Final = struct.Struct("<d")
REQUEST: Final = struct.Struct("<Bq")
REPLY: Final = struct.Struct("<Bq")
VALUES: Final = 0
ERROR: Final = 1
ENDS: Final = 2

_SOCKET: Final = "socket"
_CREDENTIALS: Final = struct.Struct("3i")


@dataclass(frozen=True, slots=True)
class Output:
    """One output of a model.

    Attributes:
        name: what the model calls it.
        dtype: name of its dtype, such as "float32"; "string" for byte strings.
        shape: of one row, all known.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ServerOrder:
    """What a server is told by the task that starts it.

    Attributes:
        program: pickled columns and features, which only the server reads.
        outputs: what a reply consists of, in order.
        threads: of the model's computations.
        idle_s: seconds without a client after which it ends.
        start_timeout_s: seconds until it must be ready, or ends.
        max_models: servers of the executor (or of its GPU) above which it ends, if of those without
            a client it has been without one for longest.
        max_bytes: the same for the memory of all these servers; 0 for half of what there is.
    """

    program: bytes
    outputs: tuple[Output, ...]
    threads: int
    idle_s: float
    start_timeout_s: float
    max_models: int
    max_bytes: int


@dataclass(frozen=True, slots=True)
class ServerFolder:
    """A server's folder.

    Attributes:
        path: absolute; its parent exists.
    """

    path: Path

    @property
    def log_path(self) -> Path:
        """What the server prints."""
        return self.path / "log"

    @property
    def model_path(self) -> Path:
        """The pickled model; removed once it is loaded."""
        return self.path / "model"

    @property
    def _alive_path(self) -> Path:
        """Locked by the server while it lives."""
        return self.path / "alive"

    @contextlib.contextmanager
    def locked(self, deadline: float) -> Iterator[None]:
        """Alone among all that may start, end or remove the server.

        Raises:
            TimeoutError: others held the lock until ``deadline`` (monotonic seconds).
        """
        path = self.path.with_name(f"{self.path.name}.lock")
        file = locked_file(path, deadline)
        try:
            yield
            if not self.path.exists():
                path.unlink(missing_ok=True)
        finally:
            os.close(file)

    def prepare(self, order: ServerOrder) -> int:
        """An empty folder with this order in it.

        Returns:
            The descriptor of the lock that the server inherits; -1 if a server lives.
        """
        self.path.mkdir(mode=0o700, exist_ok=True)
        alive = os.open(self._alive_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(alive)
            return -1
        try:
            for place in self.path.iterdir():
                if place.is_dir():
                    shutil.rmtree(place)
                elif place != self._alive_path:
                    place.unlink()
            (self.path / "order").write_bytes(pickle.dumps(order))
        except BaseException:
            os.close(alive)  # or nobody could start a server here as long as this process lives
            raise
        return alive

    def read_order(self) -> ServerOrder:
        """The order."""
        order: ServerOrder = pickle.loads((self.path / "order").read_bytes())
        return order

    def is_alive(self) -> bool:
        """Whether a server lives, ready or not."""
        try:
            file = os.open(self._alive_path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(file)
        return False

    def was_ready(self) -> bool:
        """Whether the last server got as far as to take connections."""
        return (self.path / _SOCKET).exists()

    def fail(self, text: str) -> None:
        """Leave word why there is no server."""
        self._write("failed", text)

    def failure(self) -> str:
        """What :meth:`fail` was given; empty if nothing."""
        return self._read("failed")

    def lease(self, path: str) -> None:
        """The model is wanted as long as there is this file; empty for as long as it is used."""
        self._write("lease", path)

    def is_wanted(self) -> bool:
        """Whether the file that the last client named is there, if it named one."""
        path = self._read("lease")
        return not path or Path(path).exists()

    def tell_state(self, text: str) -> None:
        """Leave word for the other servers of this executor."""
        self._write("state", text)

    def read_state(self) -> str:
        """The last such word; empty for none."""
        return self._read("state")

    def remove(self) -> None:
        """Take the folder away."""
        shutil.rmtree(self.path, ignore_errors=True)

    def listen(self) -> socket.socket:
        """The server's socket, from now on there to connect to."""
        sock = socket.socket(socket.AF_UNIX)
        with self._socket_path() as path:
            sock.bind(path)
        sock.listen(128)
        return sock

    def connect(self) -> socket.socket:
        """A connection to a server that is ready.

        Raises:
            OSError: there is none.
            PermissionError: it is another user's.
        """
        sock = socket.socket(socket.AF_UNIX)
        try:
            with self._socket_path() as path:
                sock.connect(path)
            check_peer(sock)
        except OSError:
            sock.close()
            raise
        return sock

    def short_path(self) -> str:
        """The folder, with room for a Unix socket below it, until this process ends."""
        return f"/proc/{os.getpid()}/fd/{self._descriptor()}"

    @contextlib.contextmanager
    def _socket_path(self) -> Iterator[str]:
        """The socket's path in less than 108 bytes, which is all that the kernel takes."""
        folder = self._descriptor()
        try:
            yield f"/proc/self/fd/{folder}/{_SOCKET}"
        finally:
            os.close(folder)

    def _write(self, name: str, text: str) -> None:
        # Several clients may write at once, each whole.
        partial = self.path / f"{name}.{os.getpid()}.{threading.get_native_id()}"
        partial.write_text(text, encoding="utf-8")
        partial.rename(self.path / name)

    def _read(self, name: str) -> str:
        try:
            return (self.path / name).read_text(encoding="utf-8")
        except OSError:  # not written yet, or the folder is gone
            return ""

    def _descriptor(self) -> int:
        return os.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def check_peer(sock: socket.socket) -> None:
    """Refuse whoever is not this user, by the kernel's word.

    Raises:
        PermissionError: the other end is another user's.
    """
    found = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, user, _ = _CREDENTIALS.unpack(found)
    if user != os.getuid():
        raise PermissionError(f"the other end of the socket is user {user}, not {os.getuid()}")


def receive(sock: socket.socket, count: int) -> bytearray:
    """Exactly ``count`` bytes.

    Raises:
        ConnectionError: the other end closed; its text says so.
    """
    received = bytearray(count)
    view, done = memoryview(received), 0
    while done < count:
        size = sock.recv_into(view[done:])
        if not size:
            raise ConnectionError("the other end closed")
        done += size
    return received


def started_at(pid: int) -> str:
    """When a process started, in the kernel's own unit; empty if it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    # proc(5): after the name in parentheses come the state and, 19 fields later, the start.
    fields: list[Any] = stat.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else str(fields[19])
