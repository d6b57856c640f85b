"""What a user feeds a run with -> one DataFrame, one partition per rank."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from spark_strategy.data.columns import Column, ColumnSpec, specs_of, with_lengths
from spark_strategy.data.feed import Cache, FeedOrder
from spark_strategy.data.schema import position_of
from spark_strategy.errors import CapacityError, PlanError
from spark_strategy.spark.capacity import is_connect
from spark_strategy.spark.expressions import at, carried, numbered, selected

if TYPE_CHECKING:
    from pyspark.sql import Column as Expression
    from pyspark.sql import DataFrame, SparkSession

TRAIN: Final = "train"
VALIDATION: Final = "validation"
_RANK: Final = "__spark_strategy_rank"
_PLACE: Final = "__spark_strategy_place"


@dataclass(frozen=True, slots=True)
class Feeding:
    """Rows for a run.

    Attributes:
        frame: all rows. Of several DataFrames it has a struct column for each, and a row has a
            value in one of them.
        order: what becomes of the rows.
        in_order: whether a single rank gets them in the DataFrame's order, which costs a sort.
    """

    frame: DataFrame
    order: FeedOrder
    in_order: bool = True


def feeding(
    data: Any,
    session: Callable[[], SparkSession],
    *,
    columns: Mapping[str, Column] | None,
    cache: Cache,
) -> Feeding:
    """What ``data`` feeds.

    Args:
        data: a DataFrame, an RDD of rows, a pandas DataFrame or an Arrow table, which is named
            "train"; or a dictionary of them by name.
        session: gives the session for data that is not Spark's yet.
        columns: declarations, by column name; each applies to every DataFrame that has it.
        cache: where the ranks keep the rows.

    Raises:
        PlanError: ``data`` is none of these, or a column cannot become a tensor.
    """
    frames = {name: _as_frame(name, one, session) for name, one in _named(data).items()}
    specs = {name: specs_for(frame, columns or {}) for name, frame in frames.items()}
    _check_declared(columns or {}, specs)
    plain = {name: _plain(frame, specs[name]) for name, frame in frames.items()}
    frame = next(iter(plain.values())) if len(plain) == 1 else _united(plain)
    return Feeding(frame, FeedOrder(specs, cache))


def split(
    frame: DataFrame,
    positions: Sequence[int],
    condition: Expression,
    *,
    columns: Mapping[str, Column] | None,
    cache: Cache,
) -> Feeding:
    """One DataFrame as two, "train" and "validation", computed once.

    Args:
        frame: the rows.
        positions: of its columns that become tensors.
        condition: true for validation; null counts as false. It finds columns by ``at``.
        columns: declarations, by column name.
        cache: where the ranks keep the rows.

    Raises:
        PlanError: a column cannot become a tensor.
    """
    from pyspark.sql import functions as F  # noqa: N812 - as everyone writes it

    specs = specs_for(selected(frame, positions), columns or {})
    _check_declared(columns or {}, {TRAIN: specs})
    row = F.struct(*_expressions(frame.columns, specs, positions))
    is_validation = F.coalesce(condition, F.lit(False))  # noqa: FBT003 - a SQL literal
    both = numbered(frame).select(
        F.when(~is_validation, row).alias(TRAIN), F.when(is_validation, row).alias(VALIDATION)
    )
    return Feeding(both, FeedOrder({TRAIN: specs, VALIDATION: specs}, cache))


def spread(
    frame: DataFrame, ranks: int, targets: Sequence[int], *, in_order: bool = True
) -> DataFrame:
    """``frame`` with one partition per rank, about equally large for those that take rows.

    A DataFrame that has so many partitions already is taken as it is, if all ranks take rows;
    otherwise Spark shuffles.

    Args:
        frame: the rows.
        ranks: how many partitions there must be.
        targets: the ranks that take rows, one after the other.
        in_order: whether a single rank that takes rows gets them in the order of ``frame``.

    Raises:
        CapacityError: some ranks take no rows, and this Spark cannot say where a row goes.
    """
    if ranks == len(targets) and not is_connect(frame.sparkSession) and _fits(frame, ranks):
        return frame
    if len(targets) > 1 or not in_order:
        return _shuffled(frame, ranks, targets)
    # Blocks of a shuffle arrive in any order, and Spark drops a sort below a shuffle.
    from pyspark.sql import functions as F  # noqa: N812 - as everyone writes it

    marked = frame.withColumn(_PLACE, F.monotonically_increasing_id())
    return _shuffled(marked, ranks, targets).sortWithinPartitions(_PLACE).drop(_PLACE)


def _shuffled(frame: DataFrame, ranks: int, targets: Sequence[int]) -> DataFrame:
    """The rows dealt out in turn to the partitions of ``targets``; the others are empty."""
    if ranks == len(targets):
        return frame.repartition(ranks)
    from pyspark.sql import functions as F  # noqa: N812 - as everyone writes it

    if not hasattr(frame, "repartitionById"):
        raise CapacityError(
            "Feeding parameter-server training needs Spark 4.1 or newer, which can say to which "
            "partition a row goes (DataFrame.repartitionById)."
        )
    # The first partition's rows begin with the first worker, the second's with the next one.
    turn = F.monotonically_increasing_id() + F.spark_partition_id()
    rank = (F.pmod(turn, F.lit(len(targets))) + F.lit(targets[0])).cast("int")
    return frame.withColumn(_RANK, rank).repartitionById(ranks, _RANK).drop(_RANK)


def is_known_empty(frame: DataFrame) -> bool:
    """Whether Spark's plan says, before it computes anything, that there is no row.

    A Connect client does not see the plan.
    """
    if is_connect(frame.sparkSession):
        return False
    plan = frame._jdf.queryExecution().optimizedPlan()  # noqa: SLF001 - PySpark has no other way
    most = plan.maxRows()
    return bool(most.isDefined()) and int(most.get()) == 0


def _fits(frame: DataFrame, ranks: int) -> bool:
    """Whether Spark runs this as a barrier stage of so many tasks without a shuffle.

    Spark refuses a stage in which any RDD has another number of partitions (SPARK-24820,
    SPARK-24821). With adaptive execution the number shows only when it runs.
    """
    execution = frame._jdf.queryExecution()  # noqa: SLF001 - PySpark has no other way to ask
    if "Adaptive" in execution.executedPlan().getClass().getSimpleName():
        return False
    pending = [execution.toRdd()]
    while pending:
        rdd = pending.pop()
        if rdd.getNumPartitions() != ranks:
            return False
        dependencies = rdd.dependencies()
        for position in range(dependencies.size()):
            dependency = dependencies.apply(position)
            if "Shuffle" not in dependency.getClass().getSimpleName():
                pending.append(dependency.rdd())
    return True


def _named(data: Any) -> dict[str, Any]:
    if not isinstance(data, Mapping):
        return {TRAIN: data}
    for name in data:
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII):
            raise PlanError(f"A DataFrame's name is an identifier such as 'train', found {name!r}.")
    if not data:
        raise PlanError("There is no DataFrame in the dictionary; give at least one.")
    return dict(data)


def _as_frame(name: str, data: Any, session: Callable[[], SparkSession]) -> DataFrame:
    from pyspark.sql import DataFrame

    if isinstance(data, DataFrame):
        return data
    kind = f"{type(data).__module__}.{type(data).__qualname__}"
    if kind.startswith(("pandas.", "pyarrow.lib.Table", "pyspark.core.rdd.", "pyspark.rdd.")):
        return session().createDataFrame(data)
    raise PlanError(
        f"A run is fed with Spark DataFrames, RDDs of rows, pandas DataFrames or Arrow tables; "
        f"{name!r} is a {kind}."
    )


def specs_for(frame: DataFrame, declared: Mapping[str, Column]) -> tuple[ColumnSpec, ...]:
    """The columns of a DataFrame; looks at its first rows for lengths that nobody declared.

    Raises:
        PlanError: a column cannot become a tensor.
    """
    specs = specs_of(frame.schema.jsonValue(), declared)
    unknown = [spec for spec in specs if spec.needs_length]
    return with_lengths(specs, _lengths(frame, unknown)) if unknown else specs


def _lengths(frame: DataFrame, specs: Sequence[ColumnSpec]) -> dict[str, int]:
    """Each array column's length in the first row that has one."""
    found = _first_lengths(frame, specs)
    if found is None and len(specs) > 1:
        alone = {spec.name: _first_lengths(frame, [spec]) for spec in specs}
        found = {name: one[name] for name, one in alone.items() if one is not None}
    if lacking := [spec.name for spec in specs if spec.name not in (found or {})]:
        raise PlanError(
            f"No row says how long the arrays in {', '.join(lacking)} are: there is none without "
            "a null. Declare them, as in columns={'x': Column(shape=(784,))}."
        )
    return found or {}


