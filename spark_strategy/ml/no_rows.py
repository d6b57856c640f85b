"""What ``fit`` does on a rank where there are no rows to train on, or to validate with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Final

from spark_strategy.keras import transport
from spark_strategy.spark.frames import VALIDATION

NO_ROWS: Final = (
    "There are no rows to train on: the DataFrame is empty, or a filter or the validation left "
    "nothing of it. In foreachBatch, ask batch.isEmpty() first."
)


@contextlib.contextmanager
def evaluating_nothing(model: Any, feed: Any) -> Iterator[None]:
    """Let a tf_keras model that validates without rows have no metrics of it, as Keras 3 has it.

    Args:
        model: of either Keras.
        feed: the rank's rows, or None.
    """
    if feed is None or transport.flavour_of(model) != "tf_keras":
        yield
        return
    evaluate = model.evaluate
    model.evaluate = lambda *args, **options: (
        evaluate(*args, **options) if feed.has_rows(VALIDATION) else {}
    )
    try:
        yield
    finally:
        del model.evaluate
