"""What will be launched, checked against what Spark can host."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

from spark_strategy import patience as limits
from spark_strategy.data.paths import FileRoot
from spark_strategy.errors import CapacityError, PlanError
from spark_strategy.parameter_server import on_driver, placed
from spark_strategy.patience import USUAL, Patience
from spark_strategy.topology import Topology, forms_cluster, is_count

Communication = Literal["auto", "ring", "nccl"]

# Address space of a rank with a model of one layer: peaks of 3,690 MiB with the cluster's runtime
# and of 2,840 MiB without, of which 810 and 750 MiB were resident (measured, TensorFlow 2.21, two
# cores). With 3,000 MiB the former aborts, with 2,500 MiB the latter.
_CLUSTERS_MIB: Final = 4096
_ALONE_MIB: Final = 3072

_RESERVED: Final = frozenset({"TF_CONFIG", "TF_GRPC_REUSE_PORT"})


@dataclass(frozen=True, slots=True)
class Orders:
    """What every rank is told. Travels to the executors.

    Attributes:
        start_timeout_s: seconds until every rank must run the function.
        timeout_s: seconds for the whole run; None for no limit.
        gpus_per_worker: GPUs that Spark assigns to each rank; 0 hides them all; None takes
            what Spark assigns, and leaves TensorFlow alone where it assigns nothing.
        communication: collective implementation, as in ``CommunicationImplementation``.
        port_range: first and last port to listen on, both included; None for any free port.
        interface: network interface name, or IPv4 subnet in CIDR notation, that the ranks reach
            each other by.
        env: environment variables of the children.
        scope: whether the function runs inside ``strategy.scope()``.
        patience: how long the ranks' tasks wait for each other.
    """

    start_timeout_s: float = 300.0
    timeout_s: float | None = None
    gpus_per_worker: int | None = None
    communication: Communication = "auto"
    port_range: tuple[int, int] | None = None
    interface: str | None = None
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    scope: bool = True
    patience: Patience = USUAL

    def __post_init__(self) -> None:
        limits.start_deadline(self.start_timeout_s)
        object.__setattr__(self, "timeout_s", limits.run_deadline(self.timeout_s))
        if not isinstance(self.patience, Patience):
            raise PlanError(f"patience is a Patience(...), found {self.patience!r}.")
        if self.gpus_per_worker is not None and not is_count(self.gpus_per_worker):
            raise PlanError(
                f"gpus_per_worker is a whole number of at least 0, found {self.gpus_per_worker!r}."
            )
        if self.communication not in get_args(Communication):
            raise PlanError(
                f"communication is one of {', '.join(get_args(Communication))}, "
                f"found {self.communication!r}."
            )
        _check_ports(self.port_range)
        _check_interface(self.interface)
        _check_env(self.env)


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a Spark session can host.

    Attributes:
        master: the session's master URL.
        slots: tasks that can run at once over all executors; None where Spark does not say
            (Spark Connect).
        task_cpus: ``spark.task.cpus``.
        gpus_per_task: ``spark.task.resource.gpu.amount``; 0 when unset.
        dynamic_allocation: whether executors come and go.
        connect: whether the driver is a Spark Connect server, and this process only its client.
        executors: how many executors have come of those that were asked for, in words.
        idle_kill_s: seconds of silence after which Spark ends a Python worker; 0 for never.
        address_space_mib: most address space of each Python worker, and of a rank's process
            that inherits the limit; 0 for no limit.
    """

    master: str
    slots: int | None
    task_cpus: int = 1
    gpus_per_task: float = 0.0
    dynamic_allocation: bool = False
    connect: bool = False
    executors: str = ""
    idle_kill_s: int = 0
    address_space_mib: int = 0


