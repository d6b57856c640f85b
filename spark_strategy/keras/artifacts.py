"""Where a rank writes what the user named: the chief beside it and then over it, others in scratch.

Nothing here waits for another rank: a save may be called by every rank or by the chief alone.
"""

from __future__ import annotations

import contextlib
import posixpath
import re
import uuid
from collections.abc import Iterator
from typing import Any

from spark_strategy.keras.place import Place

_PARTIAL = re.compile(r"\.partial-[0-9a-f]{32}\.")


@contextlib.contextmanager
def artifact(path: str, place: Place) -> Iterator[str]:
    """The path to write instead of ``path``; it becomes ``path`` when the block ends well.

    On the chief that is a hidden sibling, renamed over ``path``; a file is replaced in one step, a
    directory in two (the old one is moved away first, as POSIX has no other way). On other ranks
    it is a path in scratch that is removed. A path handed out here is passed through, so saves may
    nest. Keras picks the format by extension: the sibling keeps it.
    """
    if _PARTIAL.search(path):
        yield path
        return
    target = partial_path(path) if place.is_chief else scratch_path(path, place)
    try:
        yield target
        if place.is_chief:
            _replace(target, path)
    finally:
        _remove(target)


def scratch_path(path: str, place: Place) -> str:
    """A path of this rank's own with the same last part, in an existing folder of scratch."""
    folder = posixpath.join(place.scratch, f"saved.partial-{uuid.uuid4().hex}.d")
    _gfile().makedirs(folder)
    return posixpath.join(folder, posixpath.basename(path.rstrip("/")))


def partial_path(path: str) -> str:
    """``/a/model.keras`` -> ``/a/.partial-<id>.model.keras``, which ``artifact`` passes through."""
    folder, name = posixpath.split(path.rstrip("/"))
    return posixpath.join(folder, f".partial-{uuid.uuid4().hex}.{name}")


def _replace(source: str, path: str) -> None:
    """Renames what was written over what was there."""
    gfile = _gfile()
    if not gfile.exists(source):
        return  # the save wrote nothing, for example because the user declined to overwrite
    if gfile.isdir(path):
        old = partial_path(path)
        gfile.rename(path, old)
        gfile.rename(source, path)
        gfile.rmtree(old)
    else:
        gfile.rename(source, path, overwrite=True)


def _remove(target: str) -> None:
    """Removes what is left of an artifact, with the folder that was made for it in scratch."""
    gfile = _gfile()
    folder = posixpath.dirname(target)
    doomed = folder if _PARTIAL.search(folder) else target
    if gfile.exists(doomed):
        if gfile.isdir(doomed):
            gfile.rmtree(doomed)
        else:
            gfile.remove(doomed)


def _gfile() -> Any:
    """TensorFlow's files: local ones and every scheme it knows."""
    import tensorflow as tf

    return tf.io.gfile
