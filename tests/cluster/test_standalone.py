"""A Standalone master with two workers of two cores: several ranks share an executor."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import psutil
import pytest
from site_of_processes import Site, Standalone, Target

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("leaves_nothing_here"),
]


def test_keras_trains_with_several_ranks_per_executor(standalone: Target) -> None:
    """Four ranks on two executors of two cores train one model."""
    answer = standalone.site.program("train", standalone.url, 4).answer(200)

    values = answer["values"]
    assert [value["rank"] for value in values] == [0, 1, 2, 3]
    assert values[0]["slope"] == pytest.approx(3.0, abs=0.05)
    assert all(value["loss"] == values[0]["loss"] for value in values)
    per_executor = Counter(value["executor"] for value in values)
    assert sorted(per_executor.values()) == [2, 2]
    for rank in range(4):
        assert f"worker:{rank} | trained on rank {rank}" in standalone.site.executor_logs()


def test_runs_leave_the_sessions_other_work_alone(standalone: Target, tmp_path: Path) -> None:
    """A job in another thread lives through a success, a failure and a cancelled run.

    The run that finds no free slots is answered by its start deadline; afterwards, two runs at
    once from two threads do not mix.
    """
    answer = standalone.site.program("busy", standalone.url, tmp_path / "flag").answer(250)

    assert answer["succeeds"] == "beside"
    kind, text = answer["fails"]
    assert kind == "WorkerError"
    assert "worker:1" in text
    assert "ValueError: planned" in text
    kind, text = answer["waits"]
    assert kind == "CapacityError"
    assert "other work holds them" in text
    assert answer["other still runs"]
    assert answer["other"] == 42
    first, second = answer["at once"]["a"], answer["at once"]["b"]
    assert [tag for tag, _ in first] == ["a", "a"]
    assert [tag for tag, _ in second] == ["b", "b"]
    assert first[0][1] == first[1][1]
    assert not set(first[0][1]) & set(second[0][1])


def test_join_cluster_works_in_rdd_and_arrow_barrier_stages(standalone: Target) -> None:
    """In the user's own stage, both ranks reduce over one cluster and know their tasks."""
    answer = standalone.site.program("own_barrier", standalone.url).answer(120)

    expected = [[0, 3.0, "worker:0"], [1, 3.0, "worker:1"]]
    assert answer["rdd"] == expected
    assert answer["arrow"] == expected


def test_a_killed_executor_is_named_and_the_session_goes_on(standalone: Target) -> None:
    """SIGKILL to an executor: ExecutorLostError in seconds, no child left, the next run works."""
    answer = standalone.site.program("loses_executor", standalone.url).answer(200)

    assert answer["error"] == "ExecutorLostError", answer["message"]
    assert "Spark lost the executor" in answer["message"]
    assert answer["seconds"] < 30
    assert len(answer["children"]) == 2
    assert not any(psutil.pid_exists(pid) for pid in answer["children"])
    assert answer["again"] == [0, 1]


def test_executors_that_come_late_are_waited_for(site: Site) -> None:
    """The second of two workers comes after the count has stood still for longer than ten seconds.

    The session asked for two cores (spark.cores.max), and one has come.
    """
    cluster = Standalone(site)
    cluster.add_worker(cores=1)
    program = site.program(
        "expects_error", cluster.url, json.dumps([{"start_timeout_s": 120}]), "spark.cores.max=2"
    )
    waits = r"Waiting for executors .* 1 of the 2 slots.*1 executor with 1 cores .spark.cores.max=2"
    program.says(rf"(?s)({waits}.*){{3}}", 100)
    cluster.add_worker(cores=1)
    (answer,) = program.answer(150)["answers"]

    assert answer["values"] == ["not set", "not set"], answer
