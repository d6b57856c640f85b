"""A file that TensorFlow reads: bounded read-ahead over any fsspec file.

What has a descriptor of the kernel is read by ``bridge.c`` alone. Of all others,
a miss in the window that ``bridge.c`` copies from comes here. Reads that follow one another get
blocks of growing size, and while one is consumed the next is fetched: at most two blocks of 4 MiB
are held for each open file. Other reads get what they ask for.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

from spark_strategy.filesystem.calls import Call
from spark_strategy.filesystem.places import Place

_FIRST_BYTES: Final = 256 << 10
_BLOCK_BYTES: Final = 4 << 20
_RANDOM_BYTES: Final = 64 << 10
# One request of somebody who asks for much at once, as tf.io.read_file does.
_MOST_BYTES: Final = 32 << 20


class Reader:
    """One open file; for use by several threads.

    Args:
        place: the file.

    Attributes:
        descriptor: of a file that the kernel reads; None for others.

    Raises:
        OSError: it cannot be opened; also what else ``fs.open`` raises.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._file = place.call(lambda: _opened(place))
        self.descriptor = _descriptor(self._file)
        self._known_bytes: int | None = getattr(self._file, "size", None)
        self._in_use = threading.Lock()  # the file's position
        self._turn = threading.Lock()  # all that follows
        self._next = 0
        self._block_bytes = _FIRST_BYTES
        self._ahead: tuple[int, Call[memoryview]] | None = None
        self._shown = memoryview(b"")
        self._stream: tuple[int, Iterator[bytes]] = (-1, iter(()))
        self._spare: bytearray | None = None

    def fetch(self, offset: int, size: int, show: Callable[[memoryview], int]) -> int:
        """Bring the window to ``offset``.

        Args:
            offset: first byte wanted.
            size: how many are wanted.
            show: makes a block that begins at ``offset`` the window, and copies from it; the one
                shown before is not used any more when it returns.

        Returns:
            What ``show`` returns; 0 at the end of the file.
        """
        with self._turn:
            block = self._block(offset, size)
            if not len(block):
                return 0
            count = show(block)
            if isinstance(self._shown.obj, bytearray):
                self._spare = self._shown.obj
            self._shown = block
            return count

    def close(self) -> None:
        """Give the file back, once a read-ahead that is under way has ended."""
        if self._ahead is None:
            self._close()
        else:
            Call(self._close, self._place.uri)

    def _block(self, offset: int, size: int) -> memoryview:
        follows, ahead = offset == self._next, self._ahead
        self._ahead = None
        if follows and ahead is not None and ahead[0] == offset:
            block = ahead[1].result(self._place.timeout_s)
        else:
            wanted = max(size, self._block_bytes if follows else _RANDOM_BYTES)
            block = self._load(offset, min(wanted, _MOST_BYTES)).result(self._place.timeout_s)
        self._next = offset + len(block)
        self._block_bytes = min(2 * self._block_bytes, _BLOCK_BYTES) if follows else _FIRST_BYTES
        # The second block of a run is the first that is worth a guess.
        more = self._known_bytes is None or self._next < self._known_bytes
        if follows and offset and len(block) and more:
            self._ahead = self._next, self._load(self._next, self._block_bytes)
        return block

    def _load(self, offset: int, size: int) -> Call[memoryview]:
        if self._known_bytes is not None:
            # A file may have grown since: its end is where a read returns nothing.
            left = self._known_bytes - offset
            size = min(size, left) if left > 0 else min(size, _RANDOM_BYTES)
        return Call(lambda: self._read(offset, size), self._place.uri)

    def _read(self, offset: int, size: int) -> memoryview:
        with self._in_use:
            if self._known_bytes is not None and hasattr(self._file, "read_range_stream"):
                return self._streamed(offset, size, self._known_bytes)
            self._file.seek(offset)
            return memoryview(self._file.read(size))

    def _streamed(self, offset: int, size: int, end: int) -> memoryview:
        """Of hdfs-native, whose every ``read`` is a request of its own: three times slower."""
        if offset >= end:
            return memoryview(b"")
        at, stream = self._stream
        self._stream = -1, stream
        if at != offset:
            # Whoever jumps may jump again: what is not asked for is not sent.
            follows = offset == 0 or size > _RANDOM_BYTES
            stream = self._file.read_range_stream(offset, end - offset if follows else size)
        block, count = self._block_of(size), 0
        for chunk in stream:
            fits = min(size - count, len(chunk))
            block[count : count + fits] = memoryview(chunk)[:fits]
            count += fits
            if count == size:
                stream = itertools.chain([chunk[fits:]], stream) if fits < len(chunk) else stream
                break
        self._stream = offset + count, stream
        return memoryview(block)[:count]

    def _block_of(self, size: int) -> bytearray:
        """Memory that was in use before, if there is: new pages cost as much as the copy."""
        spare, self._spare = self._spare, None
        return spare if spare is not None and len(spare) >= size else bytearray(size)

    def _close(self) -> None:
        with self._in_use:
            self._file.close()


def _opened(place: Place) -> Any:
    # Blocks come as large as they are wanted: fsspec's own cache would copy them once more.
    kind = place.fs.protocol if isinstance(place.fs.protocol, str) else place.fs.protocol[0]
    options = {} if kind in {"hdfs", "viewfs"} else {"cache_type": "none"}
    try:
        return place.fs.open(place.path, "rb", **options)
    except IsADirectoryError:
        raise
    except Exception:
        # What implementations say of a directory differs: HDFS's, that there is no such file.
        if place.fs.isdir(place.path):
            raise IsADirectoryError(f"{place.uri} is a directory") from None
        raise


def _descriptor(file: Any) -> int | None:
    """The descriptor of a file that the kernel reads."""
    try:
        return int(file.fileno())
    except (OSError, AttributeError):
        return None
