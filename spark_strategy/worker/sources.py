"""How a model travels: a Keras model, a SavedModel's signature, a function and weights.

Each is pickled on the driver and loaded there and by the executors' servers, which read a pickle
only if Spark brought it. ``key`` is the same for the same content, so that a server that holds it
already is found; an archive that Keras writes is not the same twice.
"""

from __future__ import annotations

import hashlib
import pickle
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cloudpickle

from spark_strategy import shipping
from spark_strategy.errors import PlanError
from spark_strategy.keras import transport
from spark_strategy.worker import identity
from spark_strategy.worker.program import KerasProgram, SignatureProgram


@dataclass(frozen=True)
class KerasSource:
    """A model as the archive that ``model.save`` writes, with the user's own classes in it."""

    flavour: str
    archive: bytes
    custom: bytes

    @classmethod
    def of(cls, model: Any) -> KerasSource:
        """This model.

        Raises:
            PlanError: Keras cannot save it.
        """
        try:
            archive, custom = transport.pack(model)
            own = bytes(cloudpickle.dumps(custom))
        # Saving runs the model's own code: anything can come out of it.
        except Exception as error:
            raise PlanError(
                f"{model.name!r} cannot be sent to the executors: {error}. A model travels as "
                "model.save writes it; give its classes a get_config, or pass a function that "
                "builds it, and weights=model.get_weights()."
            ) from error
        return cls(transport.flavour_of(model) or "keras", archive, own)

    @cached_property
    def key(self) -> str:
        """Of the configuration, the weights and the user's classes (``identity.py``)."""
        found = hashlib.sha256(identity.of_pickle(self.custom))
        found.update(identity.of_archive(self.archive))
        return found.hexdigest()

    def load(self) -> KerasProgram:
        """The model."""
        return KerasProgram(
            transport.rebuild(self.flavour, self.archive, pickle.loads(self.custom))
        )


@dataclass(frozen=True)
class BuildSource:
    """A function that builds a model, and its weights."""

    function: bytes
    weights: tuple[Any, ...]

    @classmethod
    def of(cls, build: Any, weights: Sequence[Any]) -> BuildSource:
        """This function; ``weights`` as ``get_weights`` gives them."""
        return cls(shipping.pickled(build, (), {}), tuple(weights))

    @cached_property
    def key(self) -> str:
        """Of the function and the weights."""
        found = hashlib.sha256(identity.of_pickle(self.function))
        for one in self.weights:
            found.update(f"{one.dtype}:{one.shape}:".encode() + one.tobytes())
        return found.hexdigest()

    def load(self) -> KerasProgram:
        """The model; it gets its weights when its inputs are known."""
        build, _, _ = pickle.loads(self.function)
        return KerasProgram(build(), self.weights)


@dataclass(frozen=True)
class SignatureSource:
    """A SavedModel and one of its signatures."""

    files: tuple[tuple[str, bytes], ...]
    signature: str

    @classmethod
    def of(cls, path: Path, signature: str) -> SignatureSource:
        """The SavedModel in this folder."""
        found = sorted(one for one in path.rglob("*") if one.is_file())
        return cls(
            tuple((str(one.relative_to(path)), one.read_bytes()) for one in found), signature
        )

    @cached_property
    def key(self) -> str:
        """Of all files and the signature's name."""
        found = hashlib.sha256(self.signature.encode())
        for name, content in self.files:
            found.update(name.encode() + content)
        return found.hexdigest()

    def load(self) -> SignatureProgram:
        """The signature.

        Raises:
            PlanError: there is none of this name.
        """
        with tempfile.TemporaryDirectory() as folder:
            for name, content in self.files:
                path = Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            return SignatureProgram.loaded(folder, self.signature)


Source = KerasSource | BuildSource | SignatureSource
