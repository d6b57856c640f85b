"""The spool's two ends, and what a rank may read while rows still arrive."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spark_strategy.data.spool import SpoolReader, SpoolWriter
from spark_strategy.data.steps import Shard
from spark_strategy.worker.grants import Cut, Grant, Grants, Waits


def written(path: Path, blocks: list[int], *, complete: bool = True) -> SpoolWriter:
    """A spool whose rows are numbered through, eight bytes each."""
    path.mkdir()
    writer = SpoolWriter(path)
    first = 0
    for rows in blocks:
        writer.write(rows, [np.arange(first, first + rows, dtype=np.int64)])
        first += rows
    if complete:
        writer.end()
    return writer


def rows_of(grant: Grant) -> list[int]:
    """The numbers of a grant's rows, in the order they would be read."""
    found: list[int] = []
    for path, (first, end) in zip(grant.paths, grant.bounds, strict=True):
        found += np.frombuffer(Path(path).read_bytes(), np.int64)[first:end].tolist()
    return found


def cut(global_batch: int, **changes: object) -> Cut:
    """Plain batches, unless changed."""
    plain = {"drop_remainder": False, "replicas": 1, "shuffled": False, "seed": 1}
    return Cut(global_batch=global_batch, **{**plain, **changes})  # type: ignore[arg-type]


def test_a_reader_sees_whole_blocks_only_and_all_of_them(tmp_path: Path) -> None:
    """Also those that are finished after it has begun."""
    writer = written(tmp_path / "s", [3], complete=False)
    reader = SpoolReader(tmp_path / "s")
    reader.refresh()
    assert (reader.rows, reader.complete) == (3, False)
    with (tmp_path / "s" / "manifest").open("a") as manifest:
        manifest.write("4 3")  # a line on its way
    reader.refresh()
    assert reader.rows == 3
    with (tmp_path / "s" / "manifest").open("a") as manifest:
        manifest.write("2\nend\n")
    reader.refresh()
    assert (reader.rows, reader.complete, len(reader.entries)) == (7, True, 2)
    writer.close()


def test_an_epoch_is_every_row_once_in_order(tmp_path: Path) -> None:
    """Blocks and steps need not have the same borders."""
    written(tmp_path / "s", [5, 1, 7]).close()
    peers = [Shard(13, complete=True), Shard(4, complete=True)]
    grants = Grants(tmp_path / "s", 0, lambda: peers, cut(6), Waits())
    for _ in range(2):
        (grant,) = grants.epoch()
        assert rows_of(grant) == list(range(13))
        assert grant.sizes.tolist() == [3, 5, 5]
        assert grant.empty == 0


def test_a_rank_without_rows_is_granted_empty_batches(tmp_path: Path) -> None:
    """It takes part in every step."""
    written(tmp_path / "s", []).close()
    peers = [Shard(13, complete=True), Shard(0, complete=True)]
    (grant,) = Grants(tmp_path / "s", 1, lambda: peers, cut(6), Waits()).epoch()
    assert (rows_of(grant), grant.sizes.tolist(), grant.empty) == ([], [], 3)


def test_training_begins_while_rows_arrive(tmp_path: Path) -> None:
    """A grant ends where a rank's rows end for now; together they make the same epoch."""
    writer = written(tmp_path / "s", [10], complete=False)
    peers = [Shard(), Shard(7)]
    waits = Waits()
    epoch = Grants(tmp_path / "s", 0, lambda: peers, cut(4), waits).epoch()
    first = next(epoch)
    assert first.sizes.tolist() == [2, 2, 2]  # the peer has no more yet
    writer.write(3, [np.arange(10, 13)])
    writer.end()
    writer.close()
    peers[1] = Shard(7, complete=True)
    rest = list(epoch)
    assert rows_of(first) + [row for grant in rest for row in rows_of(grant)] == list(range(13))
    assert [size for grant in rest for size in grant.sizes] == [3, 4]


def test_a_shuffled_epoch_has_other_blocks_first(tmp_path: Path) -> None:
    """The same seed gives the same order, another epoch another."""
    written(tmp_path / "s", [1] * 40).close()
    peers = [Shard(40, complete=True)]

    def orders(seed: int) -> list[list[int]]:
        grants = Grants(tmp_path / "s", 0, lambda: peers, cut(8, shuffled=True, seed=seed), Waits())
        return [[row for grant in grants.epoch() for row in rows_of(grant)] for _ in range(2)]

    first, second = orders(1)
    assert sorted(first) == sorted(second) == list(range(40))
    assert first != second != list(range(40))
    assert orders(1) == [first, second]
    assert orders(2) != [first, second]


def test_several_replicas_get_a_batch_each(tmp_path: Path) -> None:
    """A rank's share of a step, split once more."""
    written(tmp_path / "s", [13]).close()
    peers = [Shard(13, complete=True)]
    (grant,) = Grants(tmp_path / "s", 0, lambda: peers, cut(6, replicas=2), Waits()).epoch()
    assert grant.sizes.tolist() == [3, 3, 3, 3, 1]
    assert grant.empty == 1


def test_a_write_that_fails_is_not_in_the_manifest(tmp_path: Path) -> None:
    """A block that is not whole is never read."""
    writer = written(tmp_path / "s", [2], complete=False)
    with pytest.raises(TypeError):
        writer.write(5, [b"the first part", "no bytes"])
    writer.close()
    reader = SpoolReader(tmp_path / "s")
    reader.refresh()
    assert reader.rows == 2
