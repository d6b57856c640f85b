"""How a pickled model reaches the executors: once for each, whatever the number of tasks."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spark_strategy.spark.capacity import is_connect

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@dataclass(frozen=True, slots=True)
class _Broadcast:
    """On classic Spark."""

    held: Any

    def __call__(self) -> bytes:
        return bytes(self.held.value)


@dataclass(frozen=True, slots=True)
class _Artifact:
    """On Connect, which has no broadcasts."""

    name: str

    def __call__(self) -> bytes:
        from pyspark import SparkFiles

        return Path(SparkFiles.get(self.name)).read_bytes()


def shipped(spark: SparkSession, model: bytes) -> Callable[[], bytes]:
    """A function for the tasks that gives the model; reading it costs only who calls it."""
    if not is_connect(spark):
        return _Broadcast(spark.sparkContext.broadcast(model))
    name = f"spark_strategy_model_{hashlib.sha256(model).hexdigest()[:32]}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(model)
        spark.addArtifacts(str(path), file=True)
    return _Artifact(name)
