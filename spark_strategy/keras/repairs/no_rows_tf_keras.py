"""tf_keras takes a rank without rows for one that learned nothing from the others.

``BatchNormalization`` leaves the moving statistics of a replica without rows as they are, which is
right for its own; but with ``synchronized=True`` they are those of the step's rows, which the
replica got from the others, and it falls behind them (``_support_zero_size_input``).
"""

from __future__ import annotations

import functools
from typing import Any

from spark_strategy.keras.repair import Repair, takes


def _layer() -> Any:
    from tf_keras.src.layers.normalization import batch_normalization

    return batch_normalization.BatchNormalizationBase


def _fits() -> bool:
    return takes(_layer(), "_support_zero_size_input", "self")


def _faulty() -> bool:
    """Fixed when the answer depends on the layer."""
    return "synchronized" not in _layer()._support_zero_size_input.__code__.co_names


def _mend() -> None:
    layer = _layer()
    support = layer._support_zero_size_input

    @functools.wraps(support)
    def support_zero_size_input(self: Any) -> Any:
        return not self.synchronized and support(self)

    layer._support_zero_size_input = support_zero_size_input


NO_ROWS_TF_KERAS = Repair(
    "no rows", "batch_normalization.py _support_zero_size_input", _fits, _faulty, _mend
)
