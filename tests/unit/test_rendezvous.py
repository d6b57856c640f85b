"""Ports that stay reserved, and addresses that were asked for."""

from __future__ import annotations

import socket
import threading

import pytest
from pyspark import BarrierTaskInfo

from spark_strategy.barrier import join_cluster
from spark_strategy.cluster import Arrival, Fence
from spark_strategy.errors import PlanError, RendezvousError
from spark_strategy.parameter_server import ParameterServer
from spark_strategy.seal import Seal
from spark_strategy.spark.rendezvous import arrival_text, gather, own_host, reserve
from spark_strategy.topology import MultiWorker, Topology

FENCE = Fence("run", 0)
SEAL = Seal(b"s" * 32, FENCE)


def bind(port: int, *, reuse: bool) -> socket.socket:
    """A socket on ``port``."""
    sock = socket.socket()
    if reuse:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        sock.bind(("", port))
    except OSError:
        sock.close()
        raise
    return sock


def test_a_reserved_port_is_refused_to_others_and_open_to_tensorflow() -> None:
    """An ordinary bind fails; one with SO_REUSEPORT, as TensorFlow's, succeeds and is heard."""
    with reserve(None) as held:
        port = held.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            bind(port, reuse=False)
        with bind(port, reuse=True) as server:
            server.listen()
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            server.settimeout(5)
            server.accept()[0].close()


def test_two_reservations_never_share_a_port() -> None:
    """Though both allow reuse: each is bound exclusively first."""
    with reserve(None) as one:
        port = one.getsockname()[1]
        with pytest.raises(RendezvousError, match=f"Every port from {port} to {port} is taken"):
            reserve((port, port))


def test_a_port_range_is_used_up_and_then_refused() -> None:
    """Both ends belong to the range; the message says which range was too small."""
    with reserve(None) as probe:
        first = probe.getsockname()[1]
    held = []
    try:
        with pytest.raises(RendezvousError, match="a port for every rank and two more"):
            held.extend(reserve((first, first + 2)) for _ in range(4))
    finally:
        for sock in held:
            sock.close()


def test_the_address_is_sparks_unless_an_interface_is_named() -> None:
    """By name, by subnet, and a refusal that lists what there is."""
    assert own_host("10.0.0.7:4444", None) == "10.0.0.7"
    assert own_host("10.0.0.7:4444", "lo") == "127.0.0.1"
    assert own_host("10.0.0.7:4444", "127.0.0.0/8") == "127.0.0.1"
    with pytest.raises(RendezvousError, match=r"interface='ib9'. It has: .*lo 127\.0\.0\.1"):
        own_host("10.0.0.7:4444", "ib9")
    with pytest.raises(RendezvousError, match=r"203\.0\.113\.0/24"):
        own_host("10.0.0.7:4444", "203.0.113.0/24")


class Gathered:
    """Spark's all-gather with the other tasks' messages given."""

    def __init__(self, *others: Arrival, seal: Seal | None = None) -> None:
        self.others = [arrival_text(seal, other) for other in others]

    def allGather(self, message: str = "") -> list[str]:  # noqa: N802 - Spark's name
        """All messages."""
        return [message, *self.others]


def test_a_refusal_leaves_every_rank_without_a_cluster() -> None:
    """Instead of waiting for a rank that cannot take part."""
    other = Arrival(1, FENCE, "", refusal="has no tensorflow")

    cluster, arrivals = gather(
        Gathered(other, seal=SEAL),
        MultiWorker(2),
        FENCE,
        Arrival(0, FENCE, "h:1", "h:2"),
        seal=SEAL,
        timeout_s=5,
    )

    assert cluster is None
    assert arrivals[1].refusal == "has no tensorflow"


def test_a_task_of_an_earlier_attempt_is_refused() -> None:
    """The fence holds at the rendezvous too."""
    late, fence = Arrival(1, Fence("run", 0), "h:3"), Fence("run", 1)

    with pytest.raises(RendezvousError, match="cannot join"):
        gather(
            Gathered(late), MultiWorker(2), fence, Arrival(0, fence, "h:1"), seal=None, timeout_s=5
        )


@pytest.mark.parametrize(
    "other",
    [
        None,
        Seal(b"t" * 32, FENCE),
        Seal(SEAL.secret, Fence("run", 1)),
        Seal(SEAL.secret, Fence("x", 0)),
    ],
)
def test_an_arrival_without_this_runs_seal_is_refused(other: Seal | None) -> None:
    """Whatever it says: it may send the others to a stranger's address."""
    stranger = Gathered(Arrival(1, FENCE, "stranger:1"), seal=other)

    with pytest.raises(RendezvousError, match="rank 1's is not sealed by rank 1 of run run"):
        gather(stranger, MultiWorker(2), FENCE, Arrival(0, FENCE, "h:1"), seal=SEAL, timeout_s=5)


def test_a_rank_arrives_for_itself_only() -> None:
    """Also among the ranks of a run."""
    again = Gathered(Arrival(0, FENCE, "h:2"), seal=SEAL)

    with pytest.raises(RendezvousError, match="rank 1"):
        gather(again, MultiWorker(2), FENCE, Arrival(0, FENCE, "h:1"), seal=SEAL, timeout_s=5)


def test_a_long_refusal_is_cut() -> None:
    """A refusal is an error's text, which may hold anything."""
    long = Gathered(Arrival(1, FENCE, "", refusal="é" * 10**6), seal=SEAL)
    cluster, arrivals = gather(
        long, MultiWorker(2), FENCE, Arrival(0, FENCE, "h:1"), seal=SEAL, timeout_s=5
    )

    assert cluster is None
    assert arrivals[1].refusal == "é" * 4_000


def test_a_task_that_never_comes_ends_the_wait() -> None:
    """Spark's own limit is a year."""
    never = threading.Event()

    class Stuck:
        def allGather(self, message: str = "") -> list[str]:  # noqa: N802 - Spark's name
            never.wait(30)
            return [message]

    with pytest.raises(RendezvousError, match=r"waited 0\.1 s for the other ranks"):
        gather(Stuck(), MultiWorker(2), FENCE, Arrival(0, FENCE, "h:1"), seal=SEAL, timeout_s=0.1)
    never.set()


class StageOfTwo:
    """The context of a barrier stage of two tasks."""

    def getTaskInfos(self) -> list[BarrierTaskInfo]:  # noqa: N802 - Spark's name
        """Where they run."""
        return [BarrierTaskInfo("h:1"), BarrierTaskInfo("h:2")]

    def partitionId(self) -> int:  # noqa: N802 - Spark's name
        """The first."""
        return 0


@pytest.mark.parametrize(
    ("topology", "text"),
    [
        (MultiWorker(3), "has 3 tasks, but this barrier stage has 2"),
        (ParameterServer(1, chief="driver"), 'the driver is none of them: .* chief="executor"'),
    ],
)
def test_a_stage_of_ones_own_is_all_the_tasks_there_are(topology: Topology, text: str) -> None:
    """Refused before anybody is waited for."""
    with (
        pytest.raises(PlanError, match=text),
        join_cluster(StageOfTwo(), topology),  # type: ignore[arg-type]
    ):
        pytest.fail("joined")
