"""``predict(model, df, ...)``: scores a DataFrame with a model, one copy of it per executor."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from spark_strategy.data.columns import Column
from spark_strategy.data.inputs import Features
from spark_strategy.data.schema import position_of
from spark_strategy.ml.asking import Ask, Fixed, fitted
from spark_strategy.ml.functions import function
from spark_strategy.ml.models import described
from spark_strategy.ml.outputs import check_vectors, wanted_columns
from spark_strategy.serving import Output
from spark_strategy.spark.arguments import check_frame
from spark_strategy.spark.expressions import at, carried, is_clear, named, numbered
from spark_strategy.spark.session import own_python

if TYPE_CHECKING:
    from pyspark.sql import Column as Expression
    from pyspark.sql import DataFrame

    from spark_strategy.data.columns import ColumnSpec
    from spark_strategy.spark.scoring import OnError

_BETWEEN: Final = "_spark_strategy_outputs"


def predict(
    model: Any,
    df: DataFrame,
    *,
    features: Features,
    output: str | Mapping[str, str] = "prediction",
    batch_size: int = 1024,
    on_error: OnError = "raise",
    columns: Mapping[str, Column] | None = None,
    vectors: Sequence[str] = (),
    signature: str | None = None,
    weights: Any = None,
    idle_s: float = 300.0,
    start_timeout_s: float = 300.0,
    timeout_s: float = 600.0,
    max_models: int = 4,
    max_bytes: int | None = None,
) -> DataFrame:
    """Append a model's outputs to a DataFrame, batch or streaming, on classic Spark or Connect.

    Each executor (or each of its GPUs) holds the model once, in a process that its tasks share and
    that stays for later jobs. The rows of a partition are cut into batches in their order, and the
    results have the bits that ``model.predict`` gives for the same batches on the same hardware.

    Args:
        model: a Keras model; the path of a ``.keras`` file or of a SavedModel's folder; or a
            function without arguments that builds a Keras model.
        df: the rows; all its columns stay.
        features: as for ``fit``: a column; a list of numeric columns, which become one matrix; or
            a dictionary of these by the name of the model's input.
        output: the new column; of a model with several outputs a struct of them. A dictionary
            gives those outputs that it names a column each.
        batch_size: rows of a batch; the last one of each partition may be smaller.
        on_error: "raise" a DataError for a row that is no tensor, such as one with a null, or
            give it "null" and go on with the other rows of its batch.
        columns: what a column's type does not say; dtypes and shapes come from the model.
        vectors: new columns that become Spark ML vectors instead of arrays.
        signature: of a SavedModel; by default "serving_default".
        weights: for a function: as ``get_weights`` gives them, or a file for ``load_weights``.
        idle_s: seconds that the model stays in memory after its last use.
        start_timeout_s: seconds that loading it may take.
        timeout_s: seconds that a batch may take.
        max_models: models that an executor (or each of its GPUs) may hold; above that, the one
            that has been unused for longest gives way.
        max_bytes: memory that all of an executor's models may take before that happens; by default
            half of what the container or the machine has.

    Raises:
        PlanError: an argument makes no sense.
    """
    from spark_strategy.spark.scoring import Limits

    check_frame(df)
    source, program = described(model, signature, weights, df.sparkSession)
    ask = Ask(
        features=features,
        batch_size=batch_size,
        on_error=on_error,
        columns=columns or {},
        limits=Limits(idle_s, start_timeout_s, timeout_s, max_models, max_bytes),
    )
    return scored(source, program, df, ask, names=output, vectors=vectors, owner=model)


def scored(
    source: Any,
    program: Any,
    df: DataFrame,
    ask: Ask,
    *,
    names: str | Mapping[str, str],
    vectors: Sequence[str] = (),
    head: Callable[[tuple[Output, ...]], Any] | None = None,
    owner: object = None,
) -> DataFrame:
    """``df`` with a model's outputs; the engine of :func:`predict` and of ``KerasModel``.

    Args:
        source: the model, to send.
        program: the model, here.
        df: the rows.
        ask: how.
        names: the new column, or those of each output.
        vectors: new columns that become vectors.
        head: gives, for the model's outputs, what makes others of them in the tasks, with these
            as its ``outputs``.
        owner: what the user holds of the model; while it is there, the model is not sent again.

    Raises:
        PlanError: the columns do not fit the model.
    """
    from spark_strategy.worker.program import Asked

    specs, pickled = fitted(df, ask, program.inputs)
    replied = program.outputs(Asked(*pickle.loads(pickled)).element_spec())
    call = None if head is None else head(replied)
    outputs = replied if call is None else call.outputs
    wanted = wanted_columns(df, outputs, names)
    is_vector = frozenset(name for name, to in wanted.items() if to in vectors)
    check_vectors(vectors, wanted, outputs)
    nested = len(outputs) > 1
    # Spark may compute a deterministic function twice, for a filter on it and for itself.
    udf = function(
        df.sparkSession,
        source,
        ask,
        fitting=Fixed(specs, pickled),
        replied=replied,
        head=call,
        vectors=is_vector,
        owner=owner,
    ).asNondeterministic()
    frame, columns = _addressed(df, specs)
    with own_python(df.sparkSession):
        made = udf(*columns)
        if not nested or isinstance(names, str):
            whole = frame.withColumn(next(iter(wanted.values())), made)
        else:
            fields = {to: named(_BETWEEN)[name] for name, to in wanted.items()}
            whole = frame.withColumn(_BETWEEN, made).withColumns(fields).drop(_BETWEEN)
    return whole if frame is df else whole.toDF(*df.columns, *wanted.values())


def _addressed(df: DataFrame, specs: Sequence[ColumnSpec]) -> tuple[DataFrame, list[Expression]]:
    """The columns to score, and the DataFrame they belong to: ``df``, so that its own stay valid.

    Where Spark would not find one by its name, the DataFrame is a numbered one.
    """
    if all(is_clear(df, spec.path[0]) for spec in specs):
        return df, [carried(named(spec.path[0]), spec) for spec in specs]
    schema = df.schema.jsonValue()
    places = [position_of(schema, spec.name) for spec in specs]
    return numbered(df), [carried(at(k), spec) for k, spec in zip(places, specs, strict=True)]
