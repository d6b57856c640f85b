"""Keras 3 calls the end of a dataset of unknown size an interruption.

``EpochIterator.catch_stop_iteration`` warns "Your input ran out of data; interrupting training" at
the end of every epoch of such a dataset, although nobody asked for more steps and nothing is
interrupted. A dataset whose rows still arrive has no size yet.
"""

from __future__ import annotations

import inspect
from typing import Any

from spark_strategy.keras.repair import Repair, takes


def _iterator() -> Any:
    from keras.src.backend.tensorflow import trainer

    return trainer.TFEpochIterator


def _fits() -> bool:
    return takes(_iterator(), "_interrupted_warning", "self")


def _faulty() -> bool:
    """Fixed when it asks how many steps were wanted."""
    from keras.src.trainers.epoch_iterator import EpochIterator

    code = inspect.unwrap(EpochIterator.catch_stop_iteration).__code__
    return "steps_per_epoch" not in code.co_names


def _mend() -> None:
    iterator = _iterator()
    warn = iterator._interrupted_warning

    def interrupted_warning(self: Any) -> None:
        if self.steps_per_epoch or self.data_adapter.num_batches:
            warn(self)

    iterator._interrupted_warning = interrupted_warning


END_OF_DATA = Repair("end of data", "epoch_iterator.py catch_stop_iteration", _fits, _faulty, _mend)
