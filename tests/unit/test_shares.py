"""Shares of files: everything once, nobody idle, even enough, the same for everybody."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spark_strategy.data.paths import FileRoot
from spark_strategy.data.shares import File, FilePart, shares

sizes = st.lists(st.integers(0, 10_000), max_size=30)


def files_of(sizes: list[int]) -> list[File]:
    """A file of each size; a record for each byte."""
    return [File(f"part-{number:02d}", size) for number, size in enumerate(sizes)]


@given(sizes, st.integers(1, 9))
def test_every_record_is_in_one_share(sizes: list[int], ranks: int) -> None:
    """Whole files and remainders together hold each record of each file once."""
    seen: Counter[tuple[str, int]] = Counter()
    total = dict(enumerate(sizes))
    for own in shares(files_of(sizes), ranks):
        for part in own:
            size = total[int(part.path[-2:])]
            numbers = range(part.part, size, part.parts)
            assert part.records(size) == len(numbers)
            seen.update((part.path, number) for number in numbers)
    assert len(seen) == sum(sizes)
    assert not seen or set(seen.values()) == {1}


@given(sizes, st.integers(1, 9))
def test_shares_are_even(sizes: list[int], ranks: int) -> None:
    """No rank has more than five quarters of the fair share, and the order does not matter."""
    files = files_of(sizes)
    dealt = shares(files, ranks)
    assert dealt == shares(files[::-1], ranks)
    fair = sum(sizes) / ranks
    for own in dealt:
        assert sum(sizes[int(p.path[-2:])] / p.parts for p in own) <= 1.25 * fair + 1e-6


def test_many_files_are_read_once_and_few_by_all() -> None:
    """Records are only split where files alone would leave a rank behind."""
    assert {part.parts for own in shares(files_of([100] * 8), 2) for part in own} == {1}
    assert shares([File("one", 10)], 2) == ((FilePart("one", 0, 2),), (FilePart("one", 1, 2),))
    assert all(len(own) == 1 for own in shares(files_of([100, 101, 99, 100]), 4))


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("/data/x", "hdfs://nn:8020/data/x"),
        ("data/x-*", "hdfs://nn:8020/user/ada/data/x-*"),
        ("hdfs:///data/x", "hdfs://nn:8020/data/x"),
        ("hdfs://other/data/x", "hdfs://other/data/x"),
        ("s3://bucket/x", "s3://bucket/x"),
        ("file:///data/x", "/data/x"),
        ("file:/data/x", "/data/x"),
    ],
)
def test_paths_are_on_the_default_filesystem(path: str, uri: str) -> None:
    """As Hadoop resolves them."""
    assert FileRoot("hdfs://nn:8020", "hdfs://nn:8020/user/ada").resolved(path) == uri


def test_local_paths_stay_plain() -> None:
    """On the local disk TensorFlow's own files serve."""
    root = FileRoot(home="file:///home/ada")
    assert root.resolved("/data/x") == "/data/x"
    assert root.resolved("data/x") == "/home/ada/data/x"
    assert FileRoot().resolved("data/x") == "data/x"
