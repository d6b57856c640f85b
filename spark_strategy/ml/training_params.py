"""The parameters of Spark ML estimators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from pyspark.ml.param import Param, Params
from pyspark.ml.param.shared import HasSeed, HasValidationIndicatorCol, HasWeightCol

from spark_strategy.launcher import Launcher
from spark_strategy.ml import converters
from spark_strategy.ml.params import ScoringParams

_T = TypeVar("_T", bound="TrainingParams")


class TrainingParams(ScoringParams, HasWeightCol, HasValidationIndicatorCol, HasSeed):
    """What an estimator adds: how a model is trained."""

    labelCol: Param[Any] = Param(
        Params._dummy(),
        "labelCol",
        "the target: a column, or a dictionary of columns by the model's output.",
        typeConverter=converters.names,
    )
    batchSize: Param[int] = Param(
        Params._dummy(),
        "batchSize",
        "rows of a step over all workers (>= 1).",
        typeConverter=converters.count,
    )
    epochs: Param[int] = Param(
        Params._dummy(),
        "epochs",
        "how often every row is seen (>= 1).",
        typeConverter=converters.count,
    )
    model: Param[Any] = Param(
        Params._dummy(),
        "model",
        "a compiled Keras model, or a function that builds one.",
        typeConverter=converters.model,
    )
    launcher: Param[Launcher] = Param(
        Params._dummy(),
        "launcher",
        "on how many workers, and how: Launcher(MultiWorker(2)).",
        typeConverter=converters.launcher,
    )
    optimizer: Param[Any] = Param(
        Params._dummy(),
        "optimizer",
        "compile with this optimizer instead of the model's.",
        typeConverter=converters.kept,
    )
    loss: Param[Any] = Param(
        Params._dummy(),
        "loss",
        "compile with this loss instead of the model's.",
        typeConverter=converters.kept,
    )
    metrics: Param[Any] = Param(
        Params._dummy(),
        "metrics",
        "compile with these metrics instead of the model's.",
        typeConverter=converters.kept,
    )
    callbacks: Param[Any] = Param(
        Params._dummy(),
        "callbacks",
        "Keras callbacks, run on every worker.",
        typeConverter=converters.listed,
    )

    def __init__(self) -> None:
        super().__init__()
        self._setDefault(labelCol="label", batchSize=32, epochs=1, callbacks=[])

    def getLabelCol(self) -> Any:
        """The target."""
        return self.getOrDefault(self.labelCol)

    def getBatchSize(self) -> int:
        """Rows of a step over all workers."""
        return int(self.getOrDefault(self.batchSize))

    def getEpochs(self) -> int:
        """How often every row is seen."""
        return int(self.getOrDefault(self.epochs))

    def getModel(self) -> Any:
        """The compiled model, or the function that builds one."""
        return self.getOrDefault(self.model)

    def getLauncher(self) -> Any:
        """On how many workers, and how; None if it was not set."""
        return self.getOrDefault(self.launcher) if self.isDefined(self.launcher) else None

    def getCallbacks(self) -> list[Any]:
        """Keras callbacks."""
        return list(self.getOrDefault(self.callbacks))

    def getOverrides(self) -> dict[str, Any]:
        """Those of optimizer, loss and metrics that are set."""
        chosen = (self.optimizer, self.loss, self.metrics)
        return {one.name: self.getOrDefault(one) for one in chosen if self.isDefined(one)}

    def setLabelCol(self: _T, value: Any) -> _T:
        """A column, or a dictionary of columns by output."""
        return self._set(labelCol=value)

    def setWeightCol(self: _T, value: str) -> _T:
        """The column with each row's weight."""
        return self._set(weightCol=value)

    def setValidationIndicatorCol(self: _T, value: str) -> _T:
        """The boolean column that is true for rows to validate with."""
        return self._set(validationIndicatorCol=value)

    def setSeed(self: _T, value: int) -> _T:
        """Of the shuffle, and of Keras where the model is built by a function."""
        return self._set(seed=value)

    def setBatchSize(self: _T, value: int) -> _T:
        """Rows of a step over all workers."""
        return self._set(batchSize=value)

    def setEpochs(self: _T, value: int) -> _T:
        """How often every row is seen."""
        return self._set(epochs=value)

    def setModel(self: _T, value: Any) -> _T:
        """A compiled Keras model, or a function that builds one."""
        return self._set(model=value)

    def setLauncher(self: _T, value: Launcher) -> _T:
        """On how many workers, and how."""
        return self._set(launcher=value)

    def setOptimizer(self: _T, value: Any) -> _T:
        """Instead of the model's."""
        return self._set(optimizer=value)

    def setLoss(self: _T, value: Any) -> _T:
        """Instead of the model's."""
        return self._set(loss=value)

    def setMetrics(self: _T, value: Any) -> _T:
        """Instead of the model's."""
        return self._set(metrics=value)

    def setCallbacks(self: _T, value: Sequence[Any]) -> _T:
        """Run on every worker."""
        return self._set(callbacks=value)
