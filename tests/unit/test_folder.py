"""The folder between task and child: what one end writes, the other reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from spark_strategy.cluster import Cluster, Fence
from spark_strategy.errors import RendezvousError
from spark_strategy.folder import ChildFailure, ChildFolder, ChildOrder, Exit
from spark_strategy.outcome import Reason
from spark_strategy.topology import MultiWorker, ParameterServer, TaskId

ORDER = ChildOrder(MultiWorker(2), 1, Fence("r", 0), "ring", scope=True, gpus=None, deadline_s=5.0)


def test_both_ends_agree_on_every_file(tmp_path: Path) -> None:
    """Order, cluster, value, failure, timings, exit and process id survive the folder."""
    task, child = ChildFolder(tmp_path), ChildFolder(tmp_path)
    cluster = Cluster(MultiWorker(2).tasks, ("a:1", "b:2"))
    failure = ChildFailure(Reason.RAISED, "raised é", "Traceback", secondary=True, at=12.5)

    task.prepare(ORDER, b"function")
    assert child.read_order() == (ORDER, b"function")
    assert child.read_order()[0].task == TaskId("worker", 1)
    task.announce(cluster)
    assert child.wait_for_cluster(0.0) == cluster
    assert not task.started
    child.mark_started()
    assert task.started
    child.write_timings({"import_s": 1.5})
    assert task.read_timings() == {"import_s": 1.5}
    assert not task.succeeded
    child.succeed(b"value")
    assert task.succeeded
    assert task.read_value() == b"value"
    assert task.read_failure() is None
    child.fail(failure, b"error")
    assert task.read_failure() == (failure, b"error")
    assert task.read_exit() is None
    child.write_exit(Exit(-9, 1024, 3.0))
    assert task.read_exit() == Exit(-9, 1024, 3.0)
    assert task.read_pid() is None
    child.write_pid(77)
    assert task.read_pid() == 77
    task.release()
    child.wait_for_release()


def test_a_cluster_that_does_not_come_ends_the_wait(tmp_path: Path) -> None:
    """The child gives up with the deadline in its message."""
    with pytest.raises(RendezvousError, match=r"waited 0\.05 s"):
        ChildFolder(tmp_path).wait_for_cluster(0.05)


def test_a_process_is_started_again_from_a_clean_folder(tmp_path: Path) -> None:
    """The guard learns how often that may be, is asked once at a time, and the old end is gone."""
    task, guard = ChildFolder(tmp_path), ChildFolder(tmp_path)
    topology = ParameterServer(1, restarts=4)
    orders = [
        ChildOrder(topology, rank, Fence("r", 0), "auto", scope=True, gpus=None, deadline_s=5.0)
        for rank in range(3)
    ]
    assert [order.restarts for order in orders] == [0, 4, 0]
    task.prepare(orders[1], b"")
    assert guard.read_restarts() == 4
    assert not guard.take_again()
    guard.write_exit(Exit(-9, 1, 2.0))
    guard.succeed(b"")
    task.start_again()
    assert task.read_exit() is None
    assert not task.succeeded
    assert guard.take_again()
    assert not guard.take_again()
