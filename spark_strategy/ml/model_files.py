"""Local copies of model files and folders that lie on any filesystem."""

from __future__ import annotations

import posixpath
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spark_strategy import filesystem
from spark_strategy.data.paths import FileRoot
from spark_strategy.errors import PlanError
from spark_strategy.spark.capacity import file_root

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@contextmanager
def local_copy(path: str | Path, spark: SparkSession | None) -> Iterator[Path]:
    """A model's file or folder on this machine, while the block lasts. Imports TensorFlow.

    Args:
        path: a URI of any filesystem that TensorFlow knows through this library, or a path on the
            session's default filesystem: what ``get_context().save`` takes. A local one is not
            copied.
        spark: the session; None where the default filesystem is the local disk.

    Raises:
        PlanError: nothing is there.
    """
    root = FileRoot() if spark is None or isinstance(path, Path) else file_root(spark)
    uri = root.resolved(str(path))
    if "://" not in uri:
        yield Path(uri)
        return
    import tensorflow as tf

    filesystem.register_missing(root.hadoop)
    gfile = tf.io.gfile
    try:
        is_folder = gfile.isdir(uri)
        if not is_folder and not gfile.exists(uri):
            default = "" if "://" in str(path) else f" (the default filesystem is {root.default})"
            raise PlanError(
                f"There is no {uri}{default}. Name a .keras file or a SavedModel's folder; of a "
                "local one say file:///..."
            )
        with tempfile.TemporaryDirectory(prefix="spark_strategy-") as folder:
            copy = Path(folder, posixpath.basename(uri.rstrip("/")))
            if is_folder:
                _copy_folder(gfile, uri.rstrip("/"), copy)
            else:
                gfile.copy(uri, str(copy))
            yield copy
    except tf.errors.OpError as error:
        raise PlanError(f"{uri} cannot be read: {error.message}") from error


def _copy_folder(gfile: Any, uri: str, copy: Path) -> None:
    copy.mkdir()
    for name in gfile.listdir(uri):
        source, target = f"{uri}/{name.rstrip('/')}", copy / name.rstrip("/")
        if gfile.isdir(source):
            _copy_folder(gfile, source, target)
        else:
            gfile.copy(source, str(target))
