"""Keras 3 builds a model from the first batch, which fails when the batch is distributed.

``TensorFlowTrainer._maybe_symbolic_build`` passes the whole nested batch to
``strategy.reduce("MEAN", batch, axis=None)``. MultiWorkerMirroredStrategy cannot convert that, and
a mean over replicas is meant for numbers anyway, not for labels or strings: only shapes and dtypes
are looked at, so the local replica's part does (keras#20585).
"""

from __future__ import annotations

import contextlib
from typing import Any

from spark_strategy.keras.repair import Repair, takes


def _trainer() -> Any:
    from keras.src.backend.tensorflow import trainer

    return trainer.TensorFlowTrainer


def _fits() -> bool:
    return takes(_trainer(), "_maybe_symbolic_build", "self", "iterator", "data_batch")


def _faulty() -> bool:
    first_batch = [(0, 0, iter([_batch()]))]
    try:
        _trainer()._maybe_symbolic_build(_Model(), iterator=first_batch)
    except _CannotReduceError:
        return True
    return False


def _mend() -> None:
    import tensorflow as tf

    build = _trainer()._maybe_symbolic_build

    def maybe_symbolic_build(self: Any, iterator: Any = None, data_batch: Any = None) -> Any:
        if self._distribute_strategy is None or iterator is None:
            return build(self, iterator=iterator, data_batch=data_batch)
        _, _, batches = next(iter(iterator))
        if (first := next(batches, None)) is None:
            return None  # no rank has a row: there is nothing to build from, and nothing to do
        local = self.distribute_strategy.experimental_local_results
        batch = tf.nest.map_structure(lambda value: _row_like(local(value)[0]), first)
        return build(self, data_batch=batch)

    _trainer()._maybe_symbolic_build = maybe_symbolic_build


def _row_like(value: Any) -> Any:
    """The value, or in the place of one without rows the shape and dtype of one with a row.

    A layer that reshapes by what it gets cannot be built from nothing.
    """
    import tensorflow as tf

    if isinstance(value, tf.Tensor) and value.shape.rank and value.shape[0] == 0:
        return tf.TensorSpec([1, *value.shape[1:]], value.dtype)
    return value


class _CannotReduceError(Exception):
    """What MultiWorkerMirroredStrategy would answer."""


class _Strategy:
    """Refuses a nested batch as MultiWorkerMirroredStrategy does; needs no cluster."""

    def reduce(self, _op: str, value: Any, axis: int | None = None) -> Any:
        if isinstance(value, tuple):
            raise _CannotReduceError(f"the structure {value!r} (axis={axis})")
        return value

    def experimental_local_results(self, value: Any) -> Any:
        return value.values

    def scope(self) -> contextlib.nullcontext[None]:
        return contextlib.nullcontext()


class _Model:
    """As much of a model as building it needs."""

    _distribute_strategy = distribute_strategy = _Strategy()

    def _symbolic_build(self, data_batch: Any) -> None:
        self.built_from = data_batch


def _batch() -> Any:
    """A pair of distributed values, as a batch of inputs and targets is."""
    import tensorflow as tf

    class Distributed(tf.distribute.DistributedValues):
        values = ("local",)

    return Distributed(), Distributed()


SYMBOLIC_BUILD = Repair(
    "symbolic build", "keras#20585, trainer.py _maybe_symbolic_build", _fits, _faulty, _mend
)
