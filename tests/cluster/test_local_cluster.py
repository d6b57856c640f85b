"""``local-cluster[2,1,1024]``: executors are processes of their own, with a log of their own."""

from __future__ import annotations

import signal
import time

import psutil
import pytest
from site_of_processes import Target, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]


@pytest.mark.usefixtures("leaves_nothing_here")
def test_keras_trains_on_two_executors_and_talks_live(local_cluster: Target) -> None:
    """Both ranks fit one line on their own executor; their output is live, and in the logs."""
    answer = local_cluster.site.program("train", local_cluster.url, 2).answer(150)

    first, second = answer["values"]
    assert [first["rank"], second["rank"]] == [0, 1]
    assert first["slope"] == pytest.approx(3.0, abs=0.05)
    assert first["loss"] == second["loss"]
    assert first["executor"] != second["executor"]
    assert len(answer["hosts"]) == 2
    arrived = {line: at for at, line in answer["lines"]}
    for value in answer["values"]:
        line = f"worker:{value['rank']} | trained on rank {value['rank']}"
        # The rank slept for two seconds after it.
        assert arrived[line] - value["printed"] < 1.5
        assert line in local_cluster.site.executor_logs()


def test_a_killed_driver_takes_everything_with_it(local_cluster: Target) -> None:
    """SIGKILL to the driver's Python: within 30 s no child, executor or folder is left."""
    program = local_cluster.site.program("interrupted", local_cluster.url)
    program.says(r"worker:0 \| sleeping", 120)
    program.says(r"worker:1 \| sleeping", 30)

    program.process.send_signal(signal.SIGKILL)
    program.process.wait(10)
    began = time.monotonic()
    site = local_cluster.site

    wait_until(lambda: not site.left_by_runs(), 30, f"children are gone: {site.left_by_runs()}")
    wait_until(lambda: not list(site.processes()), 30 - (time.monotonic() - began), "all is gone")


@pytest.mark.usefixtures("leaves_nothing_here")
def test_ctrl_c_ends_the_run_and_not_the_session(local_cluster: Target) -> None:
    """SIGINT to the driver alone: KeyboardInterrupt, no job, no child, and the next run works."""
    program = local_cluster.site.program("interrupted", local_cluster.url)
    said = [program.says(rf"worker:{rank} \| sleeping on {rank} as \d+", 120) for rank in (0, 1)]
    children = [int(line.split()[-1]) for line in said]

    sent = time.time()
    program.process.send_signal(signal.SIGINT)
    program.says("interrupted", 30)
    wait_until(lambda: not any(map(psutil.pid_exists, children)), 15, "children are gone")
    answer = program.answer(120)

    assert answer["raised at"] - sent < 15
    assert answer["active jobs"] == []
    assert answer["again"] == [0, 1]


@pytest.mark.timeout(360)
@pytest.mark.usefixtures("leaves_nothing_here")
def test_a_host_that_is_gone_is_named_before_spark_misses_it(local_cluster: Target) -> None:
    """Without Spark's one or two minutes: rank 0 by its peer, a peer by rank 0 (on the driver)."""
    answer = local_cluster.site.program("stops_executor", local_cluster.url).answer(300)

    for ended in answer.values():
        assert ended["error"] == "WorkerError", ended
        assert ended["failures"][0] == ["worker:0", "lost"]
        first = ended["message"].partition("\n")[0]
        assert first.startswith("worker:0 (rank ")
        assert "has been silent for 20 s" in first
        assert 20 < ended["seconds"] < 55
        assert ended["again"] == [0, 1]
    assert answer["rank 0"]["failures"][1:] == [["worker:1", "cut off"]]
