"""Where the tasks of a run listen: arrivals -> cluster -> cluster spec and TF_CONFIG.

The theory. Every rank brings an :class:`Arrival` to Spark's all-gather, and every rank
computes the same :class:`Cluster` from the same arrivals, or refuses for the same reason.
An arrival names its run and attempt: a late task of an earlier attempt cannot join.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

from spark_strategy.errors import RendezvousError
from spark_strategy.strict_json import parse
from spark_strategy.topology import TaskId

# What whoever owns the network does about a host that does not answer.
OPEN_PORTS: Final = (
    "If a firewall is in between, port_range= fixes the ports that it must let through; if the "
    "hosts have several networks, interface= chooses one that connects them."
)


@dataclass(frozen=True, slots=True)
class Fence:
    """Which run, and which attempt of it, a message belongs to."""

    run_id: str
    attempt: int

    def __str__(self) -> str:
        return f"run {self.run_id} attempt {self.attempt}"


@dataclass(frozen=True, slots=True)
class Arrival:
    """One rank at the rendezvous.

    Attributes:
        rank: position in the topology's ``tasks`` (Spark's partition id).
        fence: the run and attempt this rank belongs to.
        address: ``host:port`` where its TensorFlow server will listen.
        control: ``host:port`` of this rank's control hub, empty where it keeps none.
        refusal: why this rank cannot take part, empty when it can.
    """

    rank: int
    fence: Fence
    address: str
    control: str = ""
    refusal: str = ""

    def to_json(self) -> str:
        """One line for Spark's all-gather."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Arrival:
        """The arrival that ``to_json`` wrote.

        Raises:
            ExecutorEnvironmentError: it has another shape.
        """
        return parse(cls, text)


@dataclass(frozen=True, slots=True)
class Cluster:
    """The address of every task, in rank order."""

    tasks: tuple[TaskId, ...]
    addresses: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.tasks) != len(self.addresses):
            raise RendezvousError(
                f"{len(self.tasks)} tasks need as many addresses, found {len(self.addresses)}."
            )
        if len(set(self.addresses)) != len(self.addresses):
            raise RendezvousError(f"Two tasks claim one address: {', '.join(self.addresses)}.")

    @property
    def spec(self) -> dict[str, list[str]]:
        """``tf.train.ClusterSpec``'s dictionary: job -> addresses in index order."""
        spec: dict[str, list[str]] = {}
        for _, task, address in sorted(
            (task.index, task, address)
            for task, address in zip(self.tasks, self.addresses, strict=True)
        ):
            spec.setdefault(task.job, []).append(address)
        return spec

    def without(self, job: str) -> Cluster:
        """The same without the tasks of a job."""
        kept = [
            (task, address)
            for task, address in zip(self.tasks, self.addresses, strict=True)
            if task.job != job
        ]
        return Cluster(tuple(task for task, _ in kept), tuple(address for _, address in kept))

    def tf_config(self, task: TaskId) -> str:
        """TF_CONFIG for ``task``, as TensorFlow's ``TFConfigClusterResolver`` reads it."""
        return json.dumps(
            {
                "cluster": self.spec,
                "task": {"type": task.job, "index": task.index},
                "rpc_layer": "grpc",
            }
        )

    def to_json(self) -> str:
        """What a child reads to join."""
        return json.dumps(
            {"tasks": [str(task) for task in self.tasks], "addresses": self.addresses}
        )

    @classmethod
    def from_json(cls, text: str) -> Cluster:
        """The cluster that ``to_json`` wrote."""
        fields = json.loads(text)
        return cls(tuple(map(TaskId.parse, fields["tasks"])), tuple(fields["addresses"]))


def form(tasks: Sequence[TaskId], fence: Fence, arrivals: Sequence[Arrival]) -> Cluster:
    """The cluster that these arrivals make.

    Args:
        tasks: the topology's tasks, in rank order.
        fence: the run and attempt the caller belongs to.
        arrivals: one per rank, in any order.

    Raises:
        RendezvousError: an arrival of another run or attempt, or a missing or doubled rank.
    """
    for arrival in arrivals:
        if arrival.fence != fence:
            raise RendezvousError(
                f"Rank {arrival.rank} at {arrival.address} belongs to {arrival.fence}, "
                f"this is {fence}: a late task of an earlier attempt cannot join."
            )
    ranks = sorted(arrival.rank for arrival in arrivals)
    if ranks != list(range(len(tasks))):
        raise RendezvousError(f"{len(tasks)} ranks were expected once each, found {ranks}.")
    by_rank = sorted(arrivals, key=lambda arrival: arrival.rank)
    return Cluster(tuple(tasks), tuple(arrival.address for arrival in by_rank))
