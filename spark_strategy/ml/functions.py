"""Functions of columns that score rows with a model, for DataFrames and for SQL."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from spark_strategy.data.columns import specs_of
from spark_strategy.data.inputs import Features, Input, declared
from spark_strategy.data.schema import leaves
from spark_strategy.errors import PlanError
from spark_strategy.ml.asking import Ask, canonical
from spark_strategy.ml.models import described
from spark_strategy.ml.outputs import type_of
from spark_strategy.ml.shipment import shipped
from spark_strategy.serving import Output
from spark_strategy.spark.arguments import check_session
from spark_strategy.spark.capacity import executor_cores
from spark_strategy.spark.session import own_python, short_errors

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from spark_strategy.data.columns import ColumnSpec
    from spark_strategy.spark.scoring import Fitting, OnError


def function(
    spark: SparkSession,
    source: Any,
    ask: Ask,
    *,
    fitting: Fitting,
    replied: tuple[Output, ...],
    head: Any | None = None,
    vectors: frozenset[str] = frozenset(),
    owner: object = None,
) -> Any:
    """The function of columns that scores them.

    Args:
        spark: the session.
        source: the model, to send.
        ask: how.
        fitting: says in the tasks what the columns become.
        replied: what the model gives.
        head: makes its ``outputs`` of that, in the tasks.
        vectors: outputs that become vectors.
        owner: what the user holds of the model; while it is there, the model is not sent again.
    """
    from pyspark.sql import functions

    from spark_strategy.spark.scoring import Scoring

    outputs = replied if head is None else head.outputs
    scoring = Scoring(
        key=source.key,
        name=_called(owner),
        model=shipped(spark, source, owner),
        fitting=fitting,
        replied=replied,
        head=head,
        outputs=outputs,
        vectors=vectors,
        nested=len(outputs) > 1,
        batch_size=ask.batch_size,
        on_error=ask.on_error,
        limits=ask.limits,
        cores=executor_cores(spark),
    )
    arrow_udf = getattr(functions, "arrow_udf", None)
    if arrow_udf is None:
        raise PlanError("predict needs PySpark 4.1 or newer, for its Arrow functions.")

    def score(batches: Any) -> Any:
        from spark_strategy.spark import scoring as executor
        from spark_strategy.spark.session import traceback_kept

        with traceback_kept():
            yield from executor.score(scoring, batches)

    # Spark tells the kind of a function by its hints, and cannot read those of this file as text.
    score.__annotations__ = {"batches": Iterator[pa.Array], "return": Iterator[pa.Array]}
    return arrow_udf(score, type_of(outputs, vectors))


def register_udf(
    spark: SparkSession,
    name: str,
    model: Any,
    *,
    batch_size: int = 1024,
    on_error: OnError = "raise",
    signature: str | None = None,
    weights: Any = None,
    idle_s: float = 300.0,
    start_timeout_s: float = 300.0,
    timeout_s: float = 600.0,
    max_models: int = 4,
    max_bytes: int | None = None,
) -> Any:
    """Make a model a SQL function: ``SELECT score(a, b) FROM t``.

    A model with one input takes one argument (a number or an array), or several that become one
    matrix; a model with several inputs takes one argument for each, in its order. Several outputs
    come as a struct. Everything else is as for ``predict``.

    The function is deterministic for Spark, so that it may stand wherever a built-in one may: in
    an aggregate, FILTER, HAVING, a lateral join. In return Spark may compute it twice for a row.

    Returns:
        The function, to be called with columns as well.

    Raises:
        PlanError: an argument makes no sense, or the model does not tell its inputs.
    """
    from spark_strategy.spark.scoring import Limits

    check_session(spark)
    if not re.fullmatch(r"[A-Za-z_]\w*", str(name), re.ASCII):
        raise PlanError(f"A SQL function's name is an identifier such as 'score', found {name!r}.")
    source, program = described(model, signature, weights, spark)
    ask = Ask(
        features="argument 1",
        batch_size=batch_size,
        on_error=on_error,
        columns={},
        limits=Limits(idle_s, start_timeout_s, timeout_s, max_models, max_bytes),
    )
    inputs = program.inputs
    if not inputs or any(None in one.shape for one in inputs):
        raise PlanError(
            f"{name} must know the model's inputs before it is called, and the model does not tell "
            "them, or not their lengths. Give it keras.Input layers, or use predict."
        )
    replied = program.outputs(_element_spec(inputs))
    made = function(spark, source, ask, fitting=Arguments(inputs), replied=replied, owner=model)
    with own_python(spark), short_errors(spark):
        return spark.udf.register(name, made)


@dataclass(frozen=True, slots=True)
class Arguments:
    """The arguments of a SQL function, whose types are known when rows arrive.

    Attributes:
        inputs: of the model.
    """

    inputs: tuple[Input, ...]

    def __call__(self, types: Sequence[Any]) -> tuple[tuple[ColumnSpec, ...], bytes]:
        """Their columns, called "argument 1" and so on.

        Raises:
            PlanError: they do not fit the model.
        """
        from pyspark.sql.pandas.types import from_arrow_schema

        names = [f"argument {place}" for place, _ in enumerate(types, 1)]
        for name, kind in zip(names, types, strict=True):
            if pa.types.is_struct(kind):
                raise PlanError(
                    f"{name.capitalize()} is {kind}, and the function takes numbers, texts and "
                    "arrays. Use vector_to_array for a vector, and the fields of a struct."
                )
        schema = from_arrow_schema(pa.schema(list(zip(names, types, strict=True)))).jsonValue()
        features = self._features(names)
        known = {leaf.name: leaf for leaf in leaves(schema)}
        specs = specs_of(schema, declared(known, features, self.inputs, {}))
        if without := [one.name for one in specs if one.needs_length]:
            raise PlanError(f"The model does not say how long the arrays of {without[0]} are.")
        self._check_width(specs)
        return canonical(specs, features)

    def _check_width(self, specs: Sequence[ColumnSpec]) -> None:
        """Refuse another number of values in a row than a model with one flat input takes."""
        if len(self.inputs) != 1 or len(self.inputs[0].shape) != 1:
            return
        (wanted,) = self.inputs[0].shape
        found = sum(math.prod(size or 0 for size in spec.shape) for spec in specs)
        if found != wanted:
            raise PlanError(
                f"The function was called with {found} values for each row, and the model takes "
                f"{wanted}: give as many numbers, or an array of them."
            )

    def _features(self, names: list[str]) -> Features:
        if len(self.inputs) == 1:
            return names[0] if len(names) == 1 else names
        if len(names) != len(self.inputs):
            inputs = ", ".join(one.name for one in self.inputs)
            raise PlanError(
                f"The function was called with {len(names)} arguments, and the model has the "
                f"inputs {inputs}: give one argument for each, in this order."
            )
        return {one.name: name for one, name in zip(self.inputs, names, strict=True)}


def _called(model: object) -> str:
    """What messages call a model: its name, its path, or the function that builds it."""
    if isinstance(model, str | Path):
        return f"The model {str(model)!r}"
    name = getattr(model, "name", None) or getattr(model, "__qualname__", None)
    return f"The model {name!r}" if name else "The model"


def _element_spec(inputs: Sequence[Input]) -> Any:
    import tensorflow as tf

    specs = {one.name: tf.TensorSpec([None, *one.shape], one.dtype) for one in inputs}
    return specs if len(specs) > 1 else next(iter(specs.values()))
