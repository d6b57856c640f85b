"""One file per folder, of which only some are open at once."""

from __future__ import annotations

import gzip
import os
import tempfile
from contextlib import ExitStack
from typing import IO, BinaryIO, Final, Self, cast

from spark_strategy.tfrecord.files import Place

# A process may usually have 1,024 files open, and remote ones hold a buffer each.
MOST_OPEN: Final = 64


class OpenFiles:
    """The files of one task, each written to in turn.

    The first ``MOST_OPEN`` stay open. What goes into any other is put aside in one file on the
    local disk, and written at the end, one file after the other: so there is one file per folder,
    as Spark's own writers make by sorting the rows first.

    Args:
        place: whose filesystem is written to.
        folder: that the names are relative to.
        gzip: whether to compress.
    """

    def __init__(self, place: Place, folder: str, *, gzip: bool) -> None:
        self._filesystem = place.filesystem
        self._folder = folder
        self._gzip = gzip
        self._stack = ExitStack()
        self._open: dict[str, BinaryIO] = {}
        self._aside: IO[bytes] | None = None
        self._parts: dict[str, list[tuple[int, int]]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """All files, in the order in which they were first written to."""
        return (*self._open, *self._parts)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._stack:
            if kind is None:
                self._write_aside()

    def write(self, name: str, data: memoryview) -> None:
        """Append to a file, which is made if it is not there."""
        if name not in self._open and len(self._open) >= MOST_OPEN:
            self._put_aside(name, data)
            return
        if name not in self._open:
            self._open[name] = self._opened(name, self._stack)
        self._open[name].write(data)

    def _opened(self, name: str, stack: ExitStack) -> BinaryIO:
        path = f"{self._folder}/{name}"
        self._filesystem.makedirs(path.rpartition("/")[0], exist_ok=True)
        raw = stack.enter_context(self._filesystem.open(path, "wb"))
        if not self._gzip:
            return cast(BinaryIO, raw)
        # Neither time nor name in the header: the same rows make the same file.
        return cast(BinaryIO, stack.enter_context(gzip.GzipFile("", "wb", 6, raw, 0)))

    def _put_aside(self, name: str, data: memoryview) -> None:
        if self._aside is None:
            # Spark tells its Python workers where there is room (python.worker, shuffle.py).
            folders = os.environ.get("SPARK_LOCAL_DIRS", "").split(",")
            folder = next((one for one in folders if one and os.path.isdir(one)), None)  # noqa: PTH112
            self._aside = self._stack.enter_context(tempfile.TemporaryFile(dir=folder))  # noqa: SIM115 - the stack closes it
        self._parts.setdefault(name, []).append((self._aside.tell(), len(data)))
        self._aside.write(data)

    def _write_aside(self) -> None:
        for name, parts in self._parts.items():
            with ExitStack() as stack:
                target = self._opened(name, stack)
                for start, size in parts:
                    assert self._aside is not None
                    self._aside.seek(start)
                    target.write(self._aside.read(size))
