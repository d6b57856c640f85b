"""The spool of one shard: both ends of its protocol.

A folder with one file per block of rows, numbered in the order of arrival, and a ``manifest``
with one line per finished block: its rows and its bytes. The line is written after the block
is whole, so whatever the manifest names can be read. A last line ``end`` says that no more
will come. Blocks stay until the folder is removed: later epochs read them again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

MANIFEST: Final = "manifest"
END: Final = "end"
BLOCK_DIGITS: Final = 8
BLOCK_SUFFIX: Final = ".block"


@dataclass(frozen=True, slots=True)
class Entry:
    """One block in a manifest.

    Attributes:
        path: its file.
        rows: rows in it.
    """

    path: str
    rows: int


class SpoolWriter:
    """Writes blocks; one process, one thread.

    Args:
        path: an existing empty folder.

    Attributes:
        rows: rows written so far.
        spool_bytes: bytes written so far.
        complete: whether :meth:`end` has been called.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._manifest = (path / MANIFEST).open("a", encoding="ascii")
        self._blocks = 0
        self.rows = 0
        self.spool_bytes = 0
        self.complete = False

    def write(self, rows: int, parts: Iterable[Any]) -> None:
        """Append one block.

        Args:
            rows: rows in it; more than 0.
            parts: buffers, written one after the other.

        Raises:
            OSError: the disk is full, or the folder is gone.
        """
        with block_path(self._path, self._blocks).open("wb", buffering=0) as file:
            size = sum(_write_all(file, part) for part in parts)
        self._say(f"{rows} {size}")
        self._blocks += 1
        self.rows += rows
        self.spool_bytes += size

    def end(self) -> None:
        """No more blocks will come."""
        self._say(END)
        self.complete = True

    def close(self) -> None:
        """Give the manifest's file back."""
        self._manifest.close()

    def _say(self, line: str) -> None:
        self._manifest.write(f"{line}\n")
        self._manifest.flush()


class SpoolReader:
    """Follows a manifest, also while it is written. Not for use by two threads at once.

    Args:
        path: the spool's folder.

    Attributes:
        entries: the blocks known so far.
        rows: rows in them.
        complete: whether these are all.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self.entries: list[Entry] = []
        self.rows = 0
        self.complete = False

    def refresh(self) -> None:
        """Take in what the writer has finished meanwhile."""
        if self.complete:
            return
        with (self._path / MANIFEST).open("rb") as file:
            file.seek(self._offset)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._offset += len(whole) + len(newline)
        for line in whole.decode("ascii").splitlines():
            self._take(line)

    def _take(self, line: str) -> None:
        if line == END:
            self.complete = True
            return
        rows = int(line.split(maxsplit=1)[0])
        self.entries.append(Entry(str(block_path(self._path, len(self.entries))), rows))
        self.rows += rows


def block_path(folder: Path, number: int) -> Path:
    """The file of a spool's block."""
    return folder / f"{number:0{BLOCK_DIGITS}d}{BLOCK_SUFFIX}"


def _write_all(file: Any, part: Any) -> int:
    view = memoryview(part).cast("B")
    done = 0
    while done < len(view):
        done += file.write(view[done:])
    return done
