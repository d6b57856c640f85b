"""``fit(model, df, ...)``: a Keras model trained on a DataFrame, back on the driver."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from spark_strategy import shipping
from spark_strategy.data.columns import Column, ColumnSpec
from spark_strategy.data.feed import Cache
from spark_strategy.data.schema import position_of
from spark_strategy.errors import DataError, PlanError, WorkerError
from spark_strategy.fed import Fed
from spark_strategy.keras import transport
from spark_strategy.launcher import Launcher
from spark_strategy.ml import fit_arguments
from spark_strategy.ml.model_check import checking
from spark_strategy.ml.no_rows import NO_ROWS, evaluating_nothing
from spark_strategy.result import RunResult
from spark_strategy.spark.expressions import at, selected
from spark_strategy.spark.frames import TRAIN, VALIDATION, Feeding, feeding, is_known_empty, split
from spark_strategy.train_function import check_call
from spark_strategy.worker.current import get_context
from spark_strategy.worker.selection import Selection, Selector

if TYPE_CHECKING:
    from pyspark.sql import Column as Expression
    from pyspark.sql import DataFrame

# The ranks have failed, and the machine is free for the check.
_CHECK_S: Final = 30.0
_WINDOW_ROWS: Final = 10_000
_WINDOW_BYTES: Final = 64 << 20
# Of a row whose size is not known beforehand, with strings or arrays of varying length.
_ROW_BYTES: Final = 4096

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FitResult:
    """What :func:`fit` gives.

    Attributes:
        model: the trained model, on the driver, compiled and with its optimizer's state.
        history: as ``History.history`` of Keras: a value per epoch for each metric.
        run: timings, rows, and how each rank was fed.
    """

    model: Any
    history: dict[str, list[float]]
    run: RunResult[Any]


@dataclass(frozen=True, slots=True)
class _Job:
    """What a rank does; travels to it."""

    model: bytes
    selection: Selection
    batch_size: int
    validates: bool
    shuffle: int
    seed: int | None
    options: Mapping[str, Any]


def fit(
    model: Any,
    df: DataFrame,
    *,
    launcher: Launcher,
    features: Selector,
    label: Selector,
    weight: str | None = None,
    batch_size: int,
    epochs: int = 1,
    validation: DataFrame | float | str | None = None,
    callbacks: Sequence[Any] = (),
    class_weight: Mapping[int, float] | None = None,
    steps_per_epoch: int | None = None,
    validation_steps: int | None = None,
    initial_epoch: int = 0,
    shuffle: int | None = None,
    seed: int | None = None,
    verbose: int | str = 2,
    columns: Mapping[str, Column] | None = None,
    cache: Cache | None = None,
) -> FitResult:
    """Train a Keras model on the rows of a DataFrame, on several workers.

    Every row is seen once per epoch, and each step's gradient is the mean over the rows of the
    global batch, however Spark spreads them.

    Args:
        model: a function without arguments that returns a compiled model, called on each rank
            inside the strategy's scope; or a compiled model, which continues from its weights
            and its optimizer's state.
        df: the rows; only the columns that are named travel.
        launcher: on how many workers, and how.
        features: a column; a list of numeric columns, which become one matrix; or a dictionary
            of these by the name of the model's input.
        label: likewise, by the name of the model's output.
        weight: the column with each row's weight.
        batch_size: the global batch size.
        epochs: as in ``Model.fit``, and so are ``callbacks``, ``class_weight``,
            ``steps_per_epoch``, ``validation_steps``, ``initial_epoch`` and ``verbose``.
        validation: a DataFrame; the share of ``df``'s rows, chosen at random, above 0 and
            below 1; or the name of a boolean column that is true for them (null is false).
            Without such a row the model is trained, and the history has no ``val_`` metrics.
        callbacks: run on every rank; what they write, the chief writes.
        class_weight: weight by class, for a model with one output.
        steps_per_epoch: an epoch ends after so many steps, and the next goes on from there.
        validation_steps: steps of each validation.
        initial_epoch: the first epoch's number.
        shuffle: rows of the window within which rows are permuted anew in each epoch; 0 keeps
            the order. By default 10,000, or as many as fit in 64 MiB.
        seed: of the shuffle and of the random share for validation.
        verbose: what the chief shows; by default one line per epoch, which reaches the driver.
        columns: what a column's type does not say, such as the shape of an array.
        cache: where each rank keeps its rows for later epochs.

    Raises:
        PlanError: an argument makes no sense, or a column cannot become a tensor.
        CapacityError: Spark cannot host the run, or a rank has no room for its rows.
        DataError: a row cannot become a tensor, such as one with a null; or there is none.
        SparkStrategyError: the run failed; ``errors`` says what each class asks for.
    """
    options = {
        "epochs": epochs,
        "class_weight": dict(class_weight) if isinstance(class_weight, Mapping) else class_weight,
        "steps_per_epoch": steps_per_epoch,
        "validation_steps": validation_steps,
        "initial_epoch": initial_epoch,
        "verbose": verbose,
    }
    fit_arguments.check(df, launcher, batch_size=batch_size, callbacks=callbacks, options=options)
    fit_arguments.check_feeding(columns=columns, cache=cache, shuffle=shuffle, seed=seed)
    selection = Selection(features, label, weight)
    rows = _rows(df, selection, validation, seed=seed, columns=columns, cache=cache or Cache())
    specs = rows.order.columns[TRAIN]
    selection.resolved(specs)
    fit_arguments.check_labels(selection, specs)
    window = _window(specs) if shuffle is None else shuffle
    job = _Job(
        model=_shipped(model, tuple(callbacks)),
        selection=selection,
        batch_size=batch_size,
        validates=VALIDATION in rows.order.columns,
        shuffle=window,
        seed=seed,
        options=options,
    )
    run = _run(df, launcher, replace(rows, in_order=not window), job)
    return _result(run, validates=validation is not None)


def _result(run: RunResult[Any], *, validates: bool) -> FitResult:
    trained, history = run.value
    if validates and not any(name.startswith("val_") for name in history):
        _log.warning("There were no rows to validate with; the history has no val_ metrics")
    return FitResult(trained, history, run)


def _run(df: DataFrame, launcher: Launcher, rows: Feeding, job: _Job) -> RunResult[Any]:
    """The run, unless its model turns out to be a mistake."""
    specs = rows.order.columns[TRAIN]
    with checking(launcher, df, job.model, job.selection, specs) as check:
        try:
            return Fed(launcher, rows, objection=check.mistake).run(_train, job)
        except WorkerError:
            # The ranks may have met the mistake first, and know it by its consequences only.
            if mistake := check.mistake(_CHECK_S):
                raise mistake from None
            raise


def _train(job: _Job) -> tuple[Any, dict[str, list[float]]]:
    """On every rank, inside the strategy's scope."""
    context = get_context()
    if context.feed is not None and not context.feed.has_rows(TRAIN):
        raise DataError(NO_ROWS)
    make, (callbacks,), _ = pickle.loads(job.model)
    model = make()
    parts = job.selection
    dataset = context.dataset(
        TRAIN,
        batch_size=job.batch_size,
        features=parts.features,
        label=parts.label,
        weight=parts.weight,
        shuffle=job.shuffle,
        seed=job.seed,
        repeat=job.options["steps_per_epoch"] is not None,
    )
    validation = None
    if job.validates:
        validation = context.dataset(
            VALIDATION,
            batch_size=job.batch_size,
            features=parts.features,
            label=parts.label,
            weight=parts.weight,
        )
    verbose = job.options["verbose"] if context.is_chief else 0
    # The dataset shuffles; Keras would only say that it cannot.
    options = {**job.options, "verbose": verbose, "shuffle": False}
    with evaluating_nothing(model, context.feed):
        history = model.fit(
            dataset, validation_data=validation, callbacks=list(callbacks), **options
        )
    return (model if context.is_chief else None), history.history


