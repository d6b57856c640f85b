"""One attempt of a run: one stage, with its deadlines and its live output."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

from spark_strategy.cluster import Fence
from spark_strategy.errors import (
    CapacityError,
    DeadlineError,
    ExecutorLostError,
    SparkStrategyError,
)
from spark_strategy.late_ranks import LAST_S, TaskEnds, none_came, with_unheard
from spark_strategy.outcome import Outcome
from spark_strategy.parameter_server import feeds, on_driver, placed
from spark_strategy.plan import LaunchPlan
from spark_strategy.spark import capacity, listener, wire
from spark_strategy.spark.environment import Versions, import_path
from spark_strategy.spark.frames import Feeding, spread
from spark_strategy.spark.stage import Stage
from spark_strategy.spark.task_order import TaskOrder
from spark_strategy.topology import forms_cluster

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from spark_strategy.spark.listener import Output
    from spark_strategy.spark.on_driver import RankOnDriver

_log = logging.getLogger(__name__)

_LOOK_S: Final = 0.2
_DRAIN_S: Final = 2.0
# The ranks keep the deadlines themselves and report; the driver steps in when they cannot. One that
# misses a peer reports after ``Patience.until_missed_s`` at the latest, and then clears up.
_CLEAR_UP_S: Final = 20.0
_CANCEL_S: Final = 30.0
# Spark counts a stage's running tasks anew with its executors' heartbeats, every 10 s.
_STATUS_LAG_S: Final = 11.0


Objection = Callable[[], SparkStrategyError | None]


def no_objection() -> None:
    """The answer of those who have none."""


class Halted(Exception):  # noqa: N818 - the answer to Attempt.halt, and nobody's error
    """The attempt was ended from another thread."""


class Attempt:
    """Launches one stage and waits for its outcomes.

    Args:
        spark: the session.
        plan: what to launch.
        function: pickled function and arguments.
        feeding: the rows to feed the ranks with; None for none.
        run_id: the run's name.
        number: 0 for the first attempt.
        evaluator: pickled ``Evaluator``; empty for none.
        secret: the run's secret; None makes one.
        evaluation_s: seconds that one evaluation may take after training.
        halt: ends the attempt when it is set; None for never.
        queued: whether this attempt waits for its turn behind others of its run, which no
            deadline counts.
        objection: asked again and again while the attempt runs; an error that it returns ends the
            attempt and is raised.
    """

    def __init__(
        self,
        spark: SparkSession,
        plan: LaunchPlan,
        function: bytes,
        *,
        feeding: Feeding | None,
        run_id: str,
        number: int,
        evaluator: bytes = b"",
        secret: bytes | None = None,
        evaluation_s: float = 0.0,
        halt: threading.Event | None = None,
        queued: Callable[[], bool] = lambda: False,
        objection: Objection = no_objection,
    ) -> None:
        self._spark = spark
        self._plan = plan
        self._function = function
        self._feeding = feeding
        self._fence = Fence(run_id, number)
        self._secret = secret or wire.new_secret()
        self._evaluator, self._evaluation_s = evaluator, evaluation_s
        self._halt = halt or threading.Event()
        self._queued = queued
        self._objection = objection
        self.running = False

    def outcomes(
        self, profile: Any, show: Callable[[str], None] | None, *, shared: Output | None = None
    ) -> tuple[Outcome, ...]:
        """Launch, wait, and return each rank's outcome in rank order.

        Args:
            profile: resource profile of the stage, or None.
            show: gets each line the ranks print.
            shared: live output that listens already, for the secret of this attempt.

        Raises:
            SparkStrategyError: the stage ended before the ranks could report.
            Halted: ``halt`` was set.
        """
        ports = self._plan.orders.port_range
        output = shared or listener.listen(
            self._spark,
            self._secret,
            show,
            port_range=ports,
            lines=len(self._plan.topology.tasks),
        )
        try:
            with ExitStack() as held:
                order = self._order(output)
                chief = self._chief(order, held)
                order = chief.order if chief else order
                stage = Stage(self._spark, order, frame=self._frame(), profile=profile)
                # Whatever ends this block, an interrupt and one on top of it included.
                held.callback(stage.close, _CANCEL_S)
                stage.start()
                self._wait(stage, output, chief)
                if chief and chief.misses:
                    return chief.misses.outcomes
                outcomes = self._collected(stage, output)
                return chief.completed(outcomes) if chief else outcomes
        finally:
            self.running = False
            if output is not None:
                output.close(_DRAIN_S)

    def _chief(self, order: TaskOrder, held: ExitStack) -> RankOnDriver | None:
        """Rank 0, where it runs here."""
        if not on_driver(self._plan.topology):
            return None
        from spark_strategy.spark.on_driver import RankOnDriver

        chief = RankOnDriver(self._spark, order, cpus=self._plan.capacity.task_cpus)
        held.callback(chief.close)
        return chief

    def _frame(self) -> DataFrame | None:
        if self._feeding is None:
            return None
        topology = self._plan.topology
        tasks = placed(topology)
        targets = [tasks.index(topology.tasks[rank]) for rank in feeds(topology)]
        feeding = self._feeding
        return spread(feeding.frame, len(tasks), targets, in_order=feeding.in_order)

    def _order(self, output: Output | None) -> TaskOrder:
        # A Connect server on local[n] is still another machine, for all the client knows.
        local = not capacity.is_connect(self._spark) and capacity.is_local(self._spark.sparkContext)
        return TaskOrder(
            topology=self._plan.topology,
            orders=self._plan.orders,
            fence=self._fence,
            secret=self._secret,
            function=self._function,
            driver=Versions.here(),
            submitted=time.time(),
            output_address=output.address if output else "",
            python_path=import_path() if local else (),
            own_log=not local,
            feed=self._feeding.order if self._feeding else None,
            evaluator=self._evaluator,
            evaluation_s=self._evaluation_s,
            files=self._plan.files,
        )

    def _collected(self, stage: Stage, output: Output | None) -> tuple[Outcome, ...]:
        """The outcomes; with what the live line to the driver adds to them."""
        try:
            ended = stage.outcomes()
        except ExecutorLostError as error:
            ran = [f"{task} on {host}" for task, host in sorted(_hosts(output).items())]
            raise ExecutorLostError(f"{error}\nThe ranks: {', '.join(ran) or 'unknown'}.") from None
        if output is not None:
            output.warn_if_unheard()
        tasks = [str(task) for task in self._plan.topology.tasks]
        limit_s = self._plan.orders.start_timeout_s
        return with_unheard(ended, tasks, _hosts(output), limit_s)

    def _wait(self, stage: Stage, output: Output | None, chief: RankOnDriver | None) -> None:
        began = time.monotonic()
        started: float | None = None
        ends = TaskEnds(len(placed(self._plan.topology)))
        while not stage.wait(_LOOK_S) and not (chief and chief.misses):
            if self._halt.is_set():
                raise Halted
            now = time.monotonic()
            # Executors that cannot reach the driver do not arrive and run all the same: ask Spark.
            if started is None and (_hosts(output) or stage.progress.started):
                started, self.running = now, True
            if started is None and self._queued():
                began = now
            problem = self._objection()
            if started is None:
                problem = problem or self._not_started(now - began)
            problem = problem or self._overdue(now - (started or now), output)
            problem = problem or self._in_vain(stage, ends, started, output, chief)
            if problem is not None:
                raise problem

    def _not_started(self, elapsed_s: float) -> SparkStrategyError | None:
        orders, topology = self._plan.orders, self._plan.topology
        if elapsed_s > orders.start_timeout_s + _STATUS_LAG_S:
            return CapacityError(
                f"No task of {topology} had started when start_timeout_s="
                f"{orders.start_timeout_s:g} had passed: {self._slots()}. Wait for other work "
                "to end, ask for less, add executors, or raise start_timeout_s."
            )
        return None

    def _overdue(self, elapsed_s: float, output: Output | None) -> SparkStrategyError | None:
        orders, topology = self._plan.orders, self._plan.topology
        grace_s = orders.patience.until_missed_s + _CLEAR_UP_S
        if orders.timeout_s is not None and elapsed_s > orders.timeout_s + grace_s:
            missing = [str(task) for task in topology.tasks if str(task) not in _hosts(output)]
            return DeadlineError(
                f"{topology} still ran {grace_s:g} s after timeout_s={orders.timeout_s:g}, and "
                f"its ranks did not report. Not heard of: {', '.join(missing) or 'none'}."
            )
        return None

    def _in_vain(
        self,
        stage: Stage,
        ends: TaskEnds,
        started: float | None,
        output: Output | None,
        chief: RankOnDriver | None,
    ) -> SparkStrategyError | None:
        topology, orders, now = self._plan.topology, self._plan.orders, time.monotonic()
        progress, heard = stage.progress, _hosts(output)
        # The tasks that feed a stage are not its ranks.
        ranks_run = self._feeding is None or bool(heard)
        if (chief and chief.ended_s > LAST_S) or (
            ranks_run and ends.stand_still(tasks=progress.tasks, ended=progress.ended, now=now)
        ):
            return DeadlineError(
                f"Some ranks of {topology} have ended ({progress.ended} of {progress.tasks} "
                f"tasks), and for {LAST_S:g} s no other has. {self._running(stage)} Such a task "
                "hangs as a whole: look at its executor."
            )
        # Elsewhere executors may run well that cannot reach the driver.
        reachable = output is not None and capacity.is_local_master(self._plan.capacity.master)
        if (
            reachable
            and not heard
            and self._feeding is None
            and forms_cluster(topology)
            and none_came(now - (started or now), orders.start_timeout_s)
        ):
            return DeadlineError(
                f"No rank of {topology} had come when start_timeout_s={orders.start_timeout_s:g} "
                "had passed, though Spark runs their tasks: they hang before they can say anything."
            )
        return None

    def _running(self, stage: Stage) -> str:
        """The ranks that Spark still runs, for people."""
        tasks = placed(self._plan.topology)
        running = [
            f"{tasks[index]} on {host}" for index, host in sorted(stage.running_tasks().items())
        ]
        return f"Still running: {', '.join(running) or 'Spark does not say which'}."

    def _slots(self) -> str:
        slots, needed = self._plan.capacity.slots, len(placed(self._plan.topology))
        if slots is None:
            return f"Spark Connect does not say whether {needed} slots exist or are free"
        return f"{slots} slots exist but other work holds them"


def _hosts(output: Output | None) -> dict[str, str]:
    """Host by task, of the ranks that have reached the driver."""
    return {} if output is None else output.hosts
