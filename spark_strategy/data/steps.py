"""How many rows each rank gives to each global step, so that an epoch sees every row once.

The theory. Ranks hold unequal numbers of rows, and all must take the same steps. A step takes
``global_batch`` rows: every rank that still has rows gives an equal share, and whoever runs
short gives what it has while the others make up for it. So the steps of an epoch are
``ceil(rows / global_batch)``, only the last one is smaller, and a rank takes part with no rows
only when its own have run out.

The plan is a function of the final row counts alone, yet its beginning is known early: a step
is settled as soon as each rank has either enough rows for its share or no more to come. A
rank's share never shrinks when another rank turns out to be short, so ranks that learn each
other's counts at different times settle the same steps. That is why training can start while
rows still arrive.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shard:
    """What is known of one rank's rows.

    Attributes:
        rows: how many have arrived.
        complete: whether these are all.
    """

    rows: int = 0
    complete: bool = False


@dataclass(frozen=True, slots=True)
class Steps:
    """Consecutive steps that are all alike.

    Attributes:
        count: how many.
        sizes: rows of each rank in each of them, in rank order.
    """

    count: int
    sizes: tuple[int, ...]


def settled(
    shards: Sequence[Shard],
    global_batch: int,
    *,
    used: Sequence[int],
    drop_remainder: bool = False,
) -> Iterator[Steps]:
    """The steps that follow from what is known, after those that used ``used`` rows.

    Args:
        shards: what is known of each rank's rows, in rank order.
        global_batch: rows of a step over all ranks; at least the number of ranks.
        used: rows of each rank in the steps before.
        drop_remainder: leave out a last step that is smaller.
    """
    left = [shard.rows - rows for shard, rows in zip(shards, used, strict=True)]
    while sizes := _shares(left, [shard.complete for shard in shards], global_batch):
        if drop_remainder and sum(sizes) < global_batch:
            return
        count = min(rows // size for rows, size in zip(left, sizes, strict=True) if size)
        yield Steps(count, sizes)
        left = [rows - count * size for rows, size in zip(left, sizes, strict=True)]


def _shares(left: Sequence[int], complete: Sequence[bool], wanted: int) -> tuple[int, ...]:
    """Rows of each rank in the next step; empty when it is not settled or there is none."""
    limits = [rows if end else math.inf for rows, end in zip(left, complete, strict=True)]
    sizes = [0] * len(left)
    able = [rank for rank, limit in enumerate(limits) if limit]
    while able:
        share, extra = divmod(wanted, len(able))
        asked = {rank: share + (place < extra) for place, rank in enumerate(able)}
        short = {rank for rank in able if limits[rank] < asked[rank]}
        for rank in short or able:
            sizes[rank] = left[rank] if short else asked[rank]
            wanted -= sizes[rank]
        able = [rank for rank in able if rank not in short] if short else []
    is_settled = all(size <= rows for size, rows in zip(sizes, left, strict=True))
    return tuple(sizes) if is_settled and any(sizes) else ()
