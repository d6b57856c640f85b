"""Who takes part in a run: tasks, their roles, and which of them run the user's function."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

from spark_strategy.errors import PlanError

# TensorFlow's name for the role.
EVALUATOR: Final = "evaluator"


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
class Independent:
    """Calls that know nothing of each other, up to ``n`` at a time; no cluster, no barrier.

    Each call is a run of its own: rank 0 of 1, TensorFlow's default strategy, no TF_CONFIG.
    ``get_context().task`` is its number, such as ``item:3``.

    Args:
        n: how many run at the same time, as far as Spark has slots; ``run`` makes ``n`` calls,
            ``map`` one for each of its items.

    Raises:
        PlanError: ``n`` is not a whole number of at least 1.
    """

    n: int

    def __post_init__(self) -> None:
        if not is_count(self.n) or self.n < 1:
            raise PlanError(f"Independent(n) takes a whole number of at least 1, found {self.n!r}.")

    @property
    def tasks(self) -> tuple[TaskId, ...]:
        """``item:0`` to ``item:n-1``, the calls of ``run``."""
        return tuple(Item(index).tasks[0] for index in range(self.n))

    @property
    def callers(self) -> tuple[TaskId, ...]:
        """Every call."""
        return self.tasks

    def __str__(self) -> str:
        return f"Independent({self.n})"


@dataclass(frozen=True, slots=True)
class ModelParallel:
    """Tensors sharded over the ranks: a DTensor mesh, ``get_context().mesh``.

    Every worker runs the function, as one client of a multi-client DTensor program.

    Args:
        workers: number of workers, each one Spark task and one TensorFlow process.
        mesh: size of each dimension of the mesh by its name, such as
            ``{"batch": 1, "model": 2}``. Their product is the number of devices, of which each
            worker has the same number: its GPUs, or as many logical CPU devices.

    Raises:
        PlanError: a number makes no sense, or the devices do not fit the workers.
    """

    workers: int
    mesh: Mapping[str, int]

    def __post_init__(self) -> None:
        if not is_count(self.workers) or self.workers < 1:
            raise PlanError(
                "ModelParallel(workers) takes a whole number of at least 1, "
                f"found {self.workers!r}."
            )
        _check_mesh(self.mesh)
        object.__setattr__(self, "mesh", dict(self.mesh))
        if math.prod(self.mesh.values()) % self.workers:
            sizes = " x ".join(map(str, self.mesh.values()))
            raise PlanError(
                f"{self} has {sizes} = {math.prod(self.mesh.values())} devices, which cannot be "
                f"the same number on each of {self.workers} workers. Make the product of the "
                "sizes a multiple of the workers."
            )

    def __hash__(self) -> int:
        return hash((self.workers, tuple(self.mesh.items())))

    @property
    def devices_per_worker(self) -> int:
        """How many devices of the mesh each worker has."""
        return math.prod(self.mesh.values()) // self.workers

    @property
    def tasks(self) -> tuple[TaskId, ...]:
        """``worker:0`` to ``worker:n-1``."""
        return tuple(TaskId("worker", index) for index in range(self.workers))

    @property
    def callers(self) -> tuple[TaskId, ...]:
        """Every worker."""
        return self.tasks

    def __str__(self) -> str:
        return f"ModelParallel({self.workers}, mesh={self.mesh})"


def _check_mesh(mesh: object) -> None:
    found = f"found {mesh!r}."
    if not isinstance(mesh, Mapping) or not mesh:
        raise PlanError(
            "ModelParallel(mesh) takes the sizes of the mesh's dimensions by name, as in "
            f"{{'batch': 1, 'model': 2}}; {found}"
        )
    for name, size in mesh.items():
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII):
            raise PlanError(f"A dimension's name is an identifier such as 'model', {found}")
        if not is_count(size) or size < 1:
            raise PlanError(f"A dimension's size is a whole number of at least 1, {found}")


@dataclass(frozen=True, slots=True)
class Item:
    """One call of an :class:`Independent` topology, as the topology of its own run."""

    index: int

    @property
    def tasks(self) -> tuple[TaskId, ...]:
        """The one call."""
        return (TaskId("item", self.index),)

    @property
    def callers(self) -> tuple[TaskId, ...]:
        """The one call."""
        return self.tasks

    def __str__(self) -> str:
        return f"item:{self.index}"


@dataclass(frozen=True, slots=True)
class WithEvaluator:
    """Another topology, and ``evaluator:0`` as the last rank, outside its cluster.

    So TensorFlow's convention has it: TF_CONFIG names the task, and the cluster lacks it.
    """

    training: Topology

    @property
    def tasks(self) -> tuple[TaskId, ...]:
        """The tasks that train, then the evaluator."""
        return (*self.training.tasks, TaskId(EVALUATOR, 0))

    @property
    def callers(self) -> tuple[TaskId, ...]:
        """Those of the training."""
        return self.training.callers

    def __str__(self) -> str:
        return f"{self.training} with an evaluator"


def evaluators(topology: Topology) -> frozenset[int]:
    """The ranks that evaluate beside the training."""
    return frozenset(rank for rank, task in enumerate(topology.tasks) if task.job == EVALUATOR)


def forms_cluster(topology: Topology) -> bool:
    """Whether the tasks must run at the same time, in one barrier stage, and meet."""
    return not isinstance(topology, Independent | Item)
