"""A launcher together with the rows that its ranks are fed with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from spark_strategy.attempt import Objection, no_objection

if TYPE_CHECKING:
    from spark_strategy.launcher import Launcher
    from spark_strategy.result import MapResult, RunResult
    from spark_strategy.spark.frames import Feeding

P = ParamSpec("P")
R = TypeVar("R")


class Fed:
    """A launcher with rows for its ranks; what :meth:`Launcher.on` gives.

    Attributes:
        launcher: what runs functions.
        feeding: the rows.
    """

    def __init__(
        self, launcher: Launcher, rows: Feeding, *, objection: Objection = no_objection
    ) -> None:
        self.launcher = launcher
        self.feeding = rows
        self._objection = objection

    def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> RunResult[R]:
        """Run ``function(*args, **kwargs)`` on every rank, fed; see :meth:`Launcher.run`."""
        run = self.launcher._run  # noqa: SLF001 - its half
        return run(self.feeding, function, args, kwargs, self._objection)

    def map(
        self,
        function: Callable[..., R],
        items: Iterable[Mapping[str, Any]],
        *,
        max_failures: int | None = None,
    ) -> MapResult[R]:
        """The same for each item, each call fed with all rows; see :meth:`Launcher.map`."""
        return self.launcher._map(self.feeding, function, items, max_failures)  # noqa: SLF001

    @property
    def element_spec(self) -> dict[str, Any]:
        """The tensors of a batch, by column: ``tf.TensorSpec`` or ``tf.RaggedTensorSpec``.

        Of several DataFrames a dictionary of these by name. Imports TensorFlow.
        """
        from spark_strategy.worker.blocks import element_spec

        columns = self.feeding.order.columns
        specs = {name: element_spec(group) for name, group in columns.items()}
        return specs if len(specs) > 1 else next(iter(specs.values()))
