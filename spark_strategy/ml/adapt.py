"""adapt: the state of a Keras preprocessing layer, from Spark aggregates over a DataFrame.

A layer's own `adapt` wants all rows in one process. What it learns from them is small, though: two
moments per feature, counts per token, a few quantiles. Spark computes these, and the layer is given
them through its public interface. No row is collected; the driver receives one row per feature, per
token of the final vocabulary, or per quantile.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F  # noqa: N812 - what every Spark program calls it

from spark_strategy.errors import PlanError
from spark_strategy.ml.cells import CELLS, INTEGERS, NUMBERS, STRINGS, Cells, cells_of
from spark_strategy.ml.tokens import tokens
from spark_strategy.spark.arguments import check_frame

_Columns = str | Sequence[str]


def adapt(layer: Any, df: DataFrame, column: _Columns) -> None:
    """Gives a preprocessing layer the state that `layer.adapt` would find in all rows.

    Runs on the driver, with one or two Spark jobs, on classic Spark and on Spark Connect. Adapt a
    layer before the model that contains it is called or compiled, as with Keras' own `adapt`.

    ====================== ===================================== ==============================
    layer                  columns                               equal to the layer's own adapt
    ====================== ===================================== ==============================
    Normalization          numbers; arrays or Spark ML vectors   yes; computed in float64
                           of one length
    StringLookup,          strings or integers; arrays of them   yes, order of ties included
    IntegerLookup
    TextVectorization      strings; arrays of strings when       yes, order of ties included
                           ``split`` is None
    Discretization         numbers; arrays or Spark ML vectors   to ``epsilon``, as its own is
    ====================== ===================================== ==============================

    Args:
        layer: a layer of Keras 3 or tf_keras, not yet given its state by an argument.
        df: the rows to learn from; cache it if it is costly to compute.
        column: the column that the layer will be fed with, or several scalar columns that it will
            be fed with side by side, as features of one matrix.

    Raises:
        PlanError: another layer, a setting that Spark SQL cannot follow, an unfit column, a null
            or NaN, or nothing to learn from. The layer is as it was.
    """
    check_frame(df)
    for name, learn in _LEARN.items():
        if _is_a(layer, name):
            learn(layer, df, column)
            return
    raise PlanError(
        f"adapt was given {type(layer).__module__}.{type(layer).__qualname__}, which it does not "
        f"know. It adapts {', '.join(_LEARN)} of keras.layers or tf_keras.layers."
    )


def _is_a(layer: Any, name: str) -> bool:
    """Whether a layer is this class, of Keras 3 or tf_keras; an unloaded one has no layers."""
    loaded = [sys.modules[package] for package in ("keras", "tf_keras") if package in sys.modules]
    return isinstance(layer, tuple(getattr(package.layers, name) for package in loaded))


def _learn_normalization(layer: Any, df: DataFrame, column: _Columns) -> None:
    """Mean and population variance, per feature (axis -1) or of all values (axis None)."""
    config = layer.get_config()
    if config["mean"] is not None:
        raise _already_given(layer, "mean and variance")
    axis = config["axis"]
    axes = (axis,) if isinstance(axis, int) else tuple(axis or ())
    if axes not in {(-1,), (1,), ()}:
        raise PlanError(
            f"Normalization(axis={axis!r}): adapt learns per feature (axis=-1) or over all values "
            "(axis=None). Use one of these, or pass mean and variance to the layer."
        )
    cells = cells_of(df, column, NUMBERS)
    mean, variance = _moments(cells)
    shape: tuple[int | None, ...] = (None, mean.size)
    if not axes:
        # Rows have equally many values, so the parts weigh the same.
        mean, variance = mean.mean(), variance.mean() + mean.var()
        shape = (None,) if cells.single else shape
    if not layer.built:
        layer.build(shape)
    if tuple(layer.adapt_mean.shape) != mean.shape:
        raise PlanError(
            f"Normalization {layer.name!r} is already built for {tuple(layer.adapt_mean.shape)} "
            f"features, but {cells} has {mean.shape}. Use a new layer, or the column it was built "
            "for."
        )
    layer.adapt_mean.assign(mean)
    layer.adapt_variance.assign(variance)
    layer.finalize_state()


def _moments(cells: Cells) -> tuple[Any, Any]:
    """Mean and population variance of each position of the cells, as float64 arrays."""
    value = F.when(~F.isnan("value"), F.col("value"))
    features = (
        cells.frame.select(F.posexplode_outer(CELLS).alias("position", "value"))
        .groupBy("position")
        .agg(
            F.count(F.lit(1)).alias("rows"),
            F.count(value).alias("valid"),
            F.avg(value).alias("mean"),
            F.var_pop(value).alias("variance"),
        )
        .orderBy(F.asc_nulls_first("position"))
        .collect()
    )
    if not features:
        raise _nothing_to_learn(cells)
    if features[0].position is None:
        raise _missing(cells, f"{features[0].rows} null or empty arrays")
    if features[0].rows != features[-1].rows:
        raise PlanError(
            f"Normalization needs arrays of one length, but in {cells} {features[0].rows} rows "
            f"have a first value and only {features[-1].rows} have value {len(features)}. Pad the "
            "arrays first, or use Normalization(axis=None) over the exploded column."
        )
    for feature in features:
        if lost := feature.rows - feature.valid:
            where = cells.names[feature.position] if len(cells.names) > 1 else None
            raise _missing(cells, f"{lost} null or NaN values", where)
    return np.array([row["mean"] for row in features]), np.array([row.variance for row in features])


def _learn_strings(layer: Any, df: DataFrame, column: _Columns) -> None:
    """The vocabulary of a StringLookup."""
    _learn_vocabulary(layer, cells_of(df, column, STRINGS), _unchanged)


def _learn_integers(layer: Any, df: DataFrame, column: _Columns) -> None:
    """The vocabulary of an IntegerLookup."""
    _learn_vocabulary(layer, cells_of(df, column, INTEGERS), _unchanged)


def _learn_text(layer: Any, df: DataFrame, column: _Columns) -> None:
    """The vocabulary of a TextVectorization."""
    cells = cells_of(df, column, STRINGS)
    config = layer.get_config()
    _learn_vocabulary(layer, cells, lambda texts: tokens(texts, config, single=cells.single))


def _unchanged(cells: Column) -> Column:
    """Cells that are tokens already."""
    return cells


def _learn_vocabulary(layer: Any, cells: Cells, tokenize: Callable[[Column], Column]) -> None:
    """The most frequent tokens, and their weights where the layer multiplies by them."""
    config = layer.get_config()
    if config["vocabulary"] is not None:
        raise _already_given(layer, "vocabulary")
    # TextVectorization's config leaves out what its lookup always has.
    mask, oov = config.get("mask_token", ""), config.get("oov_token", "[UNK]")
    first = config.get("num_oov_indices", 1)
    first += mask is not None and config["output_mode"] == "int"
    room = None if config["max_tokens"] is None else config["max_tokens"] - first
    if room is not None and room < 1:
        raise PlanError(
            f"{_named(layer)} has max_tokens={config['max_tokens']} and reserves {first} of them, "
            "which leaves none to learn. Raise max_tokens."
        )
    complete = F.when(F.forall(CELLS, lambda cell: cell.isNotNull()), F.col(CELLS))
    rows = cells.frame.select(tokenize(complete).alias(CELLS))
    weighted = config["output_mode"] == "tf_idf"
    found = _most_frequent(
        _uses_and_documents(rows) if weighted else _uses(rows),
        [token for token in (mask, oov) if token is not None],
        room,
    )
    if found and found[0].token is None:
        raise _missing(cells, f"{found[0].uses} rows with nulls")
    if not found:
        raise _nothing_to_learn(cells)
    dtype = "int64" if isinstance(found[0].token, int) else object
    vocabulary = np.array([row.token for row in found], dtype)
    if weighted:
        documents = np.array([row.documents for row in found])
        # IndexLookup._inverse_document_frequency
        layer.set_vocabulary(vocabulary, np.log(1 + cells.frame.count() / (1 + documents)))
    else:
        layer.set_vocabulary(vocabulary)


def _most_frequent(counted: DataFrame, reserved: Sequence[Any], room: int | None) -> list[Row]:
    """Tokens in the order of IndexLookup.finalize_state: by uses, then by token, both descending.

    Args:
        counted: a row per token, and one without a token if any row is incomplete.
        reserved: tokens that are never learned.
        room: most tokens to return, None for all.

    Returns:
        The rows to learn; the one without a token comes first.
    """
    if reserved:
        counted = counted.where(F.col("token").isNull() | ~F.col("token").isin(*reserved))
    ordered = counted.orderBy(F.col("token").isNotNull(), F.desc("uses"), F.desc("token"))
    return (ordered if room is None else ordered.limit(room)).collect()


def _uses(rows: DataFrame) -> DataFrame:
    """How often each token occurs in `CELLS`; an incomplete row, null there, has none."""
    found = rows.select(F.explode(F.coalesce(CELLS, F.array(F.lit(None)))).alias("token"))
    return found.groupBy("token").agg(F.count(F.lit(1)).alias("uses"))


def _uses_and_documents(rows: DataFrame) -> DataFrame:
    """As `_uses`, with the number of rows in which the token occurs."""
    tally = F.concat(
        F.transform(CELLS, lambda token: _tally(token, uses=1, documents=0)),
        F.transform(F.array_distinct(CELLS), lambda token: _tally(token, uses=0, documents=1)),
    )
    incomplete = F.array(_tally(F.lit(None), uses=1, documents=0))
    found = rows.select(F.inline(F.coalesce(tally, incomplete)))
    sums = [F.sum(name).alias(name) for name in ("uses", "documents")]
    return found.groupBy("token").agg(*sums)


def _tally(token: Column, *, uses: int, documents: int) -> Column:
    """One entry of a count by token."""
    counts = {"uses": uses, "documents": documents}
    columns = [F.lit(count).cast("bigint").alias(name) for name, count in counts.items()]
    return F.struct(token.alias("token"), *columns)


def _learn_discretization(layer: Any, df: DataFrame, column: _Columns) -> None:
    """Bin boundaries: the layer adapts to quantiles of the values in place of the values."""
    import tensorflow as tf

    config = layer.get_config()
    if config["num_bins"] is None:
        raise _already_given(layer, "bin_boundaries")
    cells = cells_of(df, column, NUMBERS)
    values = cells.frame.select(F.explode_outer(CELLS).alias("value"))
    valid = F.when(~F.isnan("value"), 1)
    counts = values.agg(F.count(F.lit(1)).alias("all"), F.count(valid).alias("valid")).collect()[0]
    if counts["all"] > counts.valid:
        raise _missing(cells, f"{counts['all'] - counts.valid} null or NaN values")
    if not counts.valid:
        raise _nothing_to_learn(cells)
    # Ten times finer than the layer's own summary; the values themselves if there are fewer.
    precision = config["epsilon"] / 10
    points = min(counts.valid, math.ceil(1 / precision))
    middles = [(index + 0.5) / points for index in range(points)]
    quantiles = values.approxQuantile("value", middles, precision)
    batch = np.array(quantiles, "float32")[:, np.newaxis]
    layer.adapt(tf.data.Dataset.from_tensors(batch))


_LEARN: Final[Mapping[str, Callable[[Any, DataFrame, _Columns], None]]] = {
    "Normalization": _learn_normalization,
    "StringLookup": _learn_strings,
    "IntegerLookup": _learn_integers,
    "TextVectorization": _learn_text,
    "Discretization": _learn_discretization,
}


def _named(layer: Any) -> str:
    """A layer as messages name it."""
    return f"{type(layer).__name__} {layer.name!r}"


def _already_given(layer: Any, what: str) -> PlanError:
    """The refusal of a layer that Keras would not adapt either."""
    return PlanError(
        f"{_named(layer)} was created with its {what}, so there is nothing to adapt. Create it "
        f"without {what}, or leave adapt out."
    )


def _missing(cells: Cells, found: str, name: str | None = None) -> PlanError:
    """The refusal of values that no statistic is defined for."""
    where = str(cells) if name is None else f"column {name!r}"
    return PlanError(
        f"adapt found {found} in {where}. Fill them (DataFrame.fillna) or drop these rows "
        "(DataFrame.dropna), in the same way as for training."
    )


def _nothing_to_learn(cells: Cells) -> PlanError:
    """The refusal of a DataFrame that teaches a layer nothing."""
    return PlanError(f"adapt found nothing to learn in {cells}: no row, or only reserved tokens.")
