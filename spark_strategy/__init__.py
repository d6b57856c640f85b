"""Distributed Keras and tf.distribute training on Apache Spark.

Importing this package imports neither TensorFlow nor PySpark; each loads with the first
name that needs it (PEP 562).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from spark_strategy import errors
from spark_strategy.parameter_server import ParameterServer
from spark_strategy.topology import Independent, ModelParallel, MultiWorker

if TYPE_CHECKING:
    from spark_strategy.barrier import join_cluster
    from spark_strategy.data.columns import Column
    from spark_strategy.data.feed import Cache
    from spark_strategy.decorate import distribute
    from spark_strategy.evaluator import Evaluation, Evaluator
    from spark_strategy.launcher import Launcher
    from spark_strategy.ml.adapt import adapt
    from spark_strategy.ml.estimator import KerasClassifier, KerasEstimator, KerasRegressor
    from spark_strategy.ml.fit import FitResult, fit
    from spark_strategy.ml.functions import register_udf
    from spark_strategy.ml.model import (
        KerasClassificationModel,
        KerasModel,
        KerasRegressionModel,
    )
    from spark_strategy.ml.predict import predict
    from spark_strategy.patience import Patience
    from spark_strategy.result import MapResult, RunResult
    from spark_strategy.worker.context import WorkerContext
    from spark_strategy.worker.current import get_context
    from spark_strategy.worker.resolver import SparkClusterResolver

__all__ = [
    "Cache",
    "Column",
    "Evaluation",
    "Evaluator",
    "FitResult",
    "Independent",
    "KerasClassificationModel",
    "KerasClassifier",
    "KerasEstimator",
    "KerasModel",
    "KerasRegressionModel",
    "KerasRegressor",
    "Launcher",
    "MapResult",
    "ModelParallel",
    "MultiWorker",
    "ParameterServer",
    "Patience",
    "RunResult",
    "SparkClusterResolver",
    "WorkerContext",
    "adapt",
    "distribute",
    "errors",
    "fit",
    "get_context",
    "join_cluster",
    "predict",
    "register_udf",
]

# Also what starts a guard and a child imports this package first: they need none of these.
_LATER: Final = {
    "Cache": "spark_strategy.data.feed",
    "Column": "spark_strategy.data.columns",
    "Evaluation": "spark_strategy.evaluator",
    "Evaluator": "spark_strategy.evaluator",
    "Launcher": "spark_strategy.launcher",
    "FitResult": "spark_strategy.ml.fit",
    "MapResult": "spark_strategy.result",
    "Patience": "spark_strategy.patience",
    "RunResult": "spark_strategy.result",
    "adapt": "spark_strategy.ml.adapt",
    "fit": "spark_strategy.ml.fit",
    "KerasClassificationModel": "spark_strategy.ml.model",
    "KerasClassifier": "spark_strategy.ml.estimator",
    "KerasEstimator": "spark_strategy.ml.estimator",
    "KerasModel": "spark_strategy.ml.model",
    "KerasRegressionModel": "spark_strategy.ml.model",
    "KerasRegressor": "spark_strategy.ml.estimator",
    "predict": "spark_strategy.ml.predict",
    "register_udf": "spark_strategy.ml.functions",
    "WorkerContext": "spark_strategy.worker.context",
    "distribute": "spark_strategy.decorate",
    "get_context": "spark_strategy.worker.current",
    "SparkClusterResolver": "spark_strategy.worker.resolver",
    "join_cluster": "spark_strategy.barrier",
}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