def _first_lengths(frame: DataFrame, specs: Sequence[ColumnSpec]) -> dict[str, int] | None:
    """The arrays' lengths in the first row in which none of them is null; None without one."""
    from pyspark.sql import functions as F  # noqa: N812 - as everyone writes it

    places = [position_of(frame.schema.jsonValue(), spec.name) for spec in specs]
    arrays = [carried(at(place), spec) for place, spec in zip(places, specs, strict=True)]
    sizes = numbered(frame).select(*(F.size(one).alias(f"_{k}") for k, one in enumerate(arrays)))
    known = functools.reduce(lambda a, b: a & b, (at(place) >= 0 for place in range(len(specs))))
    first = sizes.where(known).head(1)
    return dict(zip((spec.name for spec in specs), first[0], strict=True)) if first else None


def _check_declared(
    declared: Mapping[str, Column], specs: Mapping[str, tuple[ColumnSpec, ...]]
) -> None:
    known = sorted({spec.name for group in specs.values() for spec in group})
    if unknown := sorted(set(declared) - set(known)):
        raise PlanError(
            f"columns declares {', '.join(map(repr, unknown))}, and the columns are "
            f"{', '.join(known)}."
        )


def _plain(frame: DataFrame, specs: Sequence[ColumnSpec]) -> DataFrame:
    """With what Arrow cannot carry turned into what it can."""
    names = frame.columns
    return numbered(frame).select(*_expressions(names, specs, range(len(names))))


def _expressions(
    names: Sequence[str], specs: Sequence[ColumnSpec], positions: Iterable[int]
) -> list[Expression]:
    """Whole columns of a numbered DataFrame that was called so, as Arrow can carry them."""
    vectors = {spec.name: spec for spec in specs if spec.is_vector}
    return [
        (
            carried(at(place), vectors[names[place]], "float64")
            if names[place] in vectors
            else at(place)
        ).alias(names[place])
        for place in positions
    ]


def _united(frames: Mapping[str, DataFrame]) -> DataFrame:
    from pyspark.sql import functions as F  # noqa: N812 - as everyone writes it

    def row(frame: DataFrame, own: str) -> DataFrame:
        columns = [
            F.struct(*(at(k).alias(column) for k, column in enumerate(frame.columns))).alias(name)
            if name == own
            else F.lit(None).cast(other.schema).alias(name)
            for name, other in frames.items()
        ]
        return numbered(frame).select(*columns)

    rows = [row(frame, name) for name, frame in frames.items()]
    return functools.reduce(lambda a, b: a.unionAll(b), rows)
