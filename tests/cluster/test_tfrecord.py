"""format("tfrecord") on executors that are processes of their own, classic and Connect."""

from __future__ import annotations

from pathlib import Path

import pytest
from site_of_processes import Target

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("leaves_nothing_here"),
]


@pytest.mark.parametrize("kind", ["standalone", "connect"])
def test_files_are_written_and_read_by_executors(
    request: pytest.FixtureRequest, kind: str, tmp_path: Path
) -> None:
    """All rows come back, folders included; a column that no record holds is refused."""
    target: Target = request.getfixturevalue(kind)
    session = "connect" if kind == "connect" else "classic"
    folder = tmp_path / "files"
    answer = target.site.program("tfrecord", session, target.url, folder).answer(200)
    assert answer["schema"] == "struct<id:bigint,pair:array<bigint>,part:int>"
    assert answer["sum"] == [499500, -499500, 500]
    assert "Column 'm' is a map" in answer["refused"]
    assert not [*folder.glob("_temporary*")]
