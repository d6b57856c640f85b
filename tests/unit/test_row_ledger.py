"""What ranks learn of each other's rows: both ends, without a network."""

from __future__ import annotations

import random
import secrets
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spark_strategy.data.row_ledger import Arrived, RowLedger, with_news
from spark_strategy.data.steps import Shard, settled

ROWS = st.lists(st.integers(0, 40), min_size=1, max_size=5)


@given(ROWS, st.integers(5, 30), st.integers(0, 2**32))
def test_all_ranks_settle_the_same_steps_whenever_news_reach_them(
    rows: list[int], batch: int, seed: int
) -> None:
    """Each knows its own rows exactly, and of the others what the hub said when it said it."""
    ranks, chance = len(rows), random.Random(seed)
    ledger = RowLedger(ranks)
    observers = [Observer(rank, ranks) for rank in range(ranks)]
    counts, complete = [0] * ranks, [False] * ranks
    reports = [rank for rank in range(ranks) for _ in range(4)]
    chance.shuffle(reports)
    for number, rank in enumerate(reports):
        complete[rank] = rank not in reports[number + 1 :]
        counts[rank] = rows[rank] if complete[rank] else chance.randint(counts[rank], rows[rank])
        ledger.record(rank, {"train": [counts[rank], complete[rank]]})
        for observer in observers:
            if chance.random() < 0.5:
                observer.hear(ledger)
            observer.settle(batch, Shard(counts[observer.rank], complete[observer.rank]))
    for observer in observers:
        observer.hear(ledger)
        observer.settle(batch, Shard(rows[observer.rank], complete=True))
    shards = [Shard(count, complete=True) for count in rows]
    runs = settled(shards, batch, used=[0] * ranks)
    expected = [list(run.sizes) for run in runs for _ in range(run.count)]
    assert all(observer.steps == expected for observer in observers)


class Observer:
    """One rank, and the steps it has taken."""

    def __init__(self, rank: int, ranks: int) -> None:
        self.rank = rank
        self.steps: list[list[int]] = []
        self._used = [0] * ranks
        self._ranks = ranks
        self._known: dict[str, Arrived] = {}
        self._position = 0

    def hear(self, ledger: RowLedger) -> None:
        """What is new for it."""
        self._known = with_news(self._known, ledger.news(self._position), self._ranks)
        self._position = ledger.position[0]

    def settle(self, batch: int, own: Shard) -> None:
        """Take the steps that follow."""
        if not self._known:
            return
        shards = self._known["train"].shards
        shards[self.rank] = own
        for run in settled(shards, batch, used=self._used):
            self.steps += [list(run.sizes)] * run.count
            sizes = [run.count * size for size in run.sizes]
            self._used = [a + b for a, b in zip(self._used, sizes, strict=True)]


def test_a_final_count_is_sent_once_and_the_rest_is_one_number() -> None:
    """So what a rank hears does not depend on how long the others are fed."""
    ledger = RowLedger(4000)
    for rank in range(4000):
        ledger.record(rank, {"train": [1_234_567 + rank % 2, rank < 3999]})
    assert len(ledger.news(0)) < 20_000
    known = with_news({}, ledger.news(0), 4000)
    assert known["train"].least == 1_234_568
    assert len(known["train"].final) == 3999
    ledger.record(3999, {"train": [9_999_999, False]})
    assert len(ledger.news(ledger.position[0])) < 100
    after = with_news(known, ledger.news(ledger.position[0]), 4000)
    assert after["train"].final == known["train"].final
    assert after["train"].least == 9_999_999
    assert not after["train"].complete


def test_ranks_that_get_no_rows_are_not_waited_for() -> None:
    """An evaluator may be gone long before the others have theirs."""
    ledger = RowLedger(3, {2})
    ledger.record(2, {"train": [5, False]})
    ledger.record(0, {"train": [5, True]})
    ledger.record(1, {"train": [6, True]})
    (arrived,) = with_news({}, ledger.news(0), 3).values()
    assert arrived.complete
    assert arrived.shards == [Shard(5, True), Shard(6, True), Shard(0, True)]


@pytest.mark.parametrize(
    "fields",
    [
        7,
        [],
        {"train": 7},
        {"train": [1]},
        {"train": [1.5, True]},
        {"train": [True, True]},
        {"train": [-1, False]},
        {"train": [8, "yes"]},
        {"train": [3, False]},
        {"other": [9, True], "train": [3, True]},
    ],
)
def test_counts_that_make_no_sense_leave_the_ledger_as_it_is(fields: Any) -> None:
    """The last two: rows do not become fewer."""
    ledger = RowLedger(2)
    ledger.record(0, {"train": [4, False]})
    before = ledger.position
    with pytest.raises(ValueError, match=r"row|rank 0 had 4 rows"):
        ledger.record(0, fields)
    assert ledger.position == before


def test_what_is_no_news_is_refused() -> None:
    """Whatever a hub of another version says."""
    for text in (b"", b"x", b"x\x9c", secrets.token_bytes(50)):
        with pytest.raises(ValueError, match=r"cannot be unpacked|Expecting value"):
            with_news({}, text, 2)
