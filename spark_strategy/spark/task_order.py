"""What the driver tells every rank."""

from __future__ import annotations

from dataclasses import dataclass, field

from spark_strategy.cluster import Fence
from spark_strategy.data.feed import FeedOrder
from spark_strategy.data.paths import FileRoot
from spark_strategy.plan import Orders
from spark_strategy.spark.environment import Versions
from spark_strategy.topology import Topology


@dataclass(frozen=True, slots=True)
class TaskOrder:
    """What the driver sends to every rank, inside Spark's serialized task.

    Attributes:
        topology: who takes part.
        orders: options.
        fence: run and attempt.
        secret: the run's secret.
        function: pickled function and arguments.
        driver: the driver's versions.
        submitted: when the driver submitted the stage, seconds since the epoch.
        output_address: ``host:port`` of the driver's output listener; empty for none.
        python_path: folders of the driver to import from, where it shares a machine.
        own_log: whether the executor has a log of its own, apart from the driver's console.
        feed: what the rows that Spark sends become; None where it sends none.
        evaluator: pickled ``Evaluator``; empty where none evaluates.
        evaluation_s: seconds that one evaluation may take after training.
        files: where paths without a scheme are.
        hub: ``host:port`` where the driver meets the tasks and keeps the hub, if rank 0 runs on
            it; empty where rank 0 is a task like the others.
    """

    topology: Topology
    orders: Orders
    fence: Fence
    secret: bytes = field(repr=False)
    function: bytes = field(repr=False)
    driver: Versions
    submitted: float
    output_address: str
    python_path: tuple[str, ...]
    own_log: bool
    feed: FeedOrder | None = None
    evaluator: bytes = field(default=b"", repr=False)
    evaluation_s: float = 0.0
    files: FileRoot = field(default_factory=FileRoot)
    hub: str = ""
