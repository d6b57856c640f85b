"""Saving a model from one or from all ranks of a run, to one complete artifact."""

from __future__ import annotations

import os
from types import ModuleType
from typing import Any

from spark_strategy.keras.artifacts import artifact
from spark_strategy.keras.place import Place
from spark_strategy.keras.redirect import through_artifact


def adapt(keras: ModuleType, place: Place) -> None:
    """Lets every way Keras 3 has of writing a model end in one artifact, written by the chief."""
    from keras.src.export.saved_model import ExportArchive
    from keras.src.legacy.saving import legacy_h5_format
    from keras.src.saving import saving_lib
    from keras.src.utils import io_utils

    through_artifact(saving_lib, "save_model", place)
    through_artifact(saving_lib, "save_weights_only", place)
    through_artifact(legacy_h5_format, "save_model_to_hdf5", place)
    through_artifact(keras.Model, "export", place)
    through_artifact(ExportArchive, "write_out", place)
    if not place.is_chief:
        # The path is the chief's to overwrite; this rank writes to scratch in any case.
        io_utils.ask_to_proceed_with_overwrite = lambda _path: True


def save(model: Any, path: str | os.PathLike[str], *, is_chief: bool, scratch: str) -> None:
    """Writes ``model`` to ``path``, called by every rank or by the chief alone.

    Args:
        model: of Keras 3 or tf_keras.
        path: ``.keras`` or ``.h5`` keep the model, ``.weights.h5`` its weights; anything else
            becomes a SavedModel directory. Any scheme that TensorFlow writes, such as ``gs://``.
        is_chief: whether this rank's file is the artifact.
        scratch: where the others write, and remove again.
    """
    name = os.fspath(path)
    with artifact(name, Place(is_chief, scratch)) as target:
        if name.endswith(".weights.h5"):
            model.save_weights(target)
        elif name.endswith((".keras", ".h5", ".hdf5")):
            model.save(target)
        else:
            model.export(target)
