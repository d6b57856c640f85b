"""How a pickled model reaches the executors: once for each, whatever the number of tasks."""

from __future__ import annotations

import hashlib
import pickle
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from spark_strategy.spark import broadcasts
from spark_strategy.spark.capacity import is_connect

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from spark_strategy.spark.servers import Shipped


@dataclass(frozen=True, slots=True)
class _Artifact:
    """On Connect, which has no broadcasts: a file of the session's, which ends with it."""

    name: str

    def __call__(self) -> bytes:
        return Path(self.path()).read_bytes()

    def path(self) -> str:
        from pyspark import SparkFiles

        return SparkFiles.get(self.name)


_LOCK: Final = threading.Lock()
# What each session was given: the artifact's name by the model's key.
_ARTIFACTS: Final[WeakKeyDictionary[Any, dict[str, str]]] = WeakKeyDictionary()


def shipped(spark: SparkSession, source: Any, owner: object) -> Shipped:
    """A model for the tasks, sent once for each session as long as it is needed.

    Args:
        spark: the session.
        source: the model.
        owner: what the user holds of it; see ``broadcasts.shared``.
    """

    def content() -> bytes:
        return pickle.dumps(source)

    if not is_connect(spark):
        return broadcasts.shared(spark.sparkContext, source.key, content, owner)
    with _LOCK:
        sent = _ARTIFACTS.setdefault(spark, {})
        if source.key not in sent:
            sent[source.key] = _sent(spark, content())
        return _Artifact(sent[source.key])


def _sent(spark: SparkSession, model: bytes) -> str:
    name = f"spark_strategy_model_{hashlib.sha256(model).hexdigest()[:32]}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(model)
        spark.addArtifacts(str(path), file=True)
    return name
