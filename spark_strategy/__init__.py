"""Distributed Keras and tf.distribute training on Apache Spark.

Importing this package imports neither TensorFlow nor PySpark; each loads with the first
name that needs it (PEP 562).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from spark_strategy import errors
from spark_strategy.topology import MultiWorker

if TYPE_CHECKING:
    from spark_strategy.barrier import join_cluster
    from spark_strategy.launcher import Launcher, RunResult, distribute
    from spark_strategy.worker.context import WorkerContext, get_context
    from spark_strategy.worker.resolver import SparkClusterResolver

__all__ = [
    "Launcher",
    "MultiWorker",
    "RunResult",
    "SparkClusterResolver",
    "WorkerContext",
    "distribute",
    "errors",
    "get_context",
    "join_cluster",
]

# Also what starts a guard and a child imports this package first: they need none of these.
_LATER: Final = {
    "Launcher": "spark_strategy.launcher",
    "RunResult": "spark_strategy.launcher",
    "WorkerContext": "spark_strategy.worker.context",
    "distribute": "spark_strategy.launcher",
    "get_context": "spark_strategy.worker.context",
    "SparkClusterResolver": "spark_strategy.worker.resolver",
    "join_cluster": "spark_strategy.barrier",
}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
