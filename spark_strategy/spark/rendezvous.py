"""Reserves a port, and gathers arrivals into a cluster.

The theory of the race-free port. A socket is bound *exclusively*, so a port that anyone
holds, another rank on the host included, is refused. Only then is SO_REUSEPORT set on it.
From here on TensorFlow, started with ``TF_GRPC_REUSE_PORT=true`` by the same user, may bind
the same port while the reservation is still held, and an ordinary bind from elsewhere is
refused. The reservation never listens, so the kernel hands it no connection. It is held for
the whole attempt: a restarted TensorFlow server finds its port free.
"""

from __future__ import annotations

import ipaddress
import queue
import random
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol

import psutil

from spark_strategy.cluster import Arrival, Cluster, Fence, form
from spark_strategy.errors import RendezvousError
from spark_strategy.seal import Kind, Seal
from spark_strategy.topology import Topology

if TYPE_CHECKING:
    from pyspark import BarrierTaskInfo
    from pyspark.resource import ResourceInformation

_MOST_ARRIVAL_BYTES: Final = 64 << 10
_MOST_REFUSAL_CHARACTERS: Final = 4_000


class LateError(RendezvousError):
    """Not all of the other ranks came in time; Spark would wait for them."""


class AllGather(Protocol):
    """The part of ``BarrierTaskContext`` that a rendezvous needs."""

    def allGather(self, message: str = "") -> list[str]:  # noqa: N802 - Spark's name
        """Every task's message, in partition order."""
        ...


class Barrier(AllGather, Protocol):
    """What a rank asks of Spark, in the words of ``BarrierTaskContext``."""

    def partitionId(self) -> int:  # noqa: N802 - Spark's name
        """The rank."""
        ...

    def getTaskInfos(self) -> list[BarrierTaskInfo]:  # noqa: N802 - Spark's name
        """Where each rank's task runs, in rank order."""
        ...

    def resources(self) -> dict[str, ResourceInformation]:
        """What Spark assigned to the task."""
        ...

    def cpus(self) -> int:
        """The task's cpus."""
        ...


def reserve(port_range: tuple[int, int] | None) -> socket.socket:
    """A port on all interfaces that stays ours until the socket is closed.

    Args:
        port_range: first and last port to try, in random order; None for any.

    Raises:
        RendezvousError: every port of the range is taken.
    """
    if port_range is None:
        return _exclusive(0)
    first, last = port_range
    for port in random.sample(range(first, last + 1), last - first + 1):
        try:
            return _exclusive(port)
        except OSError:
            continue
    raise RendezvousError(
        f"Every port from {first} to {last} is taken on {socket.gethostname()}. "
        "On each host port_range needs a port for every rank and two more (hub, driver); a port "
        "that a run has used rests for a minute (TCP's TIME_WAIT), so give it several times that."
    )


def _exclusive(port: int) -> socket.socket:
    sock = socket.socket()
    try:
        sock.bind(("", port))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError:
        sock.close()
        raise
    return sock


def own_host(spark_address: str, interface: str | None) -> str:
    """The host name or address that the other ranks reach this one by.

    Args:
        spark_address: this task's ``BarrierTaskInfo.address``; what Spark can reach,
            TensorFlow can reach.
        interface: interface name or subnet to use instead.

    Raises:
        RendezvousError: this host has no IPv4 address there.
    """
    if interface is None:
        return spark_address.rpartition(":")[0] or spark_address
    found: dict[str, list[str]] = {
        name: [one.address for one in addresses if one.family == socket.AF_INET]
        for name, addresses in psutil.net_if_addrs().items()
    }
    chosen = _in_subnet(found, interface) if "/" in interface else found.get(interface, [])
    if not chosen:
        listing = "; ".join(f"{name} {', '.join(ips)}" for name, ips in found.items() if ips)
        raise RendezvousError(
            f"{socket.gethostname()} has no IPv4 address on interface={interface!r}. "
            f"It has: {listing}."
        )
    return chosen[0]


def _in_subnet(found: dict[str, list[str]], subnet: str) -> list[str]:
    network = ipaddress.ip_network(subnet, strict=False)
    return [ip for ips in found.values() for ip in ips if ipaddress.ip_address(ip) in network]


def gather(
    barrier: AllGather,
    topology: Topology,
    fence: Fence,
    arrival: Arrival,
    *,
    seal: Seal | None,
    timeout_s: float,
) -> tuple[Cluster | None, tuple[Arrival, ...]]:
    """Bring ``arrival``, learn everyone's.

    Args:
        barrier: the task's barrier context.
        topology: who is expected.
        fence: this run and attempt.
        arrival: this rank.
        seal: the attempt's; None in a stage of the user's own, which has no secret.
        timeout_s: seconds to wait for the others. Spark's own limit,
            ``spark.barrier.sync.timeout``, is a year by default.

    Returns:
        The cluster, or None if some rank refused; and all arrivals in rank order.

    Raises:
        RendezvousError: a rank did not come in time, or what came as a rank's is not
            that of this run and attempt.
    """
    texts = _within(timeout_s, lambda: barrier.allGather(arrival_text(seal, arrival)))
    arrivals = tuple(arrival_of(seal, rank, text) for rank, text in enumerate(texts))
    if any(one.refusal for one in arrivals):
        return None, arrivals
    return form(topology.tasks, fence, arrivals), arrivals


def arrival_text(seal: Seal | None, arrival: Arrival) -> str:
    """What a rank brings: its arrival, sealed."""
    text = replace(arrival, refusal=arrival.refusal[:_MOST_REFUSAL_CHARACTERS]).to_json()
    return text if seal is None else seal.sealed_text(Kind.ARRIVAL, arrival.rank, text)


def arrival_of(seal: Seal | None, rank: int, text: str) -> Arrival:
    """The arrival that ``rank`` brought.

    Raises:
        RendezvousError: it is not sealed by that rank of this attempt.
        ExecutorEnvironmentError: another version of the library wrote it.
    """
    if seal is not None:
        text = seal.open_text(Kind.ARRIVAL, rank, text, max_bytes=_MOST_ARRIVAL_BYTES)
    return Arrival.from_json(text)


def _within(timeout_s: float, call: Callable[[], list[str]]) -> list[str]:
    """What ``call`` returns; it cannot be interrupted, only left behind in its thread."""
    answers: queue.Queue[list[str] | Exception] = queue.Queue()

    def run() -> None:
        try:
            answers.put(call())
        # Whatever Spark raises belongs to the waiting thread.
        except Exception as error:  # noqa: BLE001
            answers.put(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        answer = answers.get(timeout=timeout_s)
    except queue.Empty:
        raise LateError(
            f"waited {timeout_s:g} s for the other ranks' tasks, and not all of them came: one "
            "hangs before it could say where it listens. Look at the executors' logs."
        ) from None
    if isinstance(answer, Exception):
        raise answer
    return answer
