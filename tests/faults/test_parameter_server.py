"""Parameter-server training rides out lost workers, and names a lost server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).parent / "programs" / "parameter_server.py"
DEADLINE_S = 400
KILLS, STEPS = 3, 600

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(DEADLINE_S + 20)]


@pytest.fixture(scope="module")
def answer() -> dict[str, Any]:
    """What the program saw, in a session of its own with four slots."""
    done = subprocess.run(
        [sys.executable, PROGRAM, "local[4]"],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def test_lost_workers_lose_no_step(answer: dict[str, Any]) -> None:
    """Killed in three epochs, frozen in another: each step is counted once, the driver is told."""
    assert answer["killed"] == ["SIGKILL"] * KILLS + ["SIGSTOP"]
    assert answer["counted"] == [STEPS * (epoch + 1) for epoch in range(KILLS + 2)]
    assert answer["restarts"] == [0, 0, KILLS + 1, 0]
    *killed, frozen = answer["said"]
    assert len(killed) == KILLS
    assert all("worker:1 | was killed by SIGKILL" in line for line in killed)
    assert "worker:1 | " in frozen
    assert "frozen" in frozen


def test_a_killed_server_ends_the_run_and_is_named(answer: dict[str, Any]) -> None:
    """Its variables are gone; the chief's broken connection is not the cause."""
    task, reason, line = answer["lost"]
    assert (task, reason) == ("ps:0", "killed")
    assert line.startswith("ps:0 (rank 3) on ")
    assert answer["after"] == "chief:0"
