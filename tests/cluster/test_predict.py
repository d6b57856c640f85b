"""``predict`` on executors that are processes of their own: classic sessions, and Connect."""

from __future__ import annotations

import contextlib
import os

import psutil
import pytest
from site_of_processes import Site, Target, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


@pytest.mark.parametrize("kind", ["standalone", "connect"])
def test_rows_are_scored_by_one_model_per_executor(
    request: pytest.FixtureRequest, kind: str
) -> None:
    """In order and with Keras's numbers, in SQL too; afterwards nothing is left."""
    target: Target = request.getfixturevalue(kind)
    session = "connect" if kind == "connect" else "classic"
    answer = target.site.program("scored", session, target.url).answer(250)
    assert answer["ids"]
    assert answer["off"] < 1e-6
    assert answer["sql"] < 1e-6
    assert answer["models"] == [1, 1]
    assert answer["empty"] == ["id", "x", "a", "prediction"]
    wait_until(lambda: not left(target.site), 60, f"gone: {left(target.site)}")


def left(site: Site) -> list[str]:
    """Model servers that live, and their folders and locks."""
    # os.walk, not rglob: folders go meanwhile.
    names = [one for _, folders, files in os.walk(site.root) for one in (*folders, *files)]
    found = [name for name in names if name.startswith("spark_strategy_model-")]
    for process in site.processes():
        with contextlib.suppress(psutil.Error):
            if "spark_strategy.worker.serve" in process.cmdline():
                found.append(str(process.pid))
    return found
