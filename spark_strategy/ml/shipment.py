"""How a pickled model reaches the executors: once for each, whatever the number of tasks."""

from __future__ import annotations

import hashlib
import pickle
import tempfile
from collections.abc import Callable, MutableMapping
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


Sent = MutableMapping[str, Callable[[], bytes]]


def shipped(spark: SparkSession, source: Any, sent: Sent) -> Callable[[], bytes]:
    """A function for the tasks that gives a pickled model; reading it costs only who calls it.

    Args:
        spark: the session.
        source: the model.
        sent: of this model, by session; what is in it is not sent again.
    """
    client: Any = spark
    session = client.session_id if is_connect(spark) else client.sparkContext.applicationId
    if session not in sent:
        sent[session] = _sent(spark, pickle.dumps(source))
    return sent[session]


def _sent(spark: SparkSession, model: bytes) -> Callable[[], bytes]:
    if not is_connect(spark):
        return _Broadcast(spark.sparkContext.broadcast(model))
    name = f"spark_strategy_model_{hashlib.sha256(model).hexdigest()[:32]}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(model)
        spark.addArtifacts(str(path), file=True)
    return _Artifact(name)
