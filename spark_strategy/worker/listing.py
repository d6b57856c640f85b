"""A pattern -> the files that match it; the same on all ranks."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from spark_strategy.data.paths import FileRoot
from spark_strategy.data.shares import File
from spark_strategy.errors import PlanError
from spark_strategy.keras import collective
from spark_strategy.keras.place import Place

if TYPE_CHECKING:
    import tensorflow as tf

# Formats with a log of their own: what Spark calls them, and what shows that a folder is one.
_TABLES: Final = {
    "Delta Lake": ("delta", "_delta_log"),
    "Iceberg": ("iceberg", "metadata/*.metadata.json"),
    "Hudi": ("hudi", ".hoodie"),
}


def found(pattern: str | list[str], root: FileRoot) -> list[File]:
    """The files that match, and those in directories that do, sorted by path.

    What begins with ``_`` or ``.`` below a pattern is left out, as Spark does.

    Raises:
        PlanError: nothing matches.
    """
    patterns = [pattern] if isinstance(pattern, str) else list(pattern)
    files = {file for one in patterns for file in _matching(root.resolved(one))}
    if not files:
        resolved = ", ".join(map(root.resolved, patterns))
        raise PlanError(
            f"No file matches {resolved}. Paths without a scheme are on the session's default "
            f"filesystem, {root.default}."
        )
    return sorted(files)


def rows_of_tables(pattern: str | list[str], root: FileRoot) -> list[File]:
    """The same as :func:`found`, for files that are read as the rows of a table.

    Raises:
        PlanError: nothing matches, or files were found in a table of Delta Lake, Iceberg or Hudi.
            Those that the pattern names one by one are taken: its log may have named them.
    """
    files = found(pattern, root)
    named = {root.resolved(one) for one in ([pattern] if isinstance(pattern, str) else pattern)}
    folders = {one for file in files if file.path not in named for one in _around(file.path)}
    for folder in sorted(folders):
        if kind := _table(folder):
            raise PlanError(
                f"{folder} is a {kind} table. Its Parquet files hold rows that have been deleted "
                "or replaced, and only the table's own log says which. Feed the rows from Spark, "
                f"as in train.on(spark.read.format({_TABLES[kind][0]!r}).load(...))(...), or write "
                "them as plain Parquet first."
            )
    return files


def _around(path: str) -> Iterator[str]:
    """The folders around a file, from the inside."""
    folder = posixpath.dirname(path)
    while folder.strip("/") and not folder.endswith(":"):
        yield folder
        folder = posixpath.dirname(folder)


def _table(folder: str) -> str:
    """The format of the table whose folder this is; empty for none."""
    import tensorflow as tf

    for kind, (_, mark) in _TABLES.items():
        if tf.io.gfile.glob(posixpath.join(folder, mark)):
            return kind
    return ""


def told(value: Any, strategy: tf.distribute.Strategy, place: Place) -> Any:
    """What the chief says, on every rank; anything that JSON can hold."""
    import tensorflow as tf

    said = json.dumps(value).encode()
    size = int(collective.chiefs_value(strategy, len(said), place))
    mine = tf.cast(tf.io.decode_raw(said, tf.uint8), tf.float64) if place.is_chief else None
    values = collective.chiefs_value(strategy, tf.zeros([size]) if mine is None else mine, place)
    return json.loads(bytes(tf.cast(values, tf.uint8).numpy().tolist()))


def _matching(pattern: str) -> Iterator[File]:
    import tensorflow as tf

    gfile = tf.io.gfile
    for path in gfile.glob(pattern):
        if _is_hidden(path) and not _is_hidden(pattern):
            continue
        stat = gfile.stat(path)
        if stat.is_directory:
            yield from _inside(gfile, path)
        else:
            yield File(path, int(stat.length))


def _inside(gfile: Any, folder: str) -> Iterator[File]:
    for name in sorted(gfile.listdir(folder)):
        path = posixpath.join(folder, name.rstrip("/"))
        if _is_hidden(path):
            continue
        stat = gfile.stat(path)
        if stat.is_directory:
            yield from _inside(gfile, path)
        else:
            yield File(path, int(stat.length))


def _is_hidden(path: str) -> bool:
    return posixpath.basename(path.rstrip("/")).startswith(("_", "."))
