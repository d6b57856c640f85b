"""What all tests share: Java, the right Python for Spark, and nothing left behind."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import settings
from pyspark import SparkContext, SparkFiles
from pyspark.sql import SparkSession

from spark_strategy.console.preflight import java_problem

_LEAVE_S = 15.0


def pytest_configure() -> None:
    """Without Java, one line instead of an error per test; examples may take their time."""
    # How long one takes says how busy the machine is. A test's own timeout ends what hangs.
    settings.register_profile("busy machine", deadline=None)
    settings.load_profile("busy machine")
    if problem := java_problem():
        pytest.exit(problem, returncode=2)


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--connect`` runs the tests with a Spark Connect session in the place of a classic one."""
    parser.addoption("--connect", action="store_true", help="use a Spark Connect session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what Spark Connect does not have."""
    if config.getoption("--connect"):
        for item in items:
            if item.get_closest_marker("classic"):
                item.add_marker(pytest.mark.skip(reason="Spark Connect has no RDDs and no JVM"))


@pytest.fixture(scope="session")
def spark(request: pytest.FixtureRequest) -> Iterator[SparkSession]:
    """A session on local[2], as a user would have it; with ``--connect`` a client of one."""
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    session = _connected() if request.config.getoption("--connect") else _classic()
    SparkContext.getOrCreate().setLogLevel("OFF")  # that of the server is in this process as well
    yield session
    session.stop()


def _connected() -> SparkSession:
    os.environ["SPARK_TESTING"] = "1"  # the server takes a free port
    return SparkSession.builder.remote("local[2]").getOrCreate()


def _classic() -> SparkSession:
    return (
        SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .getOrCreate()
    )


@pytest.fixture
def leaves_nothing(spark: SparkSession) -> Iterator[None]:
    """After the test, no child process, listening port or temporary file of a run remains."""
    yield
    root = SparkFiles.getRootDirectory()
    deadline = time.monotonic() + _LEAVE_S
    while (left := [*run_processes(root), *run_folders(root)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left


def run_processes(root: str) -> list[str]:
    """Guards and children of this session's runs; their ports end with them."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if f"{root}/" in line and "/spark_strategy-" in line:
            found.append(f"{process.pid} {line}")
    return found


def run_folders(root: str) -> list[str]:
    """Children's folders of this session's runs."""
    return [str(path) for path in Path(root).glob("**/spark_strategy-*")]