@dataclass(frozen=True, slots=True)
class LaunchPlan:
    """What Spark can host: one barrier stage, or jobs of one task. Print it for a dry run.

    Raises:
        PlanError: the chief cannot run on this session's driver, or Spark ends tasks that train.
        CapacityError: Spark leaves too little address space; of a barrier stage: it has too few
            slots, or dynamic allocation is on.
    """

    topology: Topology
    orders: Orders
    capacity: Capacity
    files: FileRoot = field(default_factory=FileRoot)

    def __post_init__(self) -> None:
        self._check_idle_kill()
        self._check_address_space()
        if not forms_cluster(self.topology):
            return  # what finds no slot waits for one
        needed, capacity = len(placed(self.topology)), self.capacity
        if capacity.connect and on_driver(self.topology):
            raise PlanError(
                f"{self.topology} runs its chief beside Spark's driver, and a Spark Connect client "
                'is not the driver. Use chief="executor", or a session of the driver itself.'
            )
        if capacity.dynamic_allocation:
            raise CapacityError(
                f"{self.topology} needs all its {needed} tasks at once, and Spark refuses barrier "
                "stages while spark.dynamicAllocation.enabled is true (SPARK-24942). "
                "Start the session with spark.dynamicAllocation.enabled=false and a fixed "
                "spark.executor.instances."
            )
        if capacity.slots is not None and capacity.slots < needed:
            came = f": {capacity.executors}" if capacity.executors else ""
            raise CapacityError(
                f"{self.topology} needs {needed} tasks at once but Spark has {capacity.slots} "
                f"{'slot' if capacity.slots == 1 else 'slots'} on {capacity.master}{came}. "
                f"{self._more_slots(needed)}"
            )

    def _more_slots(self, needed: int) -> str:
        cpus = self.capacity.task_cpus
        if self.capacity.master.startswith("local["):
            return (
                "Ask for less, or stop the session and start one with more: "
                f"SparkSession.builder.master('local[{needed * cpus}]')."
            )
        return (
            "Ask for less, or add executors (slots = executors x cores / spark.task.cpus, which is "
            f"{cpus})."
        )

    def _check_idle_kill(self) -> None:
        """A rank's task says nothing to Spark until it has its outcome, which is the end."""
        if not self.capacity.idle_kill_s:
            return
        name = "spark.sql.execution.pyspark.udf.killOnIdleTimeout"
        raise PlanError(
            "spark.python.worker.killOnIdleTimeout is on, and so Spark would end each rank after "
            f"{self.capacity.idle_kill_s} s, because a task that trains sends Spark no rows until "
            f'it is done. Turn it off for this session: spark.conf.set("{name}", "false").'
        )

    def _check_address_space(self) -> None:
        limit = self.capacity.address_space_mib
        needed = _CLUSTERS_MIB if forms_cluster(self.topology) else _ALONE_MIB
        if 0 < limit < needed:
            raise CapacityError(
                f"spark.executor.pyspark.memory leaves each rank {limit:,} MiB of address space "
                "(RLIMIT_AS; the setting is divided by the executor's cores), and TensorFlow "
                f"with a small model needs {needed:,} MiB, most of it never used. Unset it, and "
                "give Python room by spark.executor.memoryOverhead, which limits no addresses."
            )

    def __str__(self) -> str:
        orders = self.orders
        slots = "unknown (Spark Connect)" if self.capacity.slots is None else self.capacity.slots
        upto = "" if forms_cluster(self.topology) else "up to "
        lines = {
            "topology": self.topology,
            "tasks": ", ".join(map(str, self.topology.tasks)),
            "runs the function": ", ".join(map(str, self.topology.callers)),
            "master": self.capacity.master,
            **({"on the driver": self.topology.tasks[0]} if on_driver(self.topology) else {}),
            "slots": f"{upto}{len(placed(self.topology))} of {slots}",
            "cpus per task": self.capacity.task_cpus,
            "gpus per worker": "as Spark assigns"
            if orders.gpus_per_worker is None
            else orders.gpus_per_worker,
            "communication": orders.communication,
            "interface": orders.interface or "the one Spark uses",
            "ports": "any" if orders.port_range is None else "{}-{}".format(*orders.port_range),
            "start deadline": f"{orders.start_timeout_s:g} s",
            "run deadline": "none" if orders.timeout_s is None else f"{orders.timeout_s:g} s",
            "environment": ", ".join(sorted(orders.env)) or "unchanged",
        }
        return "\n".join(f"{name:<18} {value}" for name, value in lines.items())


def _check_ports(ports: Any) -> None:
    if ports is None:
        return
    ok = isinstance(ports, tuple) and len(ports) == 2 and all(map(is_count, ports))
    if not ok or not 1024 <= ports[0] <= ports[1] <= 65535:
        raise PlanError(
            f"port_range is (first, last) with 1024 <= first <= last <= 65535, found {ports!r}."
        )


def _check_interface(interface: object) -> None:
    if interface is None:
        return
    problem = (
        f"interface is a name such as 'ib0' or a subnet such as '10.1.0.0/16', found {interface!r}."
    )
    if not isinstance(interface, str) or not interface:
        raise PlanError(problem)
    if "/" in interface:
        try:
            ipaddress.IPv4Network(interface, strict=False)
        except ValueError as error:
            raise PlanError(f"{problem} {error}") from error


def _check_env(env: object) -> None:
    if not isinstance(env, Mapping):
        raise PlanError(f"env maps variable names to strings, found a {type(env).__name__}.")
    for name, value in env.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise PlanError(
                f"env maps variable names to strings, found {_shown(name)}: {type(value).__name__}."
            )
        if not name or "=" in name or "\0" in name + value:
            raise PlanError(
                f"env cannot hold {_shown(name)}: an empty name, or one of = and NUL in it."
            )
        if name in _RESERVED:
            raise PlanError(f"env may not set {name}: each rank's value comes from the rendezvous.")


def _shown(name: object) -> str:
    """A variable's name for a message, without the value that someone may have put into it."""
    return repr(name.partition("=")[0]) if isinstance(name, str) else f"a {type(name).__name__}"
