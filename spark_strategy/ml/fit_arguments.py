"""The arguments of ``fit`` that the driver refuses before Spark is asked for anything."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Final

from spark_strategy.data.columns import ColumnSpec
from spark_strategy.data.declarations import check_declarations
from spark_strategy.data.feed import check_cache
from spark_strategy.errors import PlanError
from spark_strategy.launcher import Launcher
from spark_strategy.spark.arguments import check_frame
from spark_strategy.topology import MultiWorker, Topology, is_count
from spark_strategy.worker.selection import Selection

_VERBOSE: Final = (0, 1, 2, "auto")
# Keras and TensorFlow take seeds of 32 bits; NumPy refuses larger ones.
_SEEDS: Final = 2**32


def check(
    df: Any, launcher: Any, *, batch_size: Any, callbacks: Any, options: Mapping[str, Any]
) -> None:
    """Refuse arguments of ``fit`` that make no sense.

    Args:
        df: what should be a DataFrame.
        launcher: what should be a launcher.
        batch_size: what should be a global batch size, with a row for each worker.
        callbacks: what should be a list of Keras callbacks.
        options: the arguments that ``Model.fit`` gets, by name.

    Raises:
        PlanError: names the argument, what was found and what to pass.
    """
    check_frame(df)
    _check_launcher(launcher)
    for name, value in {"batch_size": batch_size, "epochs": options["epochs"]}.items():
        if not is_count(value) or not value:
            raise PlanError(f"{name} is a whole number of at least 1, found {value!r}.")
    _check_global_batch(batch_size, launcher.topology)
    _check_epochs(options["initial_epoch"], options["epochs"])
    for name in ("steps_per_epoch", "validation_steps"):
        value = options[name]
        if value is not None and (not is_count(value) or not value):
            raise PlanError(
                f"{name} is a whole number of at least 1, or None for all rows; found {value!r}."
            )
    _check_callbacks(callbacks)
    _check_class_weight(options["class_weight"])
    if options["verbose"] not in _VERBOSE:
        raise PlanError(f'verbose is 0, 1, 2 or "auto", found {options["verbose"]!r}.')


def check_feeding(*, columns: Any, cache: Any, shuffle: Any, seed: Any) -> None:
    """Refuse settings of the feed that make no sense.

    Args:
        columns: what should be declarations, by column name.
        cache: what should be a ``Cache``.
        shuffle: what should be the rows of a window.
        seed: what should be a seed.

    Raises:
        PlanError: names the argument, what was found and what to pass.
    """
    check_declarations(columns)
    check_cache(cache)
    if shuffle is not None and not is_count(shuffle):
        raise PlanError(
            "shuffle is the number of rows of a window, 0 to keep the order, or None for the "
            f"default; found {shuffle!r}."
        )
    if seed is not None and (not is_count(seed) or seed >= _SEEDS):
        raise PlanError(f"seed is a whole number from 0 to 2**32 - 1, or None; found {seed!r}.")


def check_labels(selection: Selection, specs: Sequence[ColumnSpec]) -> None:
    """Refuse labels that no loss takes.

    Raises:
        PlanError: a label is a date or a timestamp whose number nobody has declared.
    """
    labels = set(Selection(label=selection.label).named())
    for spec in specs:
        if spec.name in labels and spec.spark_type in ("date", "timestamp", "timestamp_ntz"):
            raise PlanError(
                f"The label {spec.name!r} is a {spec.spark_type}, which is not a number to learn. "
                f"Select the number that you mean, as in unix_timestamp({spec.name}) or a "
                "difference in days."
            )


def _check_launcher(launcher: Any) -> None:
    if isinstance(launcher, Launcher):
        return
    if isinstance(launcher, Topology):
        raise PlanError(
            f"launcher is a Launcher, found the topology {launcher}. Write "
            f"launcher=Launcher({launcher})."
        )
    raise PlanError(
        f"launcher is a Launcher, as in launcher=Launcher(MultiWorker(2)); found {launcher!r}."
    )


def _check_global_batch(batch_size: int, topology: Topology) -> None:
    if isinstance(topology, MultiWorker) and batch_size < len(topology.callers):
        raise PlanError(
            f"batch_size is the global batch size, and {topology} needs a row for each of its "
            f"workers in it; found {batch_size}. Use at least {len(topology.callers)}, or fewer "
            "workers."
        )


def _check_epochs(initial_epoch: Any, epochs: int) -> None:
    if not is_count(initial_epoch):
        raise PlanError(f"initial_epoch is a whole number of at least 0, found {initial_epoch!r}.")
    if initial_epoch > epochs:
        raise PlanError(
            f"initial_epoch={initial_epoch} is behind the last epoch, because epochs={epochs} "
            "counts from 0 and not from initial_epoch."
        )


def _check_callbacks(callbacks: Any) -> None:
    if isinstance(callbacks, str) or not isinstance(callbacks, Sequence):
        raise PlanError(
            "callbacks is a list of Keras callbacks, as in callbacks=[EarlyStopping()]; found "
            f"{callbacks!r}."
        )
    for callback in callbacks:
        if inspect.isclass(callback):
            raise PlanError(
                f"callbacks holds the class {callback.__qualname__}; a callback is an object of "
                f"it, as in {callback.__qualname__}()."
            )
        if not callable(getattr(callback, "set_model", None)):
            raise PlanError(f"callbacks holds {callback!r}, which is not a Keras callback.")


def _check_class_weight(class_weight: Any) -> None:
    if class_weight is None:
        return
    good = isinstance(class_weight, Mapping) and all(
        is_count(index) and isinstance(weight, int | float) and not isinstance(weight, bool)
        for index, weight in class_weight.items()
    )
    if not good:
        raise PlanError(
            "class_weight is a dictionary of numbers by the class's index, as in {0: 1.0, 1: 3.0}; "
            f"found {class_weight!r}."
        )
