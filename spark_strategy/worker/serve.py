"""The model server: a folder -> a model that answers the tasks of one executor.

Run as ``python -m spark_strategy.worker.serve FOLDER PARENT STARTED`` by the task that needs the
model first. It outlives that task and serves others, also of later jobs, until it has had no client
for a while. It ends at once when PARENT does, the process that Spark's Python workers are forked
from and that Spark ends with the session, or when FOLDER is gone, which Spark removes with it.
"""

from __future__ import annotations

import mmap
import os
import pickle
import socket
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from spark_strategy.serving import (
    ERROR,
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
from spark_strategy.worker import imports

if TYPE_CHECKING:
    from spark_strategy.worker.program import Answering

_WATCH_S: Final = 0.25
_LOCK_S: Final = 10.0
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
        folder.fail(traceback.format_exc()[-_TRACE_CHARS:])
        os._exit(1)


class _Server:
    """One model and its clients."""

    def __init__(self, folder: ServerFolder, parent: int, started: str) -> None:
        self._folder = folder
        self._order = folder.read_order()
        self._parent, self._started = parent, started
        self._lock = threading.Lock()
        self._clients = 0
        self._idle_since: float | None = None
        self._listener: socket.socket | None = None
        # More at once would only need more memory: one computes while one is copied.
        self._turns = threading.BoundedSemaphore(2)
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
        self._idle_since = time.monotonic()
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:  # closed by the watch, which ends the process
                time.sleep(_LOCK_S)
                continue
            with self._lock:
                self._clients += 1
            threading.Thread(target=self._serve, args=(sock, model), daemon=True).start()

    def _serve(self, sock: socket.socket, model: Answering) -> None:
        files: list[int] = []
        try:
            with sock:
                check_peer(sock)
                _, files, _, _ = socket.recv_fds(sock, 1, SLOTS)
                sock.sendall(b"!")
                slots = [_Slot(file) for file in files]
                while True:
                    slot, size = REQUEST.unpack(receive(sock, REQUEST.size))
                    status, reply = self._reply(model, slots[slot].view(size))
                    sock.sendall(REPLY.pack(status, sum(len(part) for part in reply)))
                    for part in reply:
                        sock.sendall(part)
        except OSError:
            pass  # the client has all it wanted, or is gone
        finally:
            for file in files:
                os.close(file)
            with self._lock:
                self._clients -= 1
                self._idle_since = time.monotonic()

    def _reply(self, model: Answering, block: memoryview) -> tuple[int, list[bytes]]:
        try:
            with self._turns:
                return VALUES, model(block)
        except Exception:  # noqa: BLE001 - the model is the user's: anything can come out of it
            return ERROR, [traceback.format_exc()[-_TRACE_CHARS:].encode()]

    def _watch(self) -> None:
        """End this process when nobody needs it."""
        while True:
            time.sleep(_WATCH_S)
            alone = started_at(self._parent) != self._started
            if alone or not self._folder.path.exists() or self._is_idle():
                self._end()

    def _is_idle(self) -> bool:
        with self._lock:
            return (
                not self._clients
                and self._idle_since is not None
                and time.monotonic() - self._idle_since > self._order.idle_s
            )

    def _end(self) -> None:
        """Leave nothing; a client that connects at this moment is refused, and retries."""
        try:
            with self._folder.locked(time.monotonic() + _LOCK_S):
                if self._listener is not None:
                    self._listener.close()
                self._folder.remove()
        finally:
            os._exit(0)


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
