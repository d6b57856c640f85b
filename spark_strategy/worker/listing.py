"""A pattern -> the files that match it; the same on all ranks."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from spark_strategy.data.paths import FileRoot
from spark_strategy.data.shares import File
from spark_strategy.errors import PlanError
from spark_strategy.keras import collective
from spark_strategy.keras.place import Place

if TYPE_CHECKING:
    import tensorflow as tf


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
