"""A file that TensorFlow writes; ``bridge.c`` collects small pieces."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from spark_strategy.filesystem.places import Place


class Writer:
    """One open file; by one thread at a time.

    Args:
        place: the file.
        append: go on at the end of what is there, instead of replacing it.

    Attributes:
        position: bytes that were there before.

    Raises:
        OSError: it cannot be opened; also what else ``fs.open`` raises.
    """

    def __init__(self, place: Place, *, append: bool) -> None:
        self._place = place
        self._file, self.position = place.call(lambda: _opened(place, append=append))

    def write(self, data: bytes) -> None:
        """Append ``data``."""
        self._place.call(lambda: _write_all(self._file, data))

    def flush(self) -> None:
        """Let readers see what was written, where the filesystem can: object stores cannot."""
        self._place.call(self._flush)

    def sync(self) -> None:
        """The same, and on the disk."""
        self._place.call(self._sync)

    def close(self) -> None:
        """The file is complete."""
        self._place.call(self._file.close)
        self._place.fs.invalidate_cache()

    def _flush(self) -> None:
        # HDFS shows readers what has been synced, and no less.
        getattr(self._file, "hsync", self._file.flush)()

    def _sync(self) -> None:
        self._flush()
        with contextlib.suppress(OSError, AttributeError):
            os.fsync(self._file.fileno())


def _opened(place: Place, *, append: bool) -> tuple[Any, int]:
    fs, path = place.fs, place.path
    size = 0
    with contextlib.suppress(FileNotFoundError):
        found = fs.info(path)
        if found["type"] == "directory":
            raise IsADirectoryError(f"{place.uri} is a directory")
        size = int(found["size"] or 0)
        if append:
            return fs.open(path, "ab"), size
    return fs.open(path, "wb"), 0


def _write_all(file: Any, data: bytes) -> None:
    view = memoryview(data)
    while view:
        # Raw files may take less than they are given; others return None or all.
        taken = file.write(view)
        view = view[taken if isinstance(taken, int) else len(view) :]
