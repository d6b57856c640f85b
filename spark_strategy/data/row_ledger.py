"""What ranks must know of each other's rows, and how little of it has to be sent.

The theory. A step is settled when every rank has enough rows for its share or no more to come
(``steps.py``). So of a rank whose rows still arrive, only one thing matters to the others: that it
is not the one that has least. And of a rank that has all, its final count, which never changes.
The hub therefore sends, for each DataFrame, one number (the least that any rank still being fed
has) and each final count once. How much that is does not depend on how long the feed runs, and it
is the same for every rank, so it is encoded once.

The counts of a rank only grow, and so does the least: whoever learns it late settles the same
steps.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from spark_strategy.data.steps import Shard

# By name of the DataFrame: what one rank has.
Counts = Mapping[str, Shard]

# Ten times what 100,000 ranks with twenty DataFrames come to.
_MOST_NEWS_BYTES: Final = 512 * 2**20


@dataclass(frozen=True, slots=True)
class Arrived:
    """What is known of the rows of one DataFrame, over all ranks.

    Attributes:
        ranks: how many there are.
        least: rows that each rank still being fed has at least.
        final: rows of each rank that has all of its own, by rank.
    """

    ranks: int
    least: int = 0
    final: Mapping[int, int] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether all rows of all ranks have arrived."""
        return len(self.final) == self.ranks

    @property
    def shards(self) -> list[Shard]:
        """The same for each rank, in rank order."""
        fed = Shard(self.least)
        shards = [fed] * self.ranks
        for rank, rows in self.final.items():
            shards[rank] = Shard(rows, complete=True)
        return shards


class RowLedger:
    """The hub's knowledge of all rows.

    Args:
        ranks: how many there are.
        without: ranks that get no rows, whatever they say.
    """

    def __init__(self, ranks: int, without: Collection[int] = ()) -> None:
        self._ranks = ranks
        self._without = frozenset(without)
        # Rows by rank; infinite where they are final.
        self._rows: dict[str, list[float]] = {}
        self._final: list[tuple[str, int, int]] = []

    @property
    def position(self) -> tuple[int, tuple[tuple[str, int], ...]]:
        """How far it has come: final counts so far, and the least of each DataFrame."""
        return len(self._final), tuple(self._least().items())

    def record(self, rank: int, fields: Any) -> None:
        """Take in what a rank says it has: ``[rows, complete]`` by name.

        Raises:
            ValueError: that makes no sense, and nothing has been taken in.
        """
        if rank in self._without:
            return
        counts = _checked(fields)
        for name, (rows, _) in counts.items():
            known = self._rows[name][rank] if name in self._rows else 0
            if known is not math.inf and rows < known:
                raise ValueError(f"rank {rank} had {known} rows of {name!r}, and now {rows}")
        for name, (rows, complete) in counts.items():
            column = self._rows.get(name) or self._opened(name)
            if column[rank] is math.inf:
                continue
            column[rank] = math.inf if complete else rows
            if complete:
                self._final.append((name, rank, rows))

    def news(self, since: int) -> bytes:
        """What is new for one who knows the first ``since`` final counts."""
        final: dict[str, tuple[list[int], list[int]]] = {}
        for name, rank, rows in sorted(self._final[since:]):
            ranks, counts = final.setdefault(name, ([], []))
            ranks.append(rank)
            counts.append(rows)
        text = json.dumps({"least": self._least(), "final": final}, separators=(",", ":"))
        return zlib.compress(text.encode(), 1)

    def _least(self) -> dict[str, int]:
        least = {name: min(column) for name, column in self._rows.items()}
        return {name: 0 if rows is math.inf else int(rows) for name, rows in least.items()}

    def _opened(self, name: str) -> list[float]:
        column: list[float] = [0] * self._ranks
        self._rows[name] = column
        for rank in sorted(self._without):
            column[rank] = math.inf
            self._final.append((name, rank, 0))
        return column


def with_news(known: Mapping[str, Arrived], news: bytes, ranks: int) -> dict[str, Arrived]:
    """What a rank knows after the hub's news.

    Args:
        known: what it knew, by name of the DataFrame.
        news: of :meth:`RowLedger.news`, as the hub sent it.
        ranks: how many there are.

    Raises:
        ValueError: that is no news.
    """
    unpacker = zlib.decompressobj()
    try:
        text = unpacker.decompress(news, _MOST_NEWS_BYTES)
    except zlib.error as error:
        raise ValueError(f"news of rows cannot be unpacked: {error}") from error
    fields = json.loads(text)
    after = dict(known)
    for name, least in fields["least"].items():
        before = known.get(name) or Arrived(ranks)
        final = dict(before.final)
        if name in fields["final"]:
            final |= zip(*fields["final"][name], strict=True)
        after[name] = Arrived(ranks, least, final)
    return after


def to_json(known: Mapping[str, Arrived]) -> bytes:
    """What is known, by name of the DataFrame, for :func:`from_json`."""
    fields = {
        name: [one.ranks, one.least, [*one.final], [*one.final.values()]]
        for name, one in known.items()
    }
    return json.dumps(fields).encode()


def from_json(text: bytes) -> dict[str, Arrived]:
    """What :func:`to_json` wrote."""
    return {
        name: Arrived(ranks, least, dict(zip(final, rows, strict=True)))
        for name, (ranks, least, final, rows) in json.loads(text).items()
    }


def _checked(fields: Any) -> dict[str, tuple[int, bool]]:
    """``fields`` of a rank's message.

    Raises:
        ValueError: they are something else.
    """
    if not isinstance(fields, dict):
        raise ValueError("row counts are an object")  # noqa: TRY004 - of a message, no argument
    for name, shard in fields.items():
        match shard:
            case [int(rows), bool()] if rows >= 0 and not isinstance(rows, bool):
                continue
            case _:
                raise ValueError(f"the row count of {name!r} is [rows, complete]")
    return {name: (shard[0], shard[1]) for name, shard in fields.items()}
