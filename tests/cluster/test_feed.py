"""DataFrames on executors that are processes of their own: classic sessions, and Connect."""

from __future__ import annotations

import pytest
from site_of_processes import Target

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("leaves_nothing_here"),
]


@pytest.mark.parametrize(("kind", "ranks"), [("standalone", 3), ("connect", 2)])
def test_rows_are_seen_once_and_fit_trains(
    request: pytest.FixtureRequest, kind: str, ranks: int
) -> None:
    """After a shuffle, by any executor; several DataFrames at once; a bad row is named.

    One rank alone gets them in their order.
    """
    target: Target = request.getfixturevalue(kind)
    session = "connect" if kind == "connect" else "classic"
    answer = target.site.program("fed", session, target.url, ranks).answer(250)

    for epoch in range(2):
        by_rank = [rank[epoch] for rank in answer["epochs"]]
        assert [len(batches) for batches in by_rank] == [16] * ranks
        seen = [id_ for batches in by_rank for batch in batches for id_ in batch]
        assert sorted(seen) == list(range(1000))
    assert sum(answer["rows"]) == 1100
    assert max(answer["rows"]) - min(answer["rows"]) < 20
    assert answer["slope"] == pytest.approx(3.0, abs=0.05)
    assert answer["steps"] == 25
    assert "Column 'id'" in answer["refused"]
    in_order = [id_ for batch in answer["in order"] for id_ in batch]
    assert in_order == list(range(999, -1, -1))
