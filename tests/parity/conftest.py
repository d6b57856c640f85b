"""Fixtures of the parity suite: one pool of processes at a time, for the whole session."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Worker processes import the cases by name, and inherit this path from multiprocessing's spawn.
sys.path.insert(0, str(Path(__file__).parent))

import harness


@pytest.fixture(scope="session")
def pools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[harness.Pools]:
    """The pools, closed at the end of the session whatever happened."""
    made = harness.Pools(tmp_path_factory.mktemp("parity"))
    yield made
    made.close()


@pytest.fixture(scope="session", params=["keras", "tf_keras"])
def flavour(request: pytest.FixtureRequest) -> str:
    """Which Keras the processes run; session scope, so that pytest groups the tests by it."""
    return str(request.param)


@pytest.fixture
def keras3(flavour: str) -> str:
    """For what only Keras 3 has, or has a fault in."""
    if flavour != "keras":
        pytest.skip("concerns Keras 3 only")
    return flavour
