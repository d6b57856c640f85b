"""``predict(model, df, ...)``: scores a DataFrame with a model, one copy of it per executor."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from spark_strategy.data.columns import Column, ColumnSpec, specs_of
from spark_strategy.data.inputs import Features, declared
from spark_strategy.data.schema import leaves
from spark_strategy.errors import PlanError
from spark_strategy.ml.models import described
from spark_strategy.ml.shipment import shipped
from spark_strategy.serving import Output
from spark_strategy.spark.capacity import executor_cores
from spark_strategy.spark.frames import expression, specs_for
from spark_strategy.spark.session import own_python
from spark_strategy.topology import is_count
from spark_strategy.worker.selection import Selection

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import DataType

    from spark_strategy.spark.scoring import Fitting, Limits, OnError

Head = Callable[[list[Any]], list[Any]]


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

    Raises:
        PlanError: an argument makes no sense.
    """
    from spark_strategy.spark.scoring import Limits

    source, program = described(model, signature, weights)
    ask = Ask(
        features=features,
        batch_size=batch_size,
        on_error=on_error,
        columns=columns or {},
        limits=Limits(idle_s, start_timeout_s, timeout_s),
    )
    return scored(source, program, df, ask, names=output, vectors=vectors)


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


@dataclass(frozen=True, slots=True)
class Fixed:
    """Columns that are known on the driver; travels to the tasks."""

    specs: tuple[ColumnSpec, ...]
    program: bytes

    def __call__(self, types: Sequence[Any]) -> tuple[tuple[ColumnSpec, ...], bytes]:
        """These columns, whatever types arrive."""
        del types
        return self.specs, self.program


def scored(
    source: Any,
    program: Any,
    df: DataFrame,
    ask: Ask,
    *,
    names: str | Mapping[str, str],
    vectors: Sequence[str] = (),
    head: tuple[Head, tuple[Output, ...]] | None = None,
) -> DataFrame:
    """``df`` with a model's outputs; the engine of :func:`predict` and of ``KerasModel``.

    Args:
        source: the model, to send.
        program: the model, here.
        df: the rows.
        ask: how.
        names: the new column, or those of each output.
        vectors: new columns that become vectors.
        head: makes other outputs of the model's, in the tasks.

    Raises:
        PlanError: the columns do not fit the model.
    """
    from spark_strategy.worker.program import Asked

    specs, pickled = _fitted(df, ask, program.inputs)
    replied = program.outputs(Asked(*pickle.loads(pickled)).element_spec())
    call, outputs = (None, replied) if head is None else head
    wanted = _wanted(df, outputs, names)
    is_vector = frozenset(name for name, to in wanted.items() if to in vectors)
    _check_vectors(vectors, wanted, outputs)
    nested = len(outputs) > 1
    udf = function(
        df.sparkSession, source, ask, Fixed(specs, pickled), replied, outputs, call, is_vector
    )
    with own_python(df.sparkSession):
        made = udf(*(expression(df, spec) for spec in specs))
        if not nested or isinstance(names, str):
            return df.withColumn(next(iter(wanted.values())), made)
        whole = df.withColumn(_BETWEEN, made)
    fields = [whole[_BETWEEN][name].alias(to) for name, to in wanted.items()]
    return whole.select(*(whole[f"`{name}`"] for name in df.columns), *fields)


_BETWEEN = "_spark_strategy_outputs"


