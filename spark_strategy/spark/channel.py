"""A task's end of the line to a model server; the protocol is in ``serving.py``."""

from __future__ import annotations

import mmap
import os
import socket
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Final

from spark_strategy.errors import WorkerError
from spark_strategy.serving import (
    ENDS,
    ERROR,
    HELLO,
    REPLY,
    REQUEST,
    SLOTS,
    ServerFolder,
    receive,
)

_HELLO_S: Final = 30.0
# What a socket's timeout can hold; whoever waits for longer waits for ever.
_LONGEST_S: Final = 1e8
_PAGE: Final = mmap.PAGESIZE


class Channel:
    """One client's connection; for one thread.

    Args:
        sock: connected to the server; owned from now on.
        folder: the server's, for what to say when it ends.
        model: what to call the model.
        timeout_s: seconds that the model may take for a block.

    Raises:
        OSError: the server is ending.
    """

    def __init__(
        self, sock: socket.socket, folder: ServerFolder, *, model: str, timeout_s: float
    ) -> None:
        self._socket = sock
        self._folder = folder
        self._model = model
        self._timeout_s = timeout_s
        self._slots = [_Slot() for _ in range(SLOTS)]
        self._free = deque(range(SLOTS))
        self._busy: deque[int] = deque()
        try:
            sock.settimeout(_HELLO_S)
            hello = HELLO.pack(timeout_s)
            socket.send_fds(sock, [hello], [slot.file for slot in self._slots])
            receive(sock, 1)
            sock.settimeout(timeout_s if timeout_s < _LONGEST_S else None)
        except OSError:
            self.close()
            raise

    def __enter__(self) -> Channel:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def is_full(self) -> bool:
        """Whether a reply must be taken before another block can be sent."""
        return not self._free

    def send(self, nbytes: int, buffers: Sequence[memoryview]) -> None:
        """Hand a block of rows to the server.

        Raises:
            WorkerError: the server has ended.
        """
        slot = self._free.popleft()
        self._slots[slot].write(nbytes, buffers)
        self._busy.append(slot)
        try:
            self._socket.sendall(REQUEST.pack(slot, nbytes))
        except OSError as error:
            raise self._lost(error) from error

    def take(self) -> memoryview:
        """The reply to the oldest block that was sent.

        Raises:
            WorkerError: the model failed on it, took too long, or the server has ended.
        """
        try:
            status, size = REPLY.unpack(receive(self._socket, REPLY.size))
            answer = receive(self._socket, size)
        except OSError as error:
            raise self._lost(error) from error
        self._free.append(self._busy.popleft())
        if status == ERROR:
            raise WorkerError(f"The model failed on a batch:\n{answer.decode()}")
        if status == ENDS:
            raise WorkerError(f"{self._model} on {socket.gethostname()}: {answer.decode()}")
        return memoryview(answer).toreadonly()

    def close(self) -> None:
        """Give everything back."""
        self._socket.close()
        for slot in self._slots:
            slot.close()

    def _lost(self, error: OSError) -> WorkerError:
        if isinstance(error, TimeoutError):
            return WorkerError(
                f"{self._model} on {socket.gethostname()} took more than timeout_s="
                f"{self._timeout_s:g} seconds for a batch. Choose a smaller batch_size, or allow "
                "it more time. If the batch does not come back, the process that holds the model "
                "ends, and Spark's next attempt starts another one."
            )
        said = tail(self._folder)
        return WorkerError(
            f"The process that holds the model on {socket.gethostname()} has ended ({error}). "
            "If nobody stopped it, memory is the usual suspect: try a smaller batch_size, or more "
            f"spark.executor.memoryOverhead. Spark's next attempt starts another one.{said}"
        )


def tail(folder: ServerFolder, limit: int = 4000) -> str:
    """The last of what a server printed, as a paragraph; empty if nothing is left."""
    try:
        text = folder.log_path.read_text(encoding="utf-8", errors="replace")[-limit:]
    except OSError:
        return ""
    return f"\nIts last output:\n{text}" if text.strip() else ""


class _Slot:
    """Anonymous memory that both ends see; the kernel frees it with its last user."""

    def __init__(self) -> None:
        self.file = os.memfd_create("spark_strategy", os.MFD_CLOEXEC)
        self._map: mmap.mmap | None = None

    def write(self, nbytes: int, buffers: Sequence[memoryview]) -> None:
        """Put a block here, in place of the last one."""
        if self._map is None or len(self._map) < nbytes:
            if self._map is not None:
                self._map.close()
            size = -(-nbytes // _PAGE) * _PAGE
            os.ftruncate(self.file, size)
            self._map = mmap.mmap(self.file, size)
        place = 0
        for buffer in buffers:
            self._map[place : place + buffer.nbytes] = buffer.cast("B")
            place += buffer.nbytes

    def close(self) -> None:
        """Give it back."""
        if self._map is not None:
            self._map.close()
        os.close(self.file)
