"""Who a child is: what the Spark task tells it through their folder."""

from __future__ import annotations

from dataclasses import dataclass, field

from spark_strategy.cluster import Fence
from spark_strategy.data.feed import FeedOrder
from spark_strategy.data.paths import FileRoot
from spark_strategy.parameter_server import WORKER, ParameterServer
from spark_strategy.patience import USUAL
from spark_strategy.plan import Communication
from spark_strategy.topology import TaskId, Topology


@dataclass(frozen=True, slots=True)
class ChildOrder:
    """Who a child is and how it sets up TensorFlow.

    Attributes:
        topology: the run's topology.
        rank: the child's rank in it.
        fence: run and attempt.
        communication: collective implementation.
        scope: whether the function runs inside ``strategy.scope()``.
        gpus: GPUs TensorFlow must see; None to not look.
        deadline_s: seconds to wait for the cluster.
        heartbeat_s: seconds for which TensorFlow's own heartbeat may be missing.
        feed: what Spark feeds it with; None for nothing.
        spool: the folder of its rows.
        files: where paths without a scheme are.
        spark_files: the folder of what Spark's ``addFile`` has sent to the executor.
    """

    topology: Topology
    rank: int
    fence: Fence
    communication: Communication
    scope: bool
    gpus: int | None
    deadline_s: float
    heartbeat_s: int = USUAL.heartbeat_s
    feed: FeedOrder | None = None
    spool: str = ""
    files: FileRoot = field(default_factory=FileRoot)
    spark_files: str = ""

    @property
    def restarts(self) -> int:
        """How often the process may be started again: a worker's, of parameter-server training."""
        topology = self.topology
        if not isinstance(topology, ParameterServer) or self.task.job != WORKER:
            return 0
        return topology.restarts

    @property
    def task(self) -> TaskId:
        """The child's task."""
        return self.topology.tasks[self.rank]
