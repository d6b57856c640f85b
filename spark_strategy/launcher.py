"""The driver's API: ``Launcher``; plan -> stages -> result."""

from __future__ import annotations

import logging
import secrets
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import KW_ONLY, dataclass, field
from itertools import repeat
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from spark_strategy import shipping
from spark_strategy.attempt import Attempt, Objection, no_objection
from spark_strategy.data.columns import Column
from spark_strategy.data.declarations import check_declarations
from spark_strategy.data.feed import Cache, check_cache
from spark_strategy.errors import PlanError
from spark_strategy.evaluator import Evaluator
from spark_strategy.fed import Fed
from spark_strategy.independent import Calls, End, Payload, check_map, payloads_of
from spark_strategy.parameter_server import placed
from spark_strategy.patience import USUAL, Patience
from spark_strategy.plan import Communication, LaunchPlan, Orders
from spark_strategy.result import MapResult, RunResult, result_of, run_or_error
from spark_strategy.spark import session
from spark_strategy.spark.arguments import check_session
from spark_strategy.spark.frames import Feeding, feeding
from spark_strategy.spark.resources import planned
from spark_strategy.topology import Independent, Topology, WithEvaluator, forms_cluster
from spark_strategy.train_function import check_call
from spark_strategy.worker.current import refuse_in_rank

if TYPE_CHECKING:
    from pyspark.resource import ResourceProfile
    from pyspark.sql import SparkSession

_log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

_REPORTED_ENV: Final = ("NCCL_", "UCX_", "TF_")
# Those whose values are reported too: what they take is public. Any other may hold a secret.
_HARMLESS_ENV: Final = frozenset(
    {
        *("NCCL_ALGO", "NCCL_DEBUG", "NCCL_IB_DISABLE", "NCCL_IB_HCA", "NCCL_NET_GDR_LEVEL"),
        *("NCCL_P2P_DISABLE", "NCCL_P2P_LEVEL", "NCCL_PROTO", "NCCL_SHM_DISABLE"),
        *("NCCL_SOCKET_IFNAME", "UCX_NET_DEVICES", "UCX_TLS", "TF_CPP_MIN_LOG_LEVEL"),
        *("TF_DETERMINISTIC_OPS", "TF_ENABLE_ONEDNN_OPTS", "TF_FORCE_GPU_ALLOW_GROWTH"),
        *("TF_GPU_ALLOCATOR", "TF_GPU_THREAD_MODE", "TF_NUM_INTEROP_THREADS"),
        *("TF_NUM_INTRAOP_THREADS", "TF_USE_LEGACY_KERAS", "TF_XLA_FLAGS"),
    }
)


