"""Runs come to an end, and say why, where a rank or the user's own objects do not."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from spark_strategy import Launcher, MultiWorker, get_context
from spark_strategy.errors import WorkerError

PROGRAM = Path(__file__).parent / "programs" / "hangs_at_start.py"
DEADLINE_S = 300

pytestmark = [pytest.mark.faults, pytest.mark.timeout(DEADLINE_S + 20)]


def test_a_rank_that_hangs_before_the_meeting_is_named() -> None:
    """With ``timeout_s=None``, soon after ``start_timeout_s``; its job is ended."""
    done = subprocess.run(
        [sys.executable, PROGRAM],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])

    assert found["error"] == "DeadlineError", found
    assert found["text"].startswith("worker:1 (rank 1) on an executor that did not say which had ")
    assert "start_timeout_s=20" in found["text"]
    assert "worker:0 on " in found["text"]
    assert found["active"] == []


@pytest.mark.usefixtures("leaves_nothing")
def test_an_exception_whose_text_never_comes_is_told_without_it(spark: SparkSession) -> None:
    """Its class and its frames, and whoever waits for the rank in a collective is ended."""

    def train() -> None:
        class Blocks(Exception):  # noqa: N818
            def __str__(self) -> str:
                threading.Event().wait()
                return ""

        if get_context().rank == 1:
            raise Blocks
        while True:
            time.sleep(1.0)

    with pytest.raises(WorkerError) as caught:
        Launcher(MultiWorker(2), spark=spark, logs=None).run(train)

    assert str(caught.value).startswith("worker:1 (rank 1) on ")
    assert "Blocks (its own text could not be had" in str(caught.value)
    assert "raise Blocks" in str(caught.value)
