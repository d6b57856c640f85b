"""Keras under a multi-worker strategy: the one place that touches private Keras API.

Importing this package imports neither TensorFlow nor Keras.
"""

from __future__ import annotations

from types import ModuleType

from spark_strategy.keras.imports import when_imported
from spark_strategy.keras.place import Place
from spark_strategy.keras.saving import save

__all__ = ["install", "save"]


def install(*, is_chief: bool, scratch: str) -> None:
    """Prepares this process so that Keras, once imported, trains and saves as one of several ranks.

    Called in the child before the user's function is unpickled. Cheap where Keras is never used.

    Args:
        is_chief: whether this rank's files are the run's artifacts and its progress is shown.
        scratch: an existing local folder for what the other ranks write; removed by the caller.

    Raises:
        UnsupportedKerasError: Keras is imported already and a repair does not fit it. Otherwise
            the import of Keras raises it.
    """
    place = Place(is_chief, scratch)

    def keras3(module: ModuleType) -> None:
        from spark_strategy.keras.keras3 import adapt

        adapt(module, place)

    def keras2(module: ModuleType) -> None:
        from spark_strategy.keras.tf_keras import adapt

        adapt(module, place)

    when_imported("keras", keras3)
    when_imported("tf_keras", keras2)
