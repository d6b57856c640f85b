"""The driver's rank and the stage's tasks find each other, over real sockets."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from pyspark import BarrierTaskInfo

from spark_strategy.cluster import Arrival, Fence
from spark_strategy.errors import RendezvousError
from spark_strategy.seal import Seal
from spark_strategy.spark.line_server import LineServer
from spark_strategy.spark.meeting import COMES, DriversTask, Meeting, StagesTask
from spark_strategy.spark.rendezvous import arrival_of, arrival_text, gather, reserve
from spark_strategy.spark.wire import connect, new_secret
from spark_strategy.topology import MultiWorker

SECRET = new_secret()
FENCE = Fence("run", 0)
SEAL = Seal(SECRET, FENCE)
WAIT_S = 15.0


class Stage:
    """Spark's barrier over threads."""

    def __init__(self, tasks: int) -> None:
        self.messages = [""] * tasks
        self.met = threading.Barrier(tasks, timeout=WAIT_S)


class Task:
    """One of its tasks."""

    def __init__(self, stage: Stage, partition: int) -> None:
        self._stage, self._partition = stage, partition

    def partitionId(self) -> int:  # noqa: N802 - Spark's name
        """Its partition."""
        return self._partition

    def getTaskInfos(self) -> list[BarrierTaskInfo]:  # noqa: N802 - Spark's name
        """Where the stage's tasks run."""
        return [BarrierTaskInfo(f"host{index}:1") for index in range(len(self._stage.messages))]

    def allGather(self, message: str = "") -> list[str]:  # noqa: N802 - Spark's name
        """The messages of the stage's tasks."""
        self._stage.messages[self._partition] = message
        self._stage.met.wait()
        return list(self._stage.messages)

    def resources(self) -> dict[str, object]:
        """Nothing."""
        return {}

    def cpus(self) -> int:
        """One."""
        return 1


@pytest.fixture
def meeting() -> Meeting:
    """A meeting of two tasks and the driver."""
    return Meeting(2)


@pytest.fixture
def address(meeting: Meeting) -> Iterator[str]:
    """Where the driver listens."""
    server = LineServer(reserve(None), SECRET, meeting)
    yield f"127.0.0.1:{server.port}"
    meeting.close()
    server.close()


def stages_tasks(*addresses: str) -> list[StagesTask]:
    """A stage, and what each of its tasks takes for the driver's address."""
    stage = Stage(len(addresses))
    return [
        StagesTask(Task(stage, place), at, SECRET, fence=FENCE, connect_s=1.0)  # type: ignore[arg-type]
        for place, at in enumerate(addresses)
    ]


def test_driver_and_tasks_form_one_cluster(meeting: Meeting, address: str) -> None:
    """The driver is rank 0, the stage's tasks come after it, and all know the same."""
    barriers = [DriversTask(meeting, "driver:0", 1), *stages_tasks(address, address)]
    assert [barrier.partitionId() for barrier in barriers] == [0, 1, 2]
    infos = barriers[1].getTaskInfos()
    assert [info.address for info in infos] == [address, "host0:1", "host1:1"]

    def meet(rank: int) -> object:
        arrival = Arrival(rank, FENCE, f"h:{rank + 1}", control="hub:1" if rank == 0 else "")
        return gather(barriers[rank], MultiWorker(3), FENCE, arrival, seal=SEAL, timeout_s=WAIT_S)

    with ThreadPoolExecutor(3) as pool:
        first, *others = pool.map(meet, range(3))

    cluster, arrivals = first  # type: ignore[misc]
    assert cluster.addresses == ("h:1", "h:2", "h:3")
    assert arrivals[0].control == "hub:1"
    assert others == [first, first]


def test_nobody_waits_for_a_task_that_cannot_reach_the_driver(
    meeting: Meeting, address: str
) -> None:
    """It fails with the remedy; its peer hears of it; the driver's rank waits for the stage."""
    with reserve(None) as held:  # bound, and not listening
        nowhere = f"127.0.0.1:{held.getsockname()[1]}"
        lost, fine = stages_tasks(nowhere, address)
        driver = DriversTask(meeting, "driver:0", 1)
        with ThreadPoolExecutor(3) as pool:
            texts = [arrival_text(SEAL, Arrival(rank, FENCE, f"h:{rank + 1}")) for rank in range(3)]
            waits = pool.submit(driver.allGather, texts[0])
            fails = pool.submit(lost.allGather, texts[1])
            told = pool.submit(fine.allGather, texts[2]).result(WAIT_S)
            with pytest.raises(RendezvousError, match=r'chief="driver" every executor must reach'):
                fails.result(WAIT_S)
            assert not waits.done()
            meeting.close()
            with pytest.raises(RendezvousError, match="only 1 of 2 tasks had reached the driver"):
                waits.result(WAIT_S)

    refusals = [arrival_of(SEAL, rank, text).refusal for rank, text in enumerate(told)]
    assert refusals[0] == refusals[2] == ""
    assert f"could not reach {nowhere}" in refusals[1]


def test_who_does_not_belong_to_the_meeting_changes_nothing(meeting: Meeting, address: str) -> None:
    """A task that is not expected, a second line of one, a second message."""
    arrivals = [Arrival(rank, FENCE, f"h:{rank + 1}").to_json() for rank in range(3)]
    first = connect(address, SECRET, f"{COMES}1", timeout_s=WAIT_S)
    for who in (f"{COMES}1", f"{COMES}0", f"{COMES}3", f"{COMES}x", "1x"):
        stranger = connect(address, SECRET, who, timeout_s=WAIT_S)
        assert list(stranger) == []
        stranger.close()
    for text in (b"\xff", arrivals[1].encode(), b"again"):
        first.send(text)
    second = connect(address, SECRET, f"{COMES}2", timeout_s=WAIT_S)
    second.send(arrivals[2].encode())
    assert meeting.gather(arrivals[0]) == arrivals
    for line in (first, second):
        assert next(iter(line)).decode() == arrivals[0]
        line.close()


def test_tasks_are_told_when_the_driver_hangs_up(meeting: Meeting, address: str) -> None:
    """Also those that have met the others already."""
    one, two = stages_tasks(address, address)
    with ThreadPoolExecutor(2) as pool:
        waits = [
            pool.submit(task.allGather, arrival_text(SEAL, Arrival(rank, FENCE, "h:1")))
            for rank, task in ((1, one), (2, two))
        ]
        meeting.close()
        for wait in waits:
            with pytest.raises(RendezvousError, match="the driver hung up before all ranks"):
                wait.result(WAIT_S)
