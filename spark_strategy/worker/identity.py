"""Says what a model's content is, so that the same content has one name however it was made.

A function that builds a model gives another one at each call: its layers are called ``dense_7``
instead of ``dense_3``, objects in its configuration are numbered by their addresses, and a class
inside the function is a new class, to which cloudpickle gives a random number. None of these
changes what the model computes.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from typing import Any, Final

import cloudpickle
import h5py

_CONFIG: Final = "config.json"
_METADATA: Final = "metadata.json"  # when it was saved
_WEIGHTS: Final = "model.weights.h5"
_OF_TF_KERAS: Final = {"InputLayer": "input", "Functional": "model"}
_NUMBER: Final = re.compile(rb"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")


def of_archive(archive: bytes) -> bytes:
    """A digest of a ``.keras`` archive's configuration, weights and other files."""
    found = hashlib.sha256()
    with zipfile.ZipFile(io.BytesIO(archive)) as files:
        for name in sorted(set(files.namelist()) - {_METADATA}):
            content = files.read(name)
            if name == _CONFIG:
                content = of_configuration(json.loads(content))
            elif name == _WEIGHTS:
                content = _of_weights(content)
            found.update(f"{name}:{len(content)}:".encode() + content)
    return found.digest()


def of_pickle(pickled: bytes) -> bytes:
    """The same bytes with cloudpickle's numbers of classes replaced by their order."""
    known = cloudpickle.cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID  # noqa: SLF001 - nothing else says
    order: dict[str, int] = {}

    def numbered(match: re.Match[bytes]) -> bytes:
        number = match[0].decode()
        if number not in known:
            return match[0]
        return b"%032d" % order.setdefault(number, len(order))

    return _NUMBER.sub(numbered, pickled)


def of_configuration(configuration: Any) -> bytes:
    """A model's configuration with the names that Keras invented replaced by their order."""
    names: dict[str, str] = {}
    _collect(configuration, names)
    return json.dumps(_renamed(configuration, names), sort_keys=True).encode()


def _of_weights(content: bytes) -> bytes:
    """Every array in a file of weights, without the names of layers that Keras 3 notes beside."""
    found = hashlib.sha256()

    def visit(path: str, one: Any) -> None:
        if isinstance(one, h5py.Dataset):
            found.update(f"{path}:{one.dtype}:{one.shape}:".encode())
            # Texts of any length are Python objects, whose bytes would be addresses.
            plain = not one.dtype.hasobject and one.shape is not None
            found.update(one[...].tobytes() if plain else repr(one[()]).encode())

    with h5py.File(io.BytesIO(content), "r") as file:
        file.visititems(visit)
    return found.digest()


def _collect(value: Any, names: dict[str, str]) -> None:
    """Note the layers' names that Keras made of their class and a counter, in order."""
    if isinstance(value, list):
        for one in value:
            _collect(one, names)
    if not isinstance(value, dict):
        return
    kind, config = value.get("class_name"), value.get("config")
    name = config.get("name") if isinstance(config, dict) else None
    if isinstance(kind, str) and isinstance(name, str) and _is_invented(kind, name):
        names.setdefault(name, f"<{_stem(kind)} {len(names)}>")
    for one in value.values():
        _collect(one, names)


def _is_invented(kind: str, name: str) -> bool:
    stem = re.sub(r"_\d+$", "", name)
    return stem in (_stem(kind), _OF_TF_KERAS.get(kind))


def _stem(kind: str) -> str:
    """A class's name as Keras writes it in the names of layers."""
    words = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", kind.rpartition(">")[2])
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", words).lower()


def _renamed(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, str):
        return names.get(value, value)
    if isinstance(value, list):
        return [_renamed(one, names) for one in value]
    if isinstance(value, dict):
        return {
            names.get(key, key): _renamed(one, names)
            for key, one in value.items()
            if key != "shared_object_id"
        }
    return value
