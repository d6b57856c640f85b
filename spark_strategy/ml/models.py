"""What a user calls a model -> how it travels, and the program it is."""

from __future__ import annotations

import importlib
import json
import zipfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spark_strategy.errors import PlanError
from spark_strategy.keras import transport
from spark_strategy.ml.model_files import local_copy

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from spark_strategy.worker.program import Program
    from spark_strategy.worker.sources import Source


def described(
    model: Any, signature: str | None, weights: Any, spark: SparkSession | None = None
) -> tuple[Source, Program]:
    """The model, to send and to ask about its inputs and outputs. Imports TensorFlow.

    Args:
        model: a Keras model; the path of a ``.keras`` file, or of a SavedModel's folder; or a
            function without arguments that builds a Keras model.
        signature: of a SavedModel.
        weights: for a function: as ``get_weights`` gives them, or the path of a file that Keras'
            ``load_weights`` reads; None if it sets them itself.
        spark: the session, whose default filesystem paths without a scheme are on; None for the
            local disk.

    Raises:
        PlanError: it is none of these, or cannot be loaded or sent.
    """
    with ExitStack() as held:
        if isinstance(model, str | Path):
            model = held.enter_context(local_copy(model, spark))
        if isinstance(weights, str | Path):
            weights = held.enter_context(local_copy(weights, spark))
        return _described(model, signature, weights)


def _described(model: Any, signature: str | None, weights: Any) -> tuple[Source, Program]:
    """The same of local paths."""
    from spark_strategy.worker.program import KerasProgram
    from spark_strategy.worker.sources import BuildSource, KerasSource, SignatureSource

    is_path = isinstance(model, Path)
    if weights is not None and (is_path or transport.is_model(model)):
        raise PlanError("weights go with a function that builds the model; leave them out.")
    if is_path and Path(model).is_dir():
        source = SignatureSource.of(Path(model), signature or "serving_default")
        return source, source.load()
    if signature is not None:
        raise PlanError(f"signature={signature!r} is for a SavedModel's folder, found {model!r}.")
    if is_path:
        model = loaded(str(model))
    if transport.is_model(model):
        return KerasSource.of(model), KerasProgram(model)
    if not callable(model):
        raise PlanError(
            "model is a Keras model, the path of a .keras file or of a SavedModel's folder, or a "
            f"function that builds a Keras model; found {model!r}."
        )
    built = model()
    if not transport.is_model(built):
        raise PlanError(f"{model!r} returned {built!r}, which is no Keras model.")
    if weights is None:
        return KerasSource.of(built), KerasProgram(built)
    given = _weights(built, weights)
    return BuildSource.of(model, given), KerasProgram(built, given)


def loaded(path: str, custom_objects: dict[str, Any] | None = None) -> Any:
    """The model in a ``.keras`` file, in the Keras that wrote it.

    Raises:
        PlanError: it cannot be loaded; custom objects that are missing are named.
    """
    if not Path(path).exists():
        raise PlanError(f"There is no file {path!r}. Name a .keras file or a SavedModel's folder.")
    try:
        return _library(path).saving.load_model(path, custom_objects=custom_objects)
    # Loading runs the layers' own code: anything can come out of it.
    except Exception as error:
        raise PlanError(
            f"{path} cannot be loaded: {error}\nIf it is made of classes or functions of your own, "
            "import the module that registers them (@keras.saving.register_keras_serializable), "
            "or load it yourself with keras.saving.load_model(path, custom_objects={...}) and pass "
            "the model."
        ) from error


def _library(path: str) -> Any:
    """Keras 3, or tf_keras (version 2); Keras 3 would read its archives as models of its own."""
    with zipfile.ZipFile(path) as archive:
        version = json.loads(archive.read("metadata.json"))["keras_version"]
    return importlib.import_module("tf_keras" if version.startswith("2.") else "keras")


def _weights(model: Any, weights: Any) -> Sequence[Any]:
    if isinstance(weights, str | Path):
        if not model.built:
            raise PlanError(
                "A model that loads weights from a file must be built; give it an Input."
            )
        model.load_weights(str(weights))
        return tuple(model.get_weights())
    return tuple(weights)
