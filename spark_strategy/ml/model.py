"""``KerasModel``: a trained Keras model as a Spark ML transformer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyspark.ml.base import Model
from pyspark.ml.util import DefaultParamsReader, DefaultParamsWriter, MLReadable, MLWritable

from spark_strategy.errors import PlanError
from spark_strategy.ml import heads
from spark_strategy.ml.asking import Ask
from spark_strategy.ml.models import described, loaded
from spark_strategy.ml.params import ClassParams, ScoringParams
from spark_strategy.ml.persistence import fetched, stored
from spark_strategy.ml.predict import scored
from spark_strategy.spark.scoring import Limits

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_ARCHIVE = "model.keras"


@dataclass(frozen=True, slots=True)
class TrainingSummary:
    """How a model was trained.

    Attributes:
        history: as ``History.history`` of Keras: a value per epoch for each metric.
        rows: rows that were trained on and validated with.
        text: the run in a few lines, for people.
    """

    history: dict[str, list[float]]
    rows: int
    text: str

    def __str__(self) -> str:
        return self.text


class KerasModel(Model, ScoringParams, MLReadable[Any], MLWritable):
    """A trained Keras model; ``transform`` appends what it gives.

    Made by ``KerasEstimator.fit`` or by ``load``, or of a Keras model trained elsewhere.

    Args:
        model: the Keras model.
        summary: how it was trained; None for a model from elsewhere.
    """

    def __init__(self, model: Any = None, summary: TrainingSummary | None = None) -> None:
        super().__init__()
        self._model = model
        self._summary = summary
        self._described: tuple[Any, Any] | None = None

    @property
    def model(self) -> Any:
        """The Keras model."""
        return self._model

    @property
    def hasSummary(self) -> bool:
        """Whether it is known how the model was trained."""
        return self._summary is not None

    @property
    def summary(self) -> TrainingSummary:
        """How it was trained.

        Raises:
            PlanError: it was not trained by ``fit``.
        """
        if self._summary is None:
            raise PlanError("This model was not trained by fit, so it has no summary.")
        return self._summary

    @property
    def history(self) -> dict[str, list[float]]:
        """A value per epoch for each metric."""
        return self.summary.history

    def write(self) -> Any:
        """A writer for any path that Spark's Hadoop knows."""
        return _Writer(self)

    @classmethod
    def read(cls) -> Any:
        """The reader of what :meth:`write` wrote."""
        return _Reader(cls)

    def _transform(self, dataset: DataFrame) -> DataFrame:
        source, program = self._parts(dataset.sparkSession)
        name = self.getPredictionCol()
        return scored(source, program, dataset, self._ask(), names=name, owner=self._model)

    def _parts(self, spark: SparkSession) -> tuple[Any, Any]:
        """The model to send, and to ask; made once."""
        if self._described is None:
            self._described = described(self._model, None, None, spark)
        return self._described

    def _ask(self) -> Ask:
        return Ask(
            features=self.getFeaturesCol(),
            batch_size=self.getPredictBatchSize(),
            on_error=self.getOnError(),
            columns=self.getColumns(),
            limits=Limits(idle_s=self.getIdleTimeout()),
        )

    def _headed(self, dataset: DataFrame, head: Any, names: dict[str, str]) -> DataFrame:
        """With columns that a head makes of the model's output."""
        source, program = self._parts(dataset.sparkSession)
        vectors = [to for name, to in names.items() if name != heads.PREDICTION]
        return scored(
            source,
            program,
            dataset,
            self._ask(),
            names=names,
            vectors=vectors,
            head=head,
            owner=self._model,
        )


class KerasRegressionModel(KerasModel):
    """A trained regressor; ``transform`` appends one double per row."""

    def _transform(self, dataset: DataFrame) -> DataFrame:
        return self._headed(
            dataset, heads.regression_head, {heads.PREDICTION: self.getPredictionCol()}
        )


class KerasClassificationModel(KerasModel, ClassParams):
    """A trained classifier.

    ``transform`` appends the model's raw output and the probabilities as vectors, and the index of
    the predicted label as a double. A column whose name is empty is left out.
    """

    @property
    def numClasses(self) -> int:
        """Number of classes."""
        shape = self._model.output_shape
        return max(2, int(shape[-1]) if len(shape) > 1 else 1)

    def _transform(self, dataset: DataFrame) -> DataFrame:
        names = {
            heads.RAW: self.getRawPredictionCol(),
            heads.PROBABILITY: self.getProbabilityCol(),
            heads.PREDICTION: self.getPredictionCol(),
        }
        names = {name: to for name, to in names.items() if to}
        thresholds = self.getThresholds() if self.isDefined(self.thresholds) else None

        def head(outputs: Any) -> heads.ClassHead:
            return heads.class_head(
                outputs,
                logits=_gives_logits(self._model),
                thresholds=None if thresholds is None else tuple(thresholds),
                wanted=tuple(names),
            )

        return self._headed(dataset, head, names) if names else dataset


def _gives_logits(model: Any) -> bool:
    """Whether the loss was told so (``from_logits``); otherwise the model gives probabilities."""
    loss: Any = getattr(model, "loss", None)
    config = loss.get_config() if hasattr(loss, "get_config") else {}
    return bool(config.get("from_logits") or config.get("fn_kwargs", {}).get("from_logits"))


class _Writer(DefaultParamsWriter):
    """``metadata`` as pyspark.ml writes it, and the model as Keras does."""

    def saveImpl(self, path: str) -> None:
        """Write to a folder that is not there yet."""
        model: Any = self.instance
        summary = model._summary
        extra = (
            None
            if summary is None
            else {"history": summary.history, "rows": summary.rows, "summary": summary.text}
        )
        # Keras names the folder's file; with the archive first, metadata says that all is there.
        stored(self.sparkSession, f"{path}/{_ARCHIVE}", model.model.save)
        self.saveMetadata(model, path, self.sparkSession, extraMetadata={"training": extra})


class _Reader(DefaultParamsReader[Any]):
    """Reads what :class:`_Writer` wrote."""

    def __init__(self, cls: Any) -> None:
        super().__init__(cls)
        self.cls: Any = cls

    def load(self, path: str) -> Any:
        """The model."""
        name = f"{self.cls.__module__}.{self.cls.__name__}"
        metadata = self.loadMetadata(path, self.sparkSession, name)
        with fetched(self.sparkSession, f"{path}/{_ARCHIVE}") as local:
            model = self.cls(loaded(str(local)), _summary(metadata.get("training")))
        model._resetUid(metadata["uid"])
        self.getAndSetParams(model, metadata)
        return model


def _summary(found: Any) -> TrainingSummary | None:
    if not found:
        return None
    return TrainingSummary(found["history"], found["rows"], found["summary"])
