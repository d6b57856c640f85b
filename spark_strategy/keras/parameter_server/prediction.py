"""Predictions that the workers compute, in the order of the rows."""

from __future__ import annotations

from typing import Any

from spark_strategy.keras.parameter_server.once import Pass
from spark_strategy.keras.parameter_server.source import Source


def callbacks_of(model: Any, callbacks: Any, verbose: Any) -> Any:
    """As a CallbackList, with a progress bar."""
    from keras.src.callbacks import CallbackList

    if isinstance(callbacks, CallbackList):
        return callbacks
    return CallbackList(
        callbacks, add_progbar=verbose != 0, verbose=verbose, epochs=1, steps=None, model=model
    )


def predicted(model: Any, source: Source, steps: int | None, callbacks: Any) -> Any:
    """The model's outputs for all rows, in their order, as NumPy arrays."""
    from keras.src import tree

    model.stop_predicting = False
    callbacks.on_predict_begin()
    came: dict[tuple[int, int], Any] = {}
    predicting = Pass(model.distribute_strategy, model.predict_step)
    for result in predicting.results(source, limit=steps, begin_again=came.clear):
        step = len(came)
        callbacks.on_predict_batch_begin(step)
        place = (result.worker, result.place) if source.own_rows else (result.place, result.worker)
        came[place] = result.outputs
        callbacks.on_predict_batch_end(step, {"outputs": result.outputs})
        if model.stop_predicting:
            break
    callbacks.on_predict_end()
    if not came:
        raise ValueError("There is no row to predict for: the dataset is empty.")
    parts = [came[place] for place in sorted(came)]
    return tree.map_structure(lambda *batches: _joined(batches), *parts)


def _joined(batches: Any) -> Any:
    import numpy as np

    return np.concatenate([np.asarray(batch) for batch in batches], axis=0)