@dataclass(frozen=True, slots=True)
class _Given:
    """A compiled model on its way; unpickled where it is called for, in the strategy's scope."""

    pickled: bytes

    def __call__(self) -> Any:
        return pickle.loads(self.pickled)


def _shipped(model: Any, callbacks: tuple[Any, ...]) -> bytes:
    if transport.is_model(model):
        if getattr(model, "optimizer", None) is None:
            raise PlanError(
                f"{model.name!r} is not compiled: call compile(...) on it, or pass a function "
                "that returns a compiled model."
            )
        return shipping.pickled(_Given(transport.dumps(model)), (callbacks,), {})
    if not callable(model):
        raise PlanError(
            "model is a compiled Keras model, or a function without arguments that returns one; "
            f"found {model!r}."
        )
    check_call(model, (), {})
    return shipping.pickled(model, (callbacks,), {})


def _rows(
    df: DataFrame,
    selection: Selection,
    validation: Any,
    *,
    seed: int | None,
    columns: Mapping[str, Column] | None,
    cache: Cache,
) -> Feeding:
    positions = _positions(df, selection)
    if is_known_empty(df):
        raise DataError(NO_ROWS)
    if validation is None:
        return feeding(
            selected(df, positions), lambda: df.sparkSession, columns=columns, cache=cache
        )
    if isinstance(validation, str):
        condition = _indicator(df, validation)
        return split(df, positions, condition, columns=columns, cache=cache)
    if isinstance(validation, float):
        if not 0 < validation < 1:
            raise PlanError(f"validation is a share above 0 and below 1, found {validation!r}.")
        from pyspark.sql import functions as F  # noqa: N812 - as everyone writes it

        return split(df, positions, F.rand(seed) < validation, columns=columns, cache=cache)
    if not hasattr(validation, "select"):
        raise PlanError(
            "validation is a DataFrame, a share such as 0.1, or the name of a boolean column; "
            f"found {validation!r}."
        )
    chosen = selected(df, positions)
    held = selected(validation, _positions(validation, selection))
    both = {TRAIN: chosen} if is_known_empty(held) else {TRAIN: chosen, VALIDATION: held}
    return feeding(both, lambda: df.sparkSession, columns=columns, cache=cache)


def _indicator(df: DataFrame, name: str) -> Expression:
    position = position_of(df.schema.jsonValue(), name)
    kind = df.schema.fields[position].dataType.simpleString()
    if kind != "boolean":
        raise PlanError(f"{name!r} is {kind}, and validation is a boolean column.")
    return at(position)


def _positions(df: DataFrame, selection: Selection) -> list[int]:
    """Of the columns of ``df`` that are needed; of a field in a struct, the struct's."""
    schema = df.schema.jsonValue()
    return list(dict.fromkeys(position_of(schema, name) for name in selection.named()))


def _window(specs: Sequence[ColumnSpec]) -> int:
    row = sum(_ROW_BYTES if spec.row_bytes is None else spec.row_bytes for spec in specs)
    return max(1, min(_WINDOW_ROWS, _WINDOW_BYTES // max(1, row)))
