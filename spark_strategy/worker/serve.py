"""The model server: a folder -> a model that answers the tasks of one executor.

Run as ``python -m spark_strategy.worker.serve FOLDER PARENT STARTED`` by the task that needs the
model first. It outlives that task and serves others, also of later jobs, until it has had no client
for a while. It ends at once when PARENT does, the process that Spark's Python workers are forked
from and that Spark ends with the session, or when FOLDER is gone, which Spark removes with it; and
soon when the driver has dropped the model, when the executor holds too many, when a batch or the
loading does not come back in time, and by SIGTERM, SIGINT or SIGHUP. These signals are blocked in
all its threads, and the watch takes them: TensorFlow may compute for long without looking at any.
"""

from __future__ import annotations

import contextlib
import faulthandler
import itertools
import mmap
import os
import pickle
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from spark_strategy.serving import (
    ENDS,
    ERROR,
    HELLO,
    REPLY,
    REQUEST,
    SLOTS,
    VALUES,
    ServerFolder,
    ServerOrder,
    check_peer,
    receive,
    started_at,
)
from spark_strategy.worker import imports, room

if TYPE_CHECKING:
    from spark_strategy.worker.program import Answering

_WATCH_S: Final = 0.25
_LOCK_S: Final = 10.0
# A driver that has dropped a model may send it again for the next micro-batch.
_DROPPED_S: Final = 10.0
_TELL_S: Final = 1.0
# The watch looks every quarter of a second, unless a thread keeps Python's lock for good.
_STUCK_S: Final = 120.0
_DAY_S: Final = 86_400.0
_ENDING: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_TRACE_CHARS: Final = 20_000


def main(path: str, parent: str, started: str) -> None:
    """Detach from the task, load the model, answer."""
    if os.fork():
        os._exit(0)
    folder = ServerFolder(Path(path))
    # Goes with the folder: this process leaves without the exit handlers that autograph relies on.
    tempfile.tempdir = folder.short_path()
    try:
        server = _Server(folder, int(parent), started)
        server.answer(server.load())
    except BaseException:  # noqa: BLE001 - whatever it is, the task that waits says it
        # That task removes the folder, unless Spark has ended it meanwhile.
        folder.model_path.unlink(missing_ok=True)
        folder.fail(traceback.format_exc()[-_TRACE_CHARS:])
        os._exit(1)


