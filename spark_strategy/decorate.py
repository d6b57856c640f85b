"""``distribute``: a function that runs on Spark when it is called."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Generic, ParamSpec, TypeVar

from spark_strategy.data.columns import Column
from spark_strategy.data.feed import Cache
from spark_strategy.errors import PlanError
from spark_strategy.fed import Fed
from spark_strategy.launcher import Launcher
from spark_strategy.result import MapResult, RunResult
from spark_strategy.suggestion import did_you_mean
from spark_strategy.topology import Topology
from spark_strategy.train_function import check_function
from spark_strategy.worker.current import alone

P = ParamSpec("P")
R = TypeVar("R")


class Distributed(Generic[P, R]):
    """A function that runs on Spark when it is called.

    Attributes:
        launcher: what runs it.
    """

    runs_on_spark: ClassVar = True

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

    def map(
        self, items: Iterable[Mapping[str, Any]], *, max_failures: int | None = None
    ) -> MapResult[R]:
        """Call the function once for each item, on Spark; see :meth:`Launcher.map`."""
        return (self._fed or self.launcher).map(self._function, items, max_failures=max_failures)

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
        known = sorted(set(Launcher.__dataclass_fields__) - {"topology", "_"})
        raise PlanError(
            f"Unknown option {', '.join(unknown)}; the options are {', '.join(known)}."
            f"{did_you_mean(unknown[0], known)}"
        )
    launcher = Launcher(topology, **options)

    def decorate(function: Callable[P, R]) -> Distributed[P, R]:
        check_function(function)
        return Distributed(function, launcher)

    return decorate
