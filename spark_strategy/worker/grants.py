"""Which of this rank's rows make up which steps, as far as it is settled."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from spark_strategy.data.spool import Entry, SpoolReader
from spark_strategy.data.steps import Shard, Steps, settled

_POLL_S: Final = 0.01


@dataclass(frozen=True, slots=True)
class Cut:
    """How an epoch is cut into steps.

    Attributes:
        global_batch: rows of a step over all replicas.
        drop_remainder: leave out a last step that is smaller.
        replicas: replicas of this rank, each of which gets a batch of its own.
        shuffled: whether the order of blocks changes from epoch to epoch.
        seed: of that order.
    """

    global_batch: int
    drop_remainder: bool
    replicas: int
    shuffled: bool
    seed: int


@dataclass(frozen=True, slots=True)
class Grant:
    """A stretch of this rank's rows, and the batches it is cut into.

    Attributes:
        paths: block files, in the order to read them.
        bounds: first row and the row after the last one, in each block, ``[blocks, 2]``.
        sizes: rows of each batch, in order; they add up to the rows of the blocks.
        empty: batches without rows that follow.
        seed: of the shuffle within windows, ``[2]``.
    """

    paths: npt.NDArray[np.object_]
    bounds: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    empty: int
    seed: npt.NDArray[np.int64]


@dataclass
class Waits:
    """Seconds that a rank's readers stood where no row had arrived yet."""

    seconds: float = 0.0


@dataclass
class Grants:
    """The epochs of one dataset, one after the other.

    Attributes:
        spool: the folder with this rank's rows.
        rank: this rank.
        peers: every rank's rows as far as known, in rank order; empty when nothing is.
        cut: how to cut an epoch.
        waits: where waiting is counted.
    """

    spool: Path
    rank: int
    peers: Callable[[], Sequence[Shard]]
    cut: Cut
    waits: Waits
    _epochs: Iterator[int] = field(default_factory=itertools.count)

    def epoch(self) -> Iterator[Grant]:
        """The next epoch's grants; blocks while nothing more is settled."""
        cut, number = self.cut, next(self._epochs)
        random = np.random.default_rng([cut.seed, self.rank, number])
        reader = SpoolReader(self.spool)
        used: list[int] = []
        before: list[Shard] = []
        while True:
            reader.refresh()
            shards = self._shards(reader)
            used = used or [0] * len(shards)
            is_new, before = shards != before, shards
            runs = self._settled(shards, used) if is_new else []
            if runs:
                yield self._grant(reader.entries, runs, used[self.rank], random)
                used = [
                    rows + sum(run.count * run.sizes[rank] for run in runs)
                    for rank, rows in enumerate(used)
                ]
            elif shards and all(shard.complete for shard in shards):
                return
            else:
                time.sleep(_POLL_S)
                self.waits.seconds += _POLL_S

    def _settled(self, shards: Sequence[Shard], used: Sequence[int]) -> list[Steps]:
        cut = self.cut
        return list(settled(shards, cut.global_batch, used=used, drop_remainder=cut.drop_remainder))

    def _shards(self, reader: SpoolReader) -> list[Shard]:
        """What is known; of this rank, what stands in the spool."""
        shards = list(self.peers())
        if shards:
            shards[self.rank] = Shard(reader.rows, reader.complete)
        return shards

    def _grant(
        self,
        entries: Sequence[Entry],
        runs: Sequence[Steps],
        first: int,
        random: np.random.Generator,
    ) -> Grant:
        sizes = np.concatenate(
            [np.tile(_split(run.sizes[self.rank], self.cut.replicas), run.count) for run in runs]
        )
        full = len(np.trim_zeros(sizes, "b"))
        paths, bounds = _stretch(entries, first, first + int(sizes.sum()))
        if self.cut.shuffled:
            order = random.permutation(len(paths))
            paths, bounds = paths[order], bounds[order]
        return Grant(paths, bounds, sizes[:full], len(sizes) - full, random.integers(2**62, size=2))


def _split(rows: int, replicas: int) -> npt.NDArray[np.int64]:
    share, extra = divmod(rows, replicas)
    return np.asarray([share + (place < extra) for place in range(replicas)], np.int64)


def _stretch(
    entries: Sequence[Entry], first: int, end: int
) -> tuple[npt.NDArray[np.object_], npt.NDArray[np.int64]]:
    """The blocks that hold rows ``first`` to ``end``, and which of their rows those are."""
    stops = np.cumsum([entry.rows for entry in entries], dtype=np.int64)
    starts = stops - np.asarray([entry.rows for entry in entries], np.int64)
    inside = np.flatnonzero((starts < end) & (stops > first))
    bounds = np.stack([np.maximum(starts, first), np.minimum(stops, end)], axis=1)[inside]
    paths = np.asarray([entries[place].path for place in inside.tolist()], np.object_)
    return paths, bounds - starts[inside, None]
