"""The driver's API: ``Launcher`` and ``distribute``; plan -> stage -> result."""

from __future__ import annotations

import functools
import logging
import secrets
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, Final, Generic, ParamSpec, TypeVar

from spark_strategy import shipping
from spark_strategy.attempt import Attempt
from spark_strategy.data.columns import Column
from spark_strategy.data.feed import Cache
from spark_strategy.errors import PlanError
from spark_strategy.plan import Communication, LaunchPlan, Orders
from spark_strategy.result import RunResult, result_of
from spark_strategy.spark import capacity, session
from spark_strategy.spark.frames import Feeding, feeding
from spark_strategy.spark.resources import profile_for
from spark_strategy.topology import Topology
from spark_strategy.worker.context import alone

if TYPE_CHECKING:
    from pyspark.resource import ResourceProfile
    from pyspark.sql import SparkSession

_log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

_REPORTED_ENV: Final = ("NCCL_", "UCX_", "TF_")


def to_stdout(line: str) -> None:
    """Write one line of a rank's output to what ``sys.stdout`` is now."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


@dataclass(frozen=True)
class Launcher:
    """Runs functions on Spark, each rank in a TensorFlow process of its own.

    Args:
        topology: who takes part, such as ``MultiWorker(4)``.
        spark: the session; by default the active one, or a local one made for the run.
        start_timeout_s: seconds until every rank must run the function.
        timeout_s: seconds for the whole run; None for no limit.
        gpus_per_worker: GPUs for each rank, through Spark's resource scheduling; 0 hides
            them; None takes what the session assigns to its tasks.
        resources: a Spark ``ResourceProfile`` for the stage, instead of the session's.
        communication: collective implementation: "auto", "ring" or "nccl".
        port_range: first and last port that ranks and driver may listen on.
        interface: network interface name, or subnet such as ``10.1.0.0/16``, that the
            ranks use among themselves; by default the one Spark uses.
        env: environment variables of the ranks' processes.
        scope: whether the function runs inside ``strategy.scope()``; with False it builds
            its own strategy, for which TF_CONFIG is set.
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
    env: Mapping[str, str] = field(default_factory=dict)
    scope: bool = True
    logs: Callable[[str], None] | None = to_stdout

    def __post_init__(self) -> None:
        if not isinstance(self.topology, Topology):
            raise PlanError(
                "A topology comes first, as in @distribute(MultiWorker(2)); found "
                f"{self.topology!r}."
            )
        if self.logs is not None and not callable(self.logs):
            raise PlanError(f"logs is a function of one line, or None; found {self.logs!r}.")
        self._orders()

    def __getstate__(self) -> dict[str, Any]:
        # A decorated function may refer to itself; the driver's session stays on the driver.
        return {**self.__dict__, "spark": None, "logs": None, "resources": None}

    def plan(self) -> LaunchPlan:
        """What would be launched; print it for a dry run.

        Raises:
            CapacityError: Spark cannot host it.
        """
        return self._plan(self._session())

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
        return Fed(self, feeding(data, self._session, columns=columns, cache=cache or Cache()))

    def _run(
        self,
        rows: Feeding | None,
        function: Callable[..., R],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> RunResult[R]:
        payload = shipping.pickled(function, args, kwargs)
        spark = rows.frame.sparkSession if rows else self._session()
        plan = self._plan(spark)
        profile = profile_for(plan, self.resources)
        _log.info("Launching %s on %s", self.topology, plan.capacity.master)
        began = time.monotonic()
        run_id = secrets.token_hex(8)
        attempt = Attempt(spark, plan, payload, feeding=rows, run_id=run_id, number=0)
        result: RunResult[R] = result_of(attempt.outcomes(profile, self.logs), self._settings())
        _log.info("Finished %s after %.1f s", self.topology, time.monotonic() - began)
        return result

    def _session(self) -> SparkSession:
        return self.spark or session.active_or_local(len(self.topology.tasks))

    def _plan(self, spark: SparkSession) -> LaunchPlan:
        found = capacity.read(spark, tasks=len(self.topology.tasks))
        return LaunchPlan(self.topology, self._orders(), found)

    def _orders(self) -> Orders:
        return Orders(**{name: getattr(self, name) for name in Orders.__dataclass_fields__})

    def _settings(self) -> dict[str, str]:
        given = {k: v for k, v in sorted(self.env.items()) if k.startswith(_REPORTED_ENV)}
        interface = {"interface": self.interface} if self.interface else {}
        return {"communication": self.communication, **interface, **given}


class Fed:
    """A launcher with rows for its ranks; what :meth:`Launcher.on` gives.

    Attributes:
        launcher: what runs functions.
        feeding: the rows.
    """

    def __init__(self, launcher: Launcher, rows: Feeding) -> None:
        self.launcher = launcher
        self.feeding = rows

    def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> RunResult[R]:
        """Run ``function(*args, **kwargs)`` on every rank, fed; see :meth:`Launcher.run`."""
        return self.launcher._run(self.feeding, function, args, kwargs)  # noqa: SLF001 - its half

    @property
    def element_spec(self) -> dict[str, Any]:
        """The tensors of a batch, by column: ``tf.TensorSpec`` or ``tf.RaggedTensorSpec``.

        Of several DataFrames a dictionary of these by name. Imports TensorFlow.
        """
        from spark_strategy.worker.blocks import element_spec

        columns = self.feeding.order.columns
        specs = {name: element_spec(group) for name, group in columns.items()}
        return specs if len(specs) > 1 else next(iter(specs.values()))


class Distributed(Generic[P, R]):
    """A function that runs on Spark when it is called.

    Attributes:
        launcher: what runs it.
    """

    def __init__(
        self, function: Callable[P, R], launcher: Launcher, fed: Fed | None = None
    ) -> None:
        self._function = function
        self._fed = fed
        self.launcher = launcher
        functools.update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run on Spark; the chief's value."""
        return self.run(*args, **kwargs).value

    def __get__(self, owner: object, kind: type | None = None) -> Any:
        """As a method: bound to its object, like any function."""
        if owner is None:
            return self
        bound = self._function.__get__(owner, kind)
        return Distributed(bound, self.launcher, self._fed)

    def on(
        self, data: Any, *, columns: Mapping[str, Column] | None = None, cache: Cache | None = None
    ) -> Distributed[P, R]:
        """The same function, fed with a DataFrame: ``train.on(df)(epochs=3)``.

        Arguments as for :meth:`Launcher.on`.
        """
        return Distributed(
            self._function, self.launcher, self.launcher.on(data, columns=columns, cache=cache)
        )

    @property
    def element_spec(self) -> dict[str, Any]:
        """The tensors of a batch; see :attr:`Fed.element_spec`.

        Raises:
            PlanError: there is no DataFrame yet.
        """
        if self._fed is None:
            raise PlanError("There is no DataFrame yet; name one, as in train.on(df).element_spec.")
        return self._fed.element_spec

    def run(self, *args: P.args, **kwargs: P.kwargs) -> RunResult[R]:
        """Run on Spark; every rank's value, and how it went."""
        return (self._fed or self.launcher).run(self._function, *args, **kwargs)

    def local(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the plain function, here, without Spark."""
        with alone():
            return self._function(*args, **kwargs)


def distribute(topology: Topology, **options: Any) -> Callable[[Callable[P, R]], Distributed[P, R]]:
    """Decorate a function so that calling it runs it on Spark.

    Args:
        topology: who takes part, such as ``MultiWorker(2)``.
        **options: see :class:`Launcher`.

    Raises:
        PlanError: an option is unknown or makes no sense.
    """
    unknown = sorted(set(options) - set(Launcher.__dataclass_fields__))
    if unknown:
        known = ", ".join(sorted(set(Launcher.__dataclass_fields__) - {"topology", "_"}))
        raise PlanError(f"Unknown option {', '.join(unknown)}; the options are {known}.")
    launcher = Launcher(topology, **options)

    def decorate(function: Callable[P, R]) -> Distributed[P, R]:
        if not callable(function):
            raise PlanError(f"distribute decorates a function, found {function!r}.")
        return Distributed(function, launcher)

    return decorate
