"""Every row once, in as few steps as there can be, whenever the counts become known."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spark_strategy.data.steps import Shard, Steps, settled

COUNTS = st.lists(st.integers(0, 60), min_size=1, max_size=5)


def epoch(rows: list[int], global_batch: int, *, drop_remainder: bool = False) -> list[list[int]]:
    """Each step's rows by rank, all counts known."""
    shards = [Shard(count, complete=True) for count in rows]
    runs = settled(shards, global_batch, used=[0] * len(rows), drop_remainder=drop_remainder)
    return [list(run.sizes) for run in runs for _ in range(run.count)]


@given(COUNTS, st.integers(5, 40))
def test_every_row_is_used_once_in_the_fewest_steps(rows: list[int], global_batch: int) -> None:
    """ceil(rows / global batch) steps; all but the last are full."""
    steps = epoch(rows, global_batch)
    assert len(steps) == math.ceil(sum(rows) / global_batch)
    assert [sum(column) for column in zip(*steps, strict=True)] == (rows if any(rows) else [])
    assert all(sum(step) == global_batch for step in steps[:-1])


@given(COUNTS, st.integers(5, 40))
def test_a_rank_sits_out_only_when_its_rows_have_run_out(rows: list[int], batch: int) -> None:
    """Empty local batches come last."""
    for column in zip(*epoch(rows, batch), strict=True):
        empty = column.index(0) if 0 in column else len(column)
        assert not any(column[empty:])


@given(COUNTS, st.integers(5, 40), st.data())
def test_what_is_known_when_does_not_matter(
    rows: list[int], batch: int, data: st.DataObject
) -> None:
    """An observer who learns the counts bit by bit, in any order, settles the same steps."""
    known = [Shard()] * len(rows)
    used = [0] * len(rows)
    seen: list[list[int]] = []
    while True:
        for run in settled(known, batch, used=used):
            seen += [list(run.sizes)] * run.count
            used = [u + run.count * size for u, size in zip(used, run.sizes, strict=True)]
        assert all(u <= shard.rows for u, shard in zip(used, known, strict=True))
        if all(shard.complete for shard in known):
            break
        rank = data.draw(st.sampled_from([r for r, one in enumerate(known) if not one.complete]))
        arrived = data.draw(st.integers(known[rank].rows, rows[rank]))
        complete = arrived == rows[rank] and data.draw(st.booleans())
        if arrived == known[rank].rows and not complete:
            arrived, complete = rows[rank], True
        known[rank] = Shard(arrived, complete)
    assert seen == epoch(rows, batch)


def test_equal_shards_are_one_run() -> None:
    """A million steps are not a million objects."""
    shards = [Shard(64_000_000, complete=True)] * 2
    assert list(settled(shards, 128, used=[0, 0])) == [Steps(1_000_000, (64, 64))]


def test_a_rank_without_rows_holds_nobody_back() -> None:
    """The others make up for it from the first step on."""
    assert epoch([0, 20], 8) == [[0, 8], [0, 8], [0, 4]]


def test_nothing_is_settled_before_a_rank_is_heard_of() -> None:
    """It might have rows."""
    assert not list(settled([Shard(100, complete=True), Shard()], 8, used=[0, 0]))


@pytest.mark.parametrize(("rows", "steps"), [([9, 7], 2), ([9, 8], 2), ([4, 3], 0)])
def test_drop_remainder_leaves_out_the_smaller_last_step(rows: list[int], steps: int) -> None:
    """And nothing else."""
    assert len(epoch(rows, 8, drop_remainder=True)) == steps
