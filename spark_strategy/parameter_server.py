"""Parameter-server training: who takes part in it."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Final, Literal, get_args

from spark_strategy.errors import PlanError
from spark_strategy.topology import TaskId, Topology, WithEvaluator, evaluators, is_count

# TensorFlow's names for the roles of parameter-server training.
CHIEF: Final = "chief"
WORKER: Final = "worker"
PS: Final = "ps"

# As ``tf.distribute.experimental.partitioners``: (shape, dtype) -> shards along each axis.
Partitioner = Callable[..., Sequence[int]]
Home = Literal["executor", "driver"]


@dataclass(frozen=True, slots=True)
class ParameterServer:
    """Asynchronous data parallelism: ``tf.distribute.ParameterServerStrategy``.

    The chief runs the function and hands out steps; workers compute them; parameter servers
    hold the variables. A worker whose process is lost is started again and training goes on.

    Args:
        workers: number of workers.
        servers: number of parameter servers.
        partitioner: how variables are split over the servers, such as
            ``tf.distribute.experimental.partitioners.MinSizePartitioner(max_shards=2)``; None
            keeps each variable whole. It must be picklable.
        restarts: how often one worker's process is started again within a run.
        chief: where the chief runs: "executor", in a task of its own; or "driver", in a process
            on the driver's host, which takes no slot. Executors and driver must then reach each
            other.

    Raises:
        PlanError: a number or place makes no sense, or the partitioner is not callable.
    """

    workers: int
    servers: int = 1
    _: KW_ONLY
    partitioner: Partitioner | None = None
    restarts: int = 10
    chief: Home = "executor"

    def __post_init__(self) -> None:
        for name, least in (("workers", 1), ("servers", 1), ("restarts", 0)):
            value = getattr(self, name)
            if not is_count(value) or value < least:
                raise PlanError(
                    f"ParameterServer({name}) takes a whole number of at least {least}, "
                    f"found {value!r}."
                )
        if self.chief not in get_args(Home):
            raise PlanError(
                f"ParameterServer(chief) is one of {', '.join(get_args(Home))}, "
                f"found {self.chief!r}."
            )
        if self.partitioner is not None and not callable(self.partitioner):
            raise PlanError(
                "ParameterServer(partitioner) is a function of a variable's shape and dtype, such "
                "as those in tf.distribute.experimental.partitioners; found "
                f"{self.partitioner!r}."
            )

    @property
    def tasks(self) -> tuple[TaskId, ...]:
        """``chief:0``, then the workers, then the parameter servers."""
        workers = (TaskId(WORKER, index) for index in range(self.workers))
        servers = (TaskId(PS, index) for index in range(self.servers))
        return (TaskId(CHIEF, 0), *workers, *servers)

    @property
    def callers(self) -> tuple[TaskId, ...]:
        """The chief alone."""
        return (TaskId(CHIEF, 0),)

    def __str__(self) -> str:
        home = "" if self.chief == "executor" else f", chief={self.chief!r}"
        return f"ParameterServer({self.workers}, servers={self.servers}{home})"

    def __reduce__(self) -> tuple[Any, ...]:
        # Spark's processes read the topology too, and must not import TensorFlow for it.
        return _parameter_server, (
            self.workers,
            self.servers,
            _packed(self.partitioner),
            self.restarts,
            self.chief,
        )


@dataclass(frozen=True, slots=True)
class PackedPartitioner:
    """A partitioner on its way; unpickled where it is called."""

    pickled: bytes

    def __call__(self, *args: Any, **kwargs: Any) -> Sequence[int]:
        """As the partitioner itself."""
        partitioner: Partitioner = pickle.loads(self.pickled)
        return partitioner(*args, **kwargs)


def feeds(topology: Topology) -> tuple[int, ...]:
    """The ranks that Spark's rows go to: those that compute steps."""
    tasks = topology.tasks
    if any(task.job == PS for task in tasks):
        return tuple(rank for rank, task in enumerate(tasks) if task.job == WORKER)
    return tuple(rank for rank in range(len(tasks)) if rank not in evaluators(topology))


def serves(topology: Topology, task: TaskId) -> bool:
    """Whether the task only serves others in parameter-server training."""
    return isinstance(topology, ParameterServer) and task not in topology.callers


def on_driver(topology: Topology) -> bool:
    """Whether rank 0 runs on the driver, outside Spark's stage."""
    training = topology.training if isinstance(topology, WithEvaluator) else topology
    return isinstance(training, ParameterServer) and training.chief == "driver"


def placed(topology: Topology) -> tuple[TaskId, ...]:
    """The tasks that Spark places, each in a slot of its own, in rank order."""
    return topology.tasks[1:] if on_driver(topology) else topology.tasks


def _packed(partitioner: Partitioner | None) -> Partitioner | None:
    if partitioner is None or isinstance(partitioner, PackedPartitioner):
        return partitioner
    try:
        return PackedPartitioner(pickle.dumps(partitioner))
    # Pickling runs the object's own code: anything can come out of it.
    except Exception as error:
        raise PlanError(
            f"ParameterServer(partitioner) cannot be sent to the chief: {partitioner!r} cannot be "
            f"pickled ({error}). Use one of tf.distribute.experimental.partitioners, or a "
            "function of an importable module."
        ) from error


def _parameter_server(
    workers: int, servers: int, partitioner: Partitioner | None, restarts: int, chief: Home
) -> ParameterServer:
    return ParameterServer(
        workers, servers, partitioner=partitioner, restarts=restarts, chief=chief
    )
