"""Which columns a model is asked with, and how: the driver's decisions."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from spark_strategy.data.columns import Column, ColumnSpec, specs_of
from spark_strategy.data.declarations import check_declarations
from spark_strategy.data.inputs import Features, declared
from spark_strategy.data.schema import leaves, position_of
from spark_strategy.errors import PlanError
from spark_strategy.spark.expressions import selected
from spark_strategy.spark.frames import specs_for
from spark_strategy.topology import is_count
from spark_strategy.worker.selection import Selection

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from spark_strategy.spark.scoring import Limits, OnError


@dataclass(frozen=True, slots=True)
class Ask:
    """How rows are to be scored; the arguments of :func:`predict`.

    Raises:
        PlanError: one makes no sense.
    """

    features: Features
    batch_size: int
    on_error: OnError
    columns: Mapping[str, Column]
    limits: Limits

    def __post_init__(self) -> None:
        check_declarations(self.columns)
        if not is_count(self.batch_size) or not self.batch_size:
            raise PlanError(
                f"batch_size is a whole number of at least 1, found {self.batch_size!r}."
            )
        if self.on_error not in ("raise", "null"):
            raise PlanError(f'on_error is "raise" or "null", found {self.on_error!r}.')
        for name in ("idle_s", "start_timeout_s", "timeout_s"):
            found = getattr(self.limits, name)
            if not isinstance(found, int | float) or not found > 0:
                raise PlanError(f"{name} is a number of seconds above 0, found {found!r}.")
        if not is_count(self.limits.max_models) or not self.limits.max_models:
            raise PlanError(
                f"max_models is a whole number of at least 1, found {self.limits.max_models!r}."
            )
        largest = self.limits.max_bytes
        if largest is not None and (not is_count(largest) or not largest):
            raise PlanError(f"max_bytes is a number of bytes above 0, or None; found {largest!r}.")


@dataclass(frozen=True, slots=True)
class Fixed:
    """Columns that are known on the driver; travels to the tasks."""

    specs: tuple[ColumnSpec, ...]
    program: bytes

    def __call__(self, types: Sequence[Any]) -> tuple[tuple[ColumnSpec, ...], bytes]:
        """These columns, whatever types arrive."""
        del types
        return self.specs, self.program


def canonical(
    specs: Sequence[ColumnSpec], features: Features
) -> tuple[tuple[ColumnSpec, ...], bytes]:
    """The columns that are needed, and what a server is told of them.

    A server is told no names and nothing that only a task must know, so that it serves DataFrames
    whose columns are called otherwise as well.
    """
    used = set(Selection(features).named())
    chosen = tuple(spec for spec in specs if spec.name in used)
    Selection(features).resolved(chosen)
    names = {spec.name: f"c{place}" for place, spec in enumerate(chosen)}
    plain = tuple(
        replace(
            spec,
            name=names[spec.name],
            path=(names[spec.name],),
            spark_type="",
            pad=None,
            fill=None,
            is_vector=False,
        )
        for spec in chosen
    )
    resolved = Selection(_renamed(features, names)).resolved(plain)
    return chosen, pickle.dumps((plain, resolved))


def _renamed(features: Features, names: Mapping[str, str]) -> Features:
    if isinstance(features, str):
        return names[features]
    if isinstance(features, Mapping):
        return {key: _renamed(one, names) for key, one in features.items()}  # type: ignore[misc]
    return [names[one] for one in features]


def fitted(df: DataFrame, ask: Ask, inputs: Sequence[Any]) -> tuple[tuple[ColumnSpec, ...], bytes]:
    """The columns of a DataFrame that a model with these inputs needs; see :func:`canonical`.

    Raises:
        PlanError: they do not fit the model, or are not there.
    """
    used = list(Selection(ask.features).named())
    schema = df.schema.jsonValue()
    frame = selected(df, dict.fromkeys(position_of(schema, name) for name in used))
    known = {leaf.name: leaf for leaf in leaves(frame.schema.jsonValue())}
    if unknown := sorted({*used, *ask.columns} - set(known)):
        raise PlanError(f"There is no column {unknown[0]!r}; the columns are {', '.join(known)}.")
    columns = declared(known, ask.features, inputs, ask.columns)
    if df.isStreaming:
        specs = specs_of(frame.schema.jsonValue(), columns)
        if without := [one.name for one in specs if one.needs_length and one.name in used]:
            raise PlanError(
                f"Neither the model nor a stream says how long the arrays in {without[0]!r} are. "
                f"Declare it, as in columns={{{without[0]!r}: Column(shape=(784,))}}."
            )
    else:
        specs = specs_for(frame, columns)
    return canonical(specs, ask.features)
