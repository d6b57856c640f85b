"""Which rank reads which files, or which part of a file; decided by size alone.

The theory. Whole files are dealt out, the largest first, each to the rank that has least so far.
If one rank then has clearly more than its fair share, its largest file is taken by all ranks
together instead: each reads it and keeps every n-th record. That is repeated until the shares are
even enough, which at the latest they are when all files are shared. So fewer files than ranks leave
no rank idle, and many files of about one size are read once each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

# A rank may have so many times the fair share before files are shared.
_UNEVEN: Final = 1.25


@dataclass(frozen=True, slots=True, order=True)
class File:
    """A file (or another unit that is read in one piece).

    Attributes:
        path: its URI or path.
        size: bytes, or whatever else measures the work.
    """

    path: str
    size: int


@dataclass(frozen=True, slots=True)
class FilePart:
    """What one rank reads of one file.

    Attributes:
        path: the file's URI or path.
        part: of its records, those whose number leaves this remainder...
        parts: ...when divided by this. 1 for the whole file.
    """

    path: str
    part: int = 0
    parts: int = 1

    def records(self, total: int) -> int:
        """How many of the file's ``total`` records that is."""
        return max(0, -(-(total - self.part) // self.parts))


def shares(files: Sequence[File], ranks: int) -> tuple[tuple[FilePart, ...], ...]:
    """Each rank's parts, in rank order, sorted by path; together every record once.

    The order of ``files`` makes no difference. Files of no size are left out.

    Args:
        files: all files; no two of one path.
        ranks: how many readers there are; at least 1.
    """
    whole = sorted((file for file in files if file.size), key=lambda file: (-file.size, file.path))
    common: list[File] = []
    fair = sum(file.size for file in whole) / ranks
    while True:
        dealt = _dealt(whole, ranks)
        shared = sum(file.size for file in common) / ranks
        fullest = max(dealt, key=lambda own: sum(file.size for file in own))
        if not fullest or sum(file.size for file in fullest) + shared <= _UNEVEN * fair:
            break
        common.append(fullest[0])
        whole.remove(fullest[0])
    return tuple(_parts(own, common, rank, ranks) for rank, own in enumerate(dealt))


def records_of(dealt: Sequence[Sequence[FilePart]], counts: Mapping[str, int]) -> list[int]:
    """How many records each reader has, from how many each file has by its path."""
    return [sum(part.records(counts[part.path]) for part in parts) for parts in dealt]


def _dealt(files: Sequence[File], ranks: int) -> list[list[File]]:
    """Whole files, largest first, each to the first of the ranks that have least."""
    dealt: list[list[File]] = [[] for _ in range(ranks)]
    loads = [0] * ranks
    for file in files:
        rank = loads.index(min(loads))
        dealt[rank].append(file)
        loads[rank] += file.size
    return dealt


def _parts(
    own: Sequence[File], common: Sequence[File], rank: int, ranks: int
) -> tuple[FilePart, ...]:
    parts = [FilePart(file.path) for file in own]
    parts += [FilePart(file.path, rank, ranks) for file in common]
    return tuple(sorted(parts, key=lambda part: part.path))
