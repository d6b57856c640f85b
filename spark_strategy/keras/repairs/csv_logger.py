"""Keras 3.15's CSVLogger cannot end a log on ``hdfs://`` and the like.

It asks its file whether it is closed, which TensorFlow's GFile (2.21) cannot say.
"""

from __future__ import annotations

import functools
from typing import Any

from spark_strategy.keras.repair import Repair, takes


def _logger() -> Any:
    from keras.src.callbacks.csv_logger import CSVLogger

    return CSVLogger


class _File:
    """Knows what GFile does."""

    def close(self) -> None:
        """As GFile's."""


def _fits() -> bool:
    return takes(_logger(), "on_train_end", "self", "logs")


def _faulty() -> bool:
    logger = _logger()("canary.csv")
    logger.csv_file = _File()
    try:
        logger.on_train_end()
    except AttributeError:
        return True
    return False


def _mend() -> None:
    logger = _logger()
    end = logger.on_train_end

    @functools.wraps(end)
    def on_train_end(self: Any, logs: Any = None) -> None:
        if self.csv_file is not None and not hasattr(self.csv_file, "closed"):
            self.csv_file.close()
            self.csv_file = None
        end(self, logs)

    logger.on_train_end = on_train_end


CSV_LOGGER = Repair("csv log", "csv_logger.py on_train_end", _fits, _faulty, _mend)
