"""Who takes part in a run: tasks, their roles, and which of them run the user's function."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Final, Protocol, runtime_checkable

from spark_strategy.errors import PlanError

# TensorFlow's names for the roles of parameter-server training.
CHIEF: Final = "chief"
WORKER: Final = "worker"
PS: Final = "ps"

# As ``tf.distribute.experimental.partitioners``: (shape, dtype) -> shards along each axis.
Partitioner = Callable[..., Sequence[int]]


def is_count(value: object) -> bool:
    """Whether ``value`` is a whole number of at least 0; True and False are not."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


@dataclass(frozen=True, slots=True, order=True)
class TaskId:
    """One task of a TensorFlow cluster, printed as TensorFlow does: ``worker:1``."""

    job: str
    index: int

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z]+", self.job):
            raise PlanError(f"A job name is lower-case letters, found {self.job!r}.")
        if self.index < 0:
            raise PlanError(f"A task index starts at 0, found {self.index}.")

    def __str__(self) -> str:
        return f"{self.job}:{self.index}"

    @classmethod
    def parse(cls, text: str) -> TaskId:
        """The task that prints as ``text``."""
        job, _, index = text.partition(":")
        if not index.isdecimal():
            raise PlanError(f"A task reads like worker:1, found {text!r}.")
        return cls(job, int(index))


@runtime_checkable
class Topology(Protocol):
    """What every topology answers; frozen, comparable, and printed as it was written."""

    @property
    def tasks(self) -> tuple[TaskId, ...]:
        """All tasks in rank order; the position is the rank."""
        ...

    @property
    def callers(self) -> tuple[TaskId, ...]:
        """The tasks that run the user's function, in rank order; the first one is the chief."""
        ...


@dataclass(frozen=True, slots=True)
class MultiWorker:
    """Synchronous data parallelism: ``tf.distribute.MultiWorkerMirroredStrategy``.

    Every worker runs the function; worker 0 acts as the chief (TensorFlow's own rule for
    a cluster without a ``chief`` job).

    Args:
        workers: number of workers, each one Spark task and one TensorFlow process.

    Raises:
        PlanError: ``workers`` is not a whole number of at least 1.
    """

    workers: int

    def __post_init__(self) -> None:
        if not is_count(self.workers) or self.workers < 1:
            raise PlanError(
                f"MultiWorker(workers) takes a whole number of at least 1, found {self.workers!r}."
            )

    @property
    def tasks(self) -> tuple[TaskId, ...]:
        """``worker:0`` to ``worker:n-1``."""
        return tuple(TaskId("worker", index) for index in range(self.workers))

    @property
    def callers(self) -> tuple[TaskId, ...]:
        """Every worker."""
        return self.tasks

    def __str__(self) -> str:
        return f"MultiWorker({self.workers})"


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

    Raises:
        PlanError: a number makes no sense, or the partitioner is not callable.
    """

    workers: int
    servers: int = 1
    _: KW_ONLY
    partitioner: Partitioner | None = None
    restarts: int = 10

    def __post_init__(self) -> None:
        for name, least in (("workers", 1), ("servers", 1), ("restarts", 0)):
            value = getattr(self, name)
            if not is_count(value) or value < least:
                raise PlanError(
                    f"ParameterServer({name}) takes a whole number of at least {least}, "
                    f"found {value!r}."
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
        return f"ParameterServer({self.workers}, servers={self.servers})"

    def __reduce__(self) -> tuple[Any, ...]:
        # Spark's processes read the topology too, and must not import TensorFlow for it.
        return _parameter_server, (
            self.workers,
            self.servers,
            _packed(self.partitioner),
            self.restarts,
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
    return tuple(range(len(tasks)))


def serves(topology: Topology, task: TaskId) -> bool:
    """Whether the task only serves others in parameter-server training."""
    return isinstance(topology, ParameterServer) and task not in topology.callers


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
    workers: int, servers: int, partitioner: Partitioner | None, restarts: int
) -> ParameterServer:
    return ParameterServer(workers, servers, partitioner=partitioner, restarts=restarts)