class _Server:
    """One model and its clients."""

    def __init__(self, folder: ServerFolder, parent: int, started: str) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
        self._folder = folder
        self._order = folder.read_order()
        self._parent, self._started = parent, started
        self._began = time.monotonic()
        self._device = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        self._max_bytes = self._order.max_bytes or room.half_of_memory()
        self._lock = threading.Lock()
        self._clients: set[_Client] = set()
        self._idle_since: float | None = None
        self._listener: socket.socket | None = None
        # More at once would only need more memory: one computes while one is copied.
        self._turns = threading.BoundedSemaphore(2)
        self._tell()
        threading.Thread(target=self._watch, daemon=True).start()

    def load(self) -> Answering:
        """The model, ready."""
        _use_threads(self._order)
        from spark_strategy.worker.program import Answering, Asked

        # Only this user can write there, and Spark brought it.
        source = pickle.loads(self._folder.model_path.read_bytes())
        answering = Answering(source, Asked(*pickle.loads(self._order.program)))
        self._folder.model_path.unlink()
        return answering

    def answer(self, model: Answering) -> None:
        """Serve whoever connects, until the watch ends this process."""
        self._listener = self._folder.listen()
        with self._lock:
            self._idle_since = time.monotonic()
            self._tell()
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:  # closed by the watch, which ends the process
                time.sleep(_LOCK_S)
                continue
            client = _Client(sock)
            with self._lock:
                self._clients.add(client)
                if self._idle_since is not None:
                    self._idle_since = None
                    self._tell()
            threading.Thread(target=self._serve, args=(client, model), daemon=True).start()

    def _serve(self, client: _Client, model: Answering) -> None:
        sock = client.sock
        files: list[int] = []
        try:
            with sock:
                check_peer(sock)
                hello, files, _, _ = socket.recv_fds(sock, HELLO.size, SLOTS)
                (client.timeout_s,) = HELLO.unpack(hello)
                sock.sendall(b"!")
                slots = [_Slot(file) for file in files]
                while True:
                    slot, size = REQUEST.unpack(receive(sock, REQUEST.size))
                    client.say(*self._reply(client, model, slots[slot].view(size)))
        except (OSError, struct.error):
            pass  # the client has all it wanted, or is gone
        finally:
            for file in files:
                os.close(file)
            with self._lock:
                self._clients.remove(client)
                if not self._clients:
                    self._idle_since = time.monotonic()
                    self._tell()

    def _reply(
        self, client: _Client, model: Answering, block: memoryview
    ) -> tuple[int, list[bytes]]:
        try:
            with self._turns:
                client.turn_since = time.monotonic()
                return VALUES, model(block)
        except Exception:  # noqa: BLE001 - the model is the user's: anything can come out of it
            return ERROR, [traceback.format_exc()[-_TRACE_CHARS:].encode()]
        finally:
            client.turn_since = None

    def _tell(self) -> None:
        """Tell the other servers of the executor; with the lock held."""
        with contextlib.suppress(OSError):  # the folder is gone, and so is this process soon
            self._folder.tell_state(room.told(self._device, self._idle_since))

    def _watch(self) -> None:
        """End this process when nobody needs it, or it is of no use any more."""
        for look in itertools.count():
            if signal.sigtimedwait(_ENDING, _WATCH_S) is not None:
                self._end()
            if look % 20 == 0:
                self._end_if_stuck()
            alone = started_at(self._parent) != self._started
            if alone or not self._folder.path.exists() or self._is_idle():
                self._end()
            if problem := self._overdue():
                self._give_up(problem)

    def _is_idle(self) -> bool:
        """Whether it has no client, and no reason to wait for one."""
        since = self._idle_since
        if since is None:
            return False
        idle_s = time.monotonic() - since
        if idle_s > self._order.idle_s:
            return True
        if idle_s > _DROPPED_S and not self._folder.is_wanted():
            return True
        limits = {"max_models": self._order.max_models, "max_bytes": self._max_bytes}
        return room.gives_way(self._folder.path.name, room.around(self._folder), **limits)

    def _overdue(self) -> str:
        """What does not come back; empty if all is well."""
        now = time.monotonic()
        with self._lock:
            clients = list(self._clients)
        if self._listener is None:
            limit = self._order.start_timeout_s
            late = now - self._began > limit
            return f"The model was not loaded after start_timeout_s={limit:g} s." if late else ""
        turns = [since for one in clients if (since := one.turn_since) is not None]
        # A model that is slow for one client may be right for another one, which waits for longer.
        limit = max((one.timeout_s for one in clients), default=0.0)
        if turns and now - min(turns) > limit:
            return f"A batch had not come back after timeout_s={limit:g} s."
        return ""

    def _give_up(self, problem: str) -> None:
        """End with a word to all who wait."""
        text = f"{problem} The process that held the model has ended; the next task starts another."
        sys.stderr.write(f"{text}\n")
        faulthandler.dump_traceback()
        with self._lock:
            clients = list(self._clients)
        for client in clients:
            client.say_last(text)
        self._end()

    def _end_if_stuck(self) -> None:
        """Have the process end, by a thread that needs no lock of Python's, unless this is called.

        A model's native code may never give that lock back, and then nothing else here can run.
        """
        with self._lock:
            limits = [one.timeout_s for one in self._clients]
        limit = max([_STUCK_S, self._order.start_timeout_s, *limits])
        faulthandler.dump_traceback_later(min(limit, _DAY_S) + _STUCK_S, exit=True)

    def _end(self) -> None:
        """Leave nothing; a client that connects at this moment is refused, and retries."""
        try:
            with self._folder.locked(time.monotonic() + _LOCK_S):
                if self._listener is not None:
                    self._listener.close()
                self._folder.remove()
        finally:
            os._exit(0)


class _Client:
    """A task at the other end of a connection.

    Attributes:
        sock: the connection.
        timeout_s: how long it waits for a block.
        turn_since: since when the model computes for it; None while it does not.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.timeout_s = 0.0
        self.turn_since: float | None = None
        self._speaking = threading.Lock()

    def say(self, status: int, reply: list[bytes]) -> None:
        """One whole reply."""
        with self._speaking:
            self.sock.sendall(REPLY.pack(status, sum(len(part) for part in reply)))
            for part in reply:
                self.sock.sendall(part)

    def say_last(self, text: str) -> None:
        """Why there are no more replies; nothing can follow, and nothing be said in the middle."""
        if self._speaking.acquire(timeout=_TELL_S):
            with contextlib.suppress(OSError):
                self.sock.settimeout(_TELL_S)
                content = text.encode()
                self.sock.sendall(REPLY.pack(ENDS, len(content)) + content)


class _Slot:
    """A client's piece of memory."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._map: Any = None

    def view(self, size: int) -> memoryview:
        """The block in it. Valid until the reply is sent."""
        if self._map is None or len(self._map) < size:
            # The old one is unmapped with its last view.
            self._map = mmap.mmap(self._file, 0, prot=mmap.PROT_READ)
        return memoryview(self._map)[:size]


def _use_threads(order: ServerOrder) -> None:
    with imports.of_what_stays():
        import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(order.threads)
    tf.config.threading.set_inter_op_parallelism_threads(max(2, order.threads))


if __name__ == "__main__":
    main(*sys.argv[1:])
