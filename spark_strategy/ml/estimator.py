"""``KerasEstimator``: ``fit`` as a Spark ML stage, in the conventions of pyspark.ml."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

from pyspark import keyword_only
from pyspark.ml.base import Estimator
from pyspark.ml.param import Param
from pyspark.ml.util import DefaultParamsReader, DefaultParamsWriter, MLReadable, MLWritable

from spark_strategy.data.columns import Column
from spark_strategy.data.schema import leaves
from spark_strategy.errors import PlanError
from spark_strategy.keras import transport
from spark_strategy.launcher import Launcher
from spark_strategy.ml.building import build
from spark_strategy.ml.fit import fit
from spark_strategy.ml.model import (
    KerasClassificationModel,
    KerasModel,
    KerasRegressionModel,
    TrainingSummary,
)
from spark_strategy.ml.params import ClassParams
from spark_strategy.ml.persistence import fetched, stored
from spark_strategy.ml.training_params import TrainingParams
from spark_strategy.topology import MultiWorker

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_E = TypeVar("_E", bound="KerasEstimator")

_BUILD: Final = "buildArg_"
_PICKLE: Final = "estimator.pickle"
# Values that JSON cannot hold; a pickle beside the metadata does.
_OBJECTS: Final = ("model", "launcher", "optimizer", "loss", "metrics", "callbacks")

# CrossValidator fits from several threads. A fit takes its workers' slots all at once, and two
# would only wait for each other inside Spark, with their deadlines running.
_ONE_FIT: Final = threading.Lock()


class KerasEstimator(Estimator[Any], TrainingParams, MLReadable[Any], MLWritable):
    """Trains a Keras model on a DataFrame; ``fit`` gives a :class:`KerasModel`.

    Args:
        model: a compiled Keras model, or a function that builds one.
        buildArgs: arguments of that function. Each is a parameter of its own, for grids:
            ``ParamGridBuilder().addGrid(estimator.buildArg("units"), [16, 64])``.
        launcher: on how many workers, and how; by default one.
        featuresCol: a column (vectors, arrays and numbers), a list of numeric columns, or a
            dictionary of these by the model's input.
        labelCol: a column, or a dictionary by output.
        weightCol: each row's weight.
        validationIndicatorCol: true for rows to validate with.
        predictionCol: what ``transform`` appends.
        batchSize: rows of a step over all workers.
        epochs: how often every row is seen.
        optimizer: compiles the model anew with it; so do loss and metrics.
        loss: see optimizer.
        metrics: see optimizer.
        callbacks: Keras callbacks, run on every worker.
        seed: of the shuffle, and of the weights that a function draws.
        columns: what a column's type does not say, as for ``fit``.
        predictBatchSize: rows of a batch in ``transform``.
        onError: "raise", or "null" for rows that are no tensors.
        idleTimeout: seconds that executors keep the model after its last use.
    """

    _fitted: ClassVar[type[KerasModel]] = KerasModel
    _input_kwargs: dict[str, Any]  # by keyword_only

    @keyword_only
    def __init__(
        self,
        *,
        model: Any = None,
        buildArgs: Mapping[str, Any] | None = None,
        launcher: Launcher | None = None,
        featuresCol: Any = "features",
        labelCol: Any = "label",
        weightCol: str | None = None,
        validationIndicatorCol: str | None = None,
        predictionCol: str = "prediction",
        batchSize: int = 32,
        epochs: int = 1,
        optimizer: Any = None,
        loss: Any = None,
        metrics: Any = None,
        callbacks: Any = None,
        seed: int | None = None,
        columns: Mapping[str, Column] | None = None,
        predictBatchSize: int = 1024,
        onError: str = "raise",
        idleTimeout: float = 300.0,
    ) -> None:
        super().__init__()
        self._init(self._input_kwargs)

    def _init(self, given: Mapping[str, Any]) -> None:
        values = dict(given)
        arguments = values.pop("buildArgs", None) or {}
        self._set(**{name: one for name, one in values.items() if one is not None})
        self.setBuildArgs(**arguments)

    @keyword_only
    def setParams(self: _E, **params: Any) -> _E:
        """Set several parameters, by the names of the constructor's arguments."""
        self._init(self._input_kwargs)
        return self

    def buildArg(self, name: str) -> Param[Any]:
        """The parameter for an argument of the function that builds the model, for grids."""
        attribute = f"{_BUILD}{name}"
        if not self.hasParam(attribute):
            if not name.isidentifier():
                raise TypeError(f"an argument's name is needed, found {name!r}")
            made: Param[Any] = Param(self, attribute, f"argument {name!r} of the build function")
            setattr(self, attribute, made)
            self._params = None  # the list that Params keeps
        found: Param[Any] = getattr(self, attribute)
        return found

    def setBuildArgs(self: _E, **arguments: Any) -> _E:
        """Arguments of the function that builds the model."""
        for name, value in arguments.items():
            self.set(self.buildArg(name), value)
        return self

    def getBuildArgs(self) -> dict[str, Any]:
        """Those that are set."""
        return {
            param.name.removeprefix(_BUILD): self.getOrDefault(param)
            for param in self.params
            if param.name.startswith(_BUILD) and self.isSet(param)
        }

    def write(self) -> Any:
        """A writer for any path that Spark's Hadoop knows."""
        return _Writer(self)

    @classmethod
    def read(cls) -> Any:
        """The reader of what :meth:`write` wrote."""
        return _Reader(cls)

    def _fit(self, dataset: DataFrame) -> KerasModel:
        if not self.isDefined(self.model):
            raise PlanError("There is no model yet: set one with setModel(...).")
        seed = self._optional("seed")
        made = build(self.getModel(), self.getBuildArgs(), self.getOverrides(), seed)
        with _ONE_FIT:
            result = fit(
                made,
                dataset,
                launcher=self.getLauncher() or Launcher(MultiWorker(1)),
                features=self.getFeaturesCol(),
                label=self.getLabelCol(),
                weight=self._optional("weightCol"),
                batch_size=self.getBatchSize(),
                epochs=self.getEpochs(),
                validation=self._optional("validationIndicatorCol"),
                callbacks=self.getCallbacks(),
                # Spark's seeds are signed and of 64 bits.
                seed=None if seed is None else seed % 2**32,
                columns=self._fit_columns(dataset),
            )
        summary = TrainingSummary(result.history, result.run.rows, result.run.summary())
        return self._copyValues(self._fitted(result.model, summary))

    def _fit_columns(self, dataset: DataFrame) -> dict[str, Column]:
        """The declarations; Spark's vectors, doubles all, travel as the float32 they become."""
        declared = self.getColumns()
        features = self.getFeaturesCol()
        names = features.values() if isinstance(features, Mapping) else [features]
        flat = {one for group in names for one in ([group] if isinstance(group, str) else group)}
        fields = [one for one in dataset.schema.jsonValue()["fields"] if one["name"] in flat]
        vectors = [leaf.name for leaf in leaves({"fields": fields}) if leaf.is_vector]
        return {**{name: Column(dtype="float32") for name in vectors}, **declared}

    def _optional(self, name: str) -> Any:
        """A parameter's value; None where it is not set by the user."""
        param = self.getParam(name)
        return self.getOrDefault(param) if self.isSet(param) else None