def function(
    spark: SparkSession,
    source: Any,
    ask: Ask,
    fitting: Fitting,
    replied: tuple[Output, ...],
    outputs: tuple[Output, ...],
    head: Head | None,
    vectors: frozenset[str],
) -> Any:
    """The function of columns that scores them."""
    from spark_strategy.spark.scoring import Scoring

    scoring = Scoring(
        key=source.key,
        model=shipped(spark, pickle.dumps(source)),
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
    try:
        from pyspark.sql.functions import ArrowUDFType, arrow_udf
    except ImportError as error:
        raise PlanError("predict needs PySpark 4.1 or newer, for its Arrow functions.") from error

    def score(batches):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 - Spark reads hints
        from spark_strategy.spark import scoring as executor

        yield from executor.score(scoring, batches)

    kind = _type(outputs, vectors)
    # Spark may compute a deterministic function twice, for a filter on it and for itself.
    return arrow_udf(score, kind, ArrowUDFType.SCALAR_ITER).asNondeterministic()


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
        replace(spec, name=names[spec.name], path=(names[spec.name],), spark_type="", pad=None,
                fill=None, is_vector=False)
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


def _fitted(
    df: DataFrame, ask: Ask, inputs: Sequence[Any]
) -> tuple[tuple[ColumnSpec, ...], bytes]:
    used = list(Selection(ask.features).named())
    tops = {name if name in df.columns else name.partition(".")[0]: name for name in used}
    for top, name in tops.items():
        if top not in df.columns:
            raise PlanError(
                f"There is no column {name!r}; the columns are {', '.join(df.columns)}."
            )
    frame = df.select(*(f"`{top}`" for top in tops))
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


def _wanted(
    df: DataFrame, outputs: Sequence[Output], names: str | Mapping[str, str]
) -> dict[str, str]:
    """The columns to make, by output."""
    known = [one.name for one in outputs]
    if isinstance(names, str):
        wanted = {known[0] if len(known) == 1 else "": names}
    else:
        wanted = dict(names)
        if len(known) == 1 and set(wanted) != set(known) or set(wanted) - set(known) or not wanted:
            raise PlanError(
                f"output names {', '.join(map(repr, wanted)) or 'nothing'}, and the model's outputs "
                f"are {', '.join(map(repr, known))}."
            )
    for name in wanted.values():
        if not name or name.lower() in {one.lower() for one in df.columns}:
            raise PlanError(
                f"The DataFrame has a column {name!r} already. Choose another output, or drop it."
            )
    if len(set(wanted.values())) < len(wanted):
        raise PlanError(f"Two outputs want the same column: {', '.join(wanted.values())}.")
    return wanted


def _check_vectors(
    vectors: Sequence[str], wanted: Mapping[str, str], outputs: Sequence[Output]
) -> None:
    made = {to: one for one in outputs for name, to in wanted.items() if name == one.name}
    for name in vectors:
        one = made.get(name)
        if one is None or len(one.shape) != 1 or one.dtype == "string":
            raise PlanError(
                f"vectors names {name!r}, and a vector is a new column for an output with a flat "
                f"array of numbers per row; there are {', '.join(made) or 'none'}."
            )


def _type(outputs: Sequence[Output], vectors: frozenset[str]) -> DataType:
    """Spark's type of what the function returns."""
    from pyspark.sql.types import StructType

    if len(outputs) == 1:
        return _column_type(outputs[0], is_vector=outputs[0].name in vectors)
    made = StructType()
    for one in outputs:
        made = made.add(one.name, _column_type(one, is_vector=one.name in vectors))
    return made


def _column_type(output: Output, *, is_vector: bool) -> DataType:
    from pyspark.ml.linalg import VectorUDT
    from pyspark.sql import types

    if is_vector:
        return VectorUDT()
    made: DataType = {
        "bool": types.BooleanType(),
        "int8": types.ByteType(),
        "int16": types.ShortType(),
        "int32": types.IntegerType(),
        "int64": types.LongType(),
        "float32": types.FloatType(),
        "float64": types.DoubleType(),
        "string": types.StringType(),
    }[output.dtype]
    for _ in () if output.shape == (1,) else output.shape:
        made = types.ArrayType(made)
    return made


def check_name(name: str) -> None:
    """Refuse what SQL cannot call.

    Raises:
        PlanError: it is no identifier.
    """
    if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
        raise PlanError(f"A SQL function's name is an identifier such as 'score', found {name!r}.")
