"""Pickles a value in which Keras models may occur, so that a process without a strategy reads it.

A model travels as the archive ``model.save`` writes (architecture, weights, compile arguments,
optimizer state), together with the classes and functions of the user's own that it is made of;
cloudpickle carries those by value when they come from ``__main__``, a closure or a notebook.
"""

from __future__ import annotations

import importlib
import io
import json
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import cloudpickle

from spark_strategy.bounds import BoundedBuffer
from spark_strategy.keras.artifacts import partial_path
from spark_strategy.keras.custom_objects import collect, named_lambdas, readable

_KERASES = ("keras", "tf_keras")
_CONFIG = "config.json"


def dumps(value: Any, *, most_bytes: int = 2**62) -> bytes:
    """Pickles ``value`` with cloudpickle, models included; ``cloudpickle.loads`` reads it.

    Communicates with no other rank. Keras is not imported unless it already is.

    Raises:
        TooLargeError: it is more than ``most_bytes``, which are never in memory at once.
    """
    buffer = BoundedBuffer(most_bytes)
    _Pickler(buffer).dump(value)
    return buffer.getvalue()


def is_model(value: Any) -> bool:
    """Whether ``value`` is a model of a Keras that this process has imported."""
    return flavour_of(value) is not None


class _Pickler(cloudpickle.Pickler):
    """Asks about models before cloudpickle decides."""

    def reducer_override(self, obj: Any) -> Any:
        flavour = flavour_of(obj)
        if flavour is None:
            return super().reducer_override(obj)
        return rebuild, (flavour, *pack(obj))


def flavour_of(obj: Any) -> str | None:
    """Which Keras this is a model of, if it is one."""
    for name in _KERASES:
        model = getattr(sys.modules.get(name), "Model", None)
        # Not isinstance: it asks the object's __class__, which may be a property of the user's.
        if isinstance(model, type) and issubclass(type(obj), model):
            return name
    return None


def pack(model: Any) -> tuple[bytes, dict[str, Any]]:
    """The archive, and the user's objects in it by the name it calls them."""
    with tempfile.TemporaryDirectory() as folder:
        path = partial_path(f"{folder}/model.keras")
        with named_lambdas(model) as lambdas:
            model.save(path)
            custom = collect(model) | lambdas
        return Path(path).read_bytes(), custom


def rebuild(flavour: str, archive: bytes, custom: dict[str, Any]) -> Any:
    """The model, in the process that unpickles."""
    keras = importlib.import_module(flavour)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.keras")
        _write_readable(path, archive, custom)
        # safe_mode guards against archives of strangers; this one came with the pickle around it.
        return keras.saving.load_model(path, custom_objects=custom, safe_mode=False)


def _write_readable(path: Path, archive: bytes, custom: dict[str, Any]) -> None:
    """The archive at ``path``, with a configuration that ``custom`` can be revived from."""
    with zipfile.ZipFile(io.BytesIO(archive)) as saved:
        config = json.loads(saved.read(_CONFIG))
        changed = readable(config, custom)
        if changed == config:
            path.write_bytes(archive)
            return
        with zipfile.ZipFile(path, "w") as written:
            for member in saved.infolist():
                if member.filename == _CONFIG:
                    written.writestr(member, json.dumps(changed))
                    continue
                with saved.open(member) as source, written.open(member, "w") as target:
                    shutil.copyfileobj(source, target)