def to_stdout(line: str) -> None:
    """Write one line of a rank's output to what ``sys.stdout`` is now."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


@dataclass(frozen=True)
class Launcher:
    """Runs functions on Spark, each rank in a TensorFlow process of its own.

    Args:
        topology: who takes part, such as ``MultiWorker(4)``.
        spark: the session; by default the active one, or a local one that is made and kept.
        start_timeout_s: seconds until every rank must run the function.
        timeout_s: seconds for the whole run; None for no limit.
        gpus_per_worker: GPUs for each rank that Spark is to assign; 0 hides all, None takes any.
        resources: a Spark ``ResourceProfile`` for the stage, instead of the session's.
        communication: collective implementation: "auto", "ring" or "nccl".
        port_range: first and last port that ranks and driver may listen on.
        interface: network interface name, or subnet such as ``10.1.0.0/16``, of the ranks.
        env: environment variables of the ranks' processes.
        scope: whether the function runs inside ``strategy.scope()``, or builds its own strategy.
        patience: how long the ranks' tasks wait for each other: silences, graces, connections.
        evaluator: evaluates checkpoints in one more rank, beside the training.
        logs: called on the driver with each line the ranks print; None leaves the lines to
            the executors' logs (on ``local[n]``, which has none, to a failure's last lines).

    Raises:
        PlanError: an option makes no sense.
    """

    topology: Topology
    _: KW_ONLY
    spark: SparkSession | None = None
    start_timeout_s: float = 300.0
    timeout_s: float | None = None
    gpus_per_worker: int | None = None
    resources: ResourceProfile | None = None
    communication: Communication = "auto"
    port_range: tuple[int, int] | None = None
    interface: str | None = None
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    scope: bool = True
    patience: Patience = USUAL
    evaluator: Evaluator | None = None
    logs: Callable[[str], None] | None = to_stdout

    def __post_init__(self) -> None:
        if not isinstance(self.topology, Topology):
            raise PlanError(
                "A topology comes first, as in @distribute(MultiWorker(2)); found "
                f"{self.topology!r}."
            )
        if self.logs is not None and not callable(self.logs):
            raise PlanError(f"logs is a function of one line, or None; found {self.logs!r}.")
        if not isinstance(self.scope, bool):
            raise PlanError(f"scope is True or False, found {self.scope!r}.")
        if self.evaluator is not None and not isinstance(self.evaluator, Evaluator):
            raise PlanError(
                "evaluator is an Evaluator, as in Evaluator(evaluate, checkpoints); found "
                f"{self.evaluator!r}."
            )
        if self.spark is not None:
            check_session(self.spark)
        if self.evaluator is not None and not forms_cluster(self.topology):
            raise PlanError(f"evaluator= stands beside a training, and {self.topology} has none.")
        self._orders()

    def __getstate__(self) -> dict[str, Any]:
        # A decorated function may refer to itself; the driver's session stays on the driver.
        return {**self.__dict__, "spark": None, "logs": None, "resources": None, "evaluator": None}

    def plan(self) -> LaunchPlan:
        """What would be launched; print it for a dry run.

        Raises:
            CapacityError: Spark cannot host it.
        """
        return self._planned(self._session())[0]

    def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> RunResult[R]:
        """Run ``function(*args, **kwargs)`` on every rank.

        Raises:
            PlanError: the function or an argument cannot be pickled.
            CapacityError: Spark cannot host the run.
            SparkStrategyError: the run failed; ``errors`` says what each class asks for.
        """
        return self._run(None, function, args, kwargs)

    def on(
        self, data: Any, *, columns: Mapping[str, Column] | None = None, cache: Cache | None = None
    ) -> Fed:
        """Feed the ranks with a DataFrame: ``launcher.on(df).run(train)``.

        Spark spreads the rows over the ranks; each rank's process gets its share by
        ``get_context().dataset(...)``. Every column travels: select the ones you need.

        Args:
            data: a DataFrame (named "train"), or a dictionary of them by name. An RDD of rows,
                a pandas DataFrame or an Arrow table does as well.
            columns: what a column's type does not say: the shape of arrays, what stands for
                null, another dtype.
            cache: where a rank keeps its rows for later epochs; by default on the executor's
                scratch disk.

        Raises:
            PlanError: a column cannot become a tensor; it and its type are named.
        """
        refuse_in_rank()
        check_declarations(columns)
        check_cache(cache)
        return Fed(self, feeding(data, self._session, columns=columns, cache=cache or Cache()))

    def map(
        self,
        function: Callable[..., R],
        items: Iterable[Mapping[str, Any]],
        *,
        max_failures: int | None = None,
    ) -> MapResult[R]:
        """Run ``function(**item)`` once for each item; for ``Independent``.

        Args:
            function: what to call; each call has a process of its own.
            items: the arguments of each call, by name; a list, or anything that gives them one
                by one, of which one is taken when its call can begin. Up to ``n`` calls of
                ``Independent(n)`` run at the same time, in the order of the items.
            max_failures: how many calls may fail before the rest is stopped; by default any
                number, and every item gets its call.

        Returns:
            The value or the error of each item, in the order of the items. Failed calls do not
            raise; :attr:`MapResult.values` does.

        Raises:
            PlanError: another topology, or an argument that makes no sense. That a later item than
                the first cannot be pickled is the error of that item alone.
        """
        return self._map(None, function, items, max_failures)

    def _run(
        self,
        rows: Feeding | None,
        function: Callable[..., R],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        objection: Objection = no_objection,
    ) -> RunResult[R]:
        check_call(function, args, kwargs)
        payload = shipping.pickled(function, args, kwargs)
        if isinstance(self.topology, Independent):
            payloads = repeat(payload, self.topology.n)
            with closing(self._calls(rows, payloads, max_failures=0)) as calls:
                ended = dict(calls)
            return result_of([ended[index] for index in sorted(ended)], self._settings())
        with self._launched(rows) as (spark, plan, profile, run_id):
            attempt = Attempt(
                spark,
                plan,
                payload,
                feeding=rows,
                run_id=run_id,
                number=0,
                evaluator=self._evaluator(),
                evaluation_s=self.evaluator.timeout_s if self.evaluator else 0.0,
                objection=objection,
            )
            outcomes = attempt.outcomes(profile, self.logs)
        return result_of(outcomes, self._settings())

    def _map(
        self,
        rows: Feeding | None,
        function: Callable[..., R],
        items: Iterable[Mapping[str, Any]],
        max_failures: int | None,
    ) -> MapResult[R]:
        check_map(self.topology, items, max_failures)
        taken: list[Mapping[str, Any]] = []
        payloads, settings = payloads_of(function, items, taken), self._settings()
        with closing(self._calls(rows, payloads, max_failures=max_failures)) as calls:
            runs = {index: run_or_error(end, settings) for index, end in calls}  # not kept twice
        return MapResult(tuple(taken), tuple(runs[index] for index in range(len(taken))))

    def _calls(
        self, rows: Feeding | None, payloads: Iterable[Payload], *, max_failures: int | None
    ) -> Generator[tuple[int, End], None, None]:
        """The number of each call that has ended, and how."""
        with self._launched(rows) as (spark, plan, profile, run_id):
            calls = Calls(spark, plan, feeding=rows, run_id=run_id, profile=profile)
            yield from calls.ends(payloads, self.logs, max_failures=max_failures)

    @contextmanager
    def _launched(
        self, rows: Feeding | None
    ) -> Iterator[tuple[SparkSession, LaunchPlan, ResourceProfile | None, str]]:
        """Session, plan, resource profile and name of a run."""
        refuse_in_rank()
        spark = rows.frame.sparkSession if rows else self._session()
        plan, profile = self._planned(spark)
        _log.info("Launching %s on %s", self.topology, plan.capacity.master)
        began = time.monotonic()
        yield spark, plan, profile, secrets.token_hex(8)
        _log.info("Finished %s after %.1f s", self.topology, time.monotonic() - began)

    @property
    def _everyone(self) -> Topology:
        return WithEvaluator(self.topology) if self.evaluator else self.topology

    def _evaluator(self) -> bytes:
        if self.evaluator is None:
            return b""
        args = (self.evaluator.checkpoints,)
        kwargs = {"tensorboard": self.evaluator.tensorboard}
        return shipping.pickled(self.evaluator.evaluate, args, kwargs)

    def _session(self) -> SparkSession:
        return self.spark or session.active_or_local(self._at_once)

    @property
    def _at_once(self) -> int:  # independent calls take what slots there are
        return len(placed(self._everyone)) if forms_cluster(self.topology) else 0

    def _planned(self, spark: SparkSession) -> tuple[LaunchPlan, ResourceProfile | None]:
        return planned(spark, self._everyone, self._orders(), self.resources)

    def _orders(self) -> Orders:
        return Orders(**{name: getattr(self, name) for name in Orders.__dataclass_fields__})

    def _settings(self) -> dict[str, str]:
        given = {
            name: value if name in _HARMLESS_ENV else "(set)"
            for name, value in sorted(self.env.items())
            if name.startswith(_REPORTED_ENV)
        }
        interface = {"interface": self.interface} if self.interface else {}
        return {"communication": self.communication, **interface, **given}
