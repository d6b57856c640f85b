"""A session of the library's own, and one session that is used again and again."""

from __future__ import annotations

import pytest
from site_of_processes import Site

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("leaves_nothing_here")]


@pytest.mark.timeout(120)
def test_without_a_session_a_local_one_is_made_and_named(site: Site) -> None:
    """Its slots suffice, its Python is the driver's, the log says so, and it stays usable."""
    program = site.program("no_session")
    answer = program.answer(110)

    assert answer["before"]
    assert answer["values"] == [[0, answer["driver"]], [1, answer["driver"]]]
    slots = int(answer["master"].removeprefix("local[").removesuffix("]"))
    assert slots >= 16, "a larger run may come after a small one"
    assert answer["rows"] == 5
    assert "No active SparkSession: starting one on local[" in program.err


@pytest.mark.timeout(400)
def test_many_runs_in_one_session_grow_nothing(site: Site) -> None:
    """Every run succeeds; processes, descriptors, threads and files are those of the second run."""
    history = site.program("many_runs", 8).answer(380)

    assert len(history) == 8
    second, last = history[1], history[-1]
    assert last["processes"] == second["processes"]
    assert last["driver fds"] <= second["driver fds"] + 2
    assert last["driver threads"] <= second["driver threads"] + 2
    assert last["worker fds"] <= second["worker fds"] + 2
    assert last["temporary"] <= second["temporary"] + 5
