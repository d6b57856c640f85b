"""Files at any path that Spark's Hadoop knows, through the driver's JVM."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spark_strategy.errors import PlanError
from spark_strategy.spark.capacity import is_connect

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def stored(spark: SparkSession, path: str, write: Callable[[str], Any]) -> None:
    """A file at ``path``, written locally first.

    Args:
        spark: a classic session.
        path: such as ``hdfs://namenode/models/a/model.keras``; must not exist.
        write: writes the file to the local path that it is given.

    Raises:
        PlanError: the file exists, or the session is a Connect client.
    """
    target, filesystem = _place(spark, path)
    if filesystem.exists(target):
        raise PlanError(
            f"{target.getParent()} exists. Choose another path, or write().overwrite().save(...)."
        )
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder, Path(path).name)
        write(str(local))
        filesystem.copyFromLocalFile(_jvm_path(spark, local.as_uri()), target)


@contextmanager
def fetched(spark: SparkSession, path: str) -> Iterator[Path]:
    """A local copy of the file at ``path``, while the block lasts.

    Raises:
        PlanError: there is none, or the session is a Connect client.
    """
    source, filesystem = _place(spark, path)
    if not filesystem.exists(source):
        raise PlanError(f"There is no {path}: {source.getParent()} is no saved model of Keras.")
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder, Path(path).name)
        filesystem.copyToLocalFile(source, _jvm_path(spark, local.as_uri()))
        yield local


def _place(spark: SparkSession, path: str) -> tuple[Any, Any]:
    if is_connect(spark):
        raise PlanError(
            "A Spark Connect client has no access to Spark's filesystems. Save the Keras model "
            "itself (fitted.model.save), and make a KerasModel(keras_model) of it."
        )
    place = _jvm_path(spark, path)
    return place, place.getFileSystem(spark._jsparkSession.sessionState().newHadoopConf())  # noqa: SLF001


def _jvm_path(spark: SparkSession, path: str) -> Any:
    return spark.sparkContext._jvm.org.apache.hadoop.fs.Path(path)  # type: ignore[union-attr] # noqa: SLF001
