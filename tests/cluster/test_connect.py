"""Spark Connect: a client without a JVM, against a real server with two executors."""

from __future__ import annotations

import pytest
from site_of_processes import Target

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("leaves_nothing_here"),
]


def test_runs_over_connect_succeed_fail_and_are_refused(connect: Target) -> None:
    """Each topology trains, output goes to the executors' logs, failures keep their own cause.

    More ranks than slots are refused by the start deadline instead of waiting for ever, and the
    session serves the next run.
    """
    answer = connect.site.program("over_connect", connect.url).answer(250)

    assert answer["slopes"] == [pytest.approx(3.0, abs=0.05)] * 2
    assert len(answer["hosts"]) == 2
    assert "2 of unknown (Spark Connect)" in answer["plan"]

    assert answer["lines"] == []
    said = [text for text in answer["messages"] if "executors' logs only" in text]
    assert len(said) == 1
    for rank in (0, 1):
        assert f"worker:{rank} | trained on rank {rank}" in connect.site.executor_logs()

    failed = answer["fails"]
    assert failed["kind"] == "WorkerError"
    assert "worker:1 (rank 1)" in failed["text"]
    assert "in fail" in failed["text"]
    assert failed["cause"] == "ValueError('planned')"
    assert sorted(failed["ranks"]) == [0, 1]

    refused = answer["too many"]
    assert refused["kind"] == "CapacityError", refused["text"]
    assert "start_timeout_s=8" in refused["text"]
    assert refused["seconds"] < 30

    assert answer["asynchronous"]["slope"] == pytest.approx(3.0, abs=0.3)
    assert answer["asynchronous"]["steps"] == 40 * 4
    assert answer["chief here"]["kind"] == "PlanError"
    assert answer["trials"] == {"0": 2, "2": 6}
    assert "planned" in answer["failed trials"]["1"]

    assert answer["again"] == [0, 1]