class KerasRegressor(KerasEstimator):
    """A :class:`KerasEstimator` for a model with one number per row; predicts doubles."""

    _fitted = KerasRegressionModel


class KerasClassifier(KerasEstimator, ClassParams):
    """A :class:`KerasEstimator` for classes; the labels are their indices, from 0.

    The model has an output per class, or one for the second of two classes: probabilities, or
    logits if its loss says ``from_logits=True``. Takes the arguments of ``KerasEstimator``, and:

    Args:
        probabilityCol: the column with a vector of probabilities.
        rawPredictionCol: the column with a vector of what the model gives.
        thresholds: one per class; the largest probability divided by threshold is predicted.
    """

    _fitted = KerasClassificationModel

    @keyword_only
    def __init__(self, **params: Any) -> None:
        # All but KerasEstimator's own, which knows other arguments.
        super(KerasEstimator, self).__init__()
        self._init(self._input_kwargs)


class _Writer(DefaultParamsWriter):
    """``metadata`` as pyspark.ml writes it, and a pickle of what JSON cannot hold."""

    def saveImpl(self, path: str) -> None:
        """Write to a folder that is not there yet."""
        estimator: Any = self.instance
        values = {param.name: one for param, one in estimator._paramMap.items()}
        objects = {name: one for name, one in values.items() if name in _OBJECTS}
        plain = {name: one for name, one in values.items() if name not in _OBJECTS}
        pickled = _pickled(objects)

        def write(local: str) -> None:
            with open(local, "wb") as file:  # noqa: PTH123
                file.write(pickled)

        stored(self.sparkSession, f"{path}/{_PICKLE}", write)
        self.saveMetadata(estimator, path, self.sparkSession, paramMap=plain)


class _Reader(DefaultParamsReader[Any]):
    """Reads what :class:`_Writer` wrote."""

    def __init__(self, cls: Any) -> None:
        super().__init__(cls)
        self.cls: Any = cls

    def load(self, path: str) -> Any:
        """The estimator. Unpickles: load only what you trust."""
        name = f"{self.cls.__module__}.{self.cls.__name__}"
        metadata = self.loadMetadata(path, self.sparkSession, name)
        estimator = self.cls()
        estimator._resetUid(metadata["uid"])
        for param in metadata["paramMap"]:
            if param.startswith(_BUILD):
                estimator.buildArg(param.removeprefix(_BUILD))
        self.getAndSetParams(estimator, metadata)
        with fetched(self.sparkSession, f"{path}/{_PICKLE}") as local:
            objects = pickle.loads(local.read_bytes())
        return estimator._set(**{name: pickle.loads(one) for name, one in objects.items()})


def _pickled(objects: Mapping[str, Any]) -> bytes:
    """Each by itself, functions by value where they are not installed."""
    from spark_strategy import shipping

    made = {}
    for name, one in objects.items():
        try:
            is_function = callable(one) and hasattr(one, "__code__")
            made[name] = shipping.by_value(one) if is_function else transport.dumps(one)
        # Pickling runs the objects' own code: anything can come out of it.
        except Exception as error:
            raise PlanError(f"{name}={one!r} cannot be saved: {error}") from error
    return pickle.dumps(made)
