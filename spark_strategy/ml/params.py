"""The parameters of Spark ML models, which estimators have as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pyspark.ml.param import Param, Params
from pyspark.ml.param.shared import (
    HasPredictionCol,
    HasProbabilityCol,
    HasRawPredictionCol,
    HasThresholds,
)

from spark_strategy.data.columns import Column
from spark_strategy.ml import converters

_P = TypeVar("_P", bound="ScoringParams")


class ScoringParams(HasPredictionCol):
    """What estimators and models share: how rows are scored."""

    featuresCol: Param[Any] = Param(
        Params._dummy(),
        "featuresCol",
        "features: a column, a list of numeric columns, or a dictionary of these by input.",
        typeConverter=converters.names,
    )
    columns: Param[Any] = Param(
        Params._dummy(),
        "columns",
        "what a column's type does not say, as in {'image': Column(shape=(28, 28, 1))}.",
        typeConverter=converters.declarations,
    )
    predictBatchSize: Param[int] = Param(
        Params._dummy(),
        "predictBatchSize",
        "rows of a batch in transform (>= 1).",
        typeConverter=converters.count,
    )
    onError: Param[str] = Param(
        Params._dummy(),
        "onError",
        "what transform does with a row that is no tensor: raise, or null.",
        typeConverter=converters.one_of("raise", "null"),
    )
    idleTimeout: Param[float] = Param(
        Params._dummy(),
        "idleTimeout",
        "seconds that executors keep the model in memory after its last use (> 0).",
        typeConverter=converters.seconds,
    )

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(
            featuresCol="features",
            columns={},
            predictBatchSize=1024,
            onError="raise",
            idleTimeout=300.0,
        )

    def getFeaturesCol(self) -> Any:
        """The features."""
        return self.getOrDefault(self.featuresCol)

    def getColumns(self) -> dict[str, Column]:
        """The declarations, by column."""
        return converters.as_columns(self.getOrDefault(self.columns))

    def getPredictBatchSize(self) -> int:
        """Rows of a batch in transform."""
        return int(self.getOrDefault(self.predictBatchSize))

    def getOnError(self) -> Any:
        """What transform does with a row that is no tensor."""
        return self.getOrDefault(self.onError)

    def getIdleTimeout(self) -> float:
        """Seconds that executors keep the model."""
        return float(self.getOrDefault(self.idleTimeout))

    def setFeaturesCol(self: _P, value: Any) -> _P:
        """A column, a list of numeric columns, or a dictionary of these by input."""
        return self._set(featuresCol=value)

    def setPredictionCol(self: _P, value: str) -> _P:
        """The new column."""
        return self._set(predictionCol=value)

    def setColumns(self: _P, value: Mapping[str, Column]) -> _P:
        """What a column's type does not say."""
        return self._set(columns=value)

    def setPredictBatchSize(self: _P, value: int) -> _P:
        """Rows of a batch in transform."""
        return self._set(predictBatchSize=value)

    def setOnError(self: _P, value: str) -> _P:
        """What transform does with a row that is no tensor: "raise", or "null"."""
        return self._set(onError=value)

    def setIdleTimeout(self: _P, value: float) -> _P:
        """Seconds that executors keep the model."""
        return self._set(idleTimeout=value)


class ClassParams(HasProbabilityCol, HasRawPredictionCol, HasThresholds):
    """What a classifier adds. A column whose name is empty is left out."""

    def setProbabilityCol(self: Any, value: str) -> Any:
        """The column with a vector of probabilities."""
        return self._set(probabilityCol=value)

    def setRawPredictionCol(self: Any, value: str) -> Any:
        """The column with a vector of what the model gives."""
        return self._set(rawPredictionCol=value)

    def setThresholds(self: Any, value: Sequence[float]) -> Any:
        """One per class; the largest probability divided by threshold is predicted."""
        return self._set(thresholds=value)
