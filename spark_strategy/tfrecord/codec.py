"""The codec of this machine: in C where it was compiled, else in Python."""

from __future__ import annotations

import importlib
import logging
from functools import cache
from typing import cast

from spark_strategy.tfrecord.wire import Codec

_log = logging.getLogger(__name__)


@cache
def codec() -> Codec:
    """The fastest that there is; what a slow one means is logged once."""
    try:
        found = importlib.import_module("spark_strategy.tfrecord.native")
    except ImportError as error:
        _log.warning(
            "TFRecords are read and written in Python, a hundred times slower than in C: %s. "
            "Install a wheel of spark-strategy, or a C compiler before installing it.",
            error,
        )
        found = importlib.import_module("spark_strategy.tfrecord.pure")
    return cast(Codec, found)
