"""Keras 3 does not notice that XLA cannot compile a step of several workers."""

from __future__ import annotations

from typing import Any

from spark_strategy.keras.repair import Repair
from spark_strategy.keras.repairs import xla


def _trainer() -> Any:
    from keras.src.trainers import trainer

    return trainer.Trainer


def _fits() -> bool:
    found = vars(_trainer()).get("jit_compile")
    return isinstance(found, property) and found.fset is not None


def _faulty() -> bool:
    """Fixed once the setter asks about a strategy; whether XLA learned it needs a cluster."""
    return "_distribute_strategy" not in vars(_trainer())["jit_compile"].fset.__code__.co_names


def _mend() -> None:
    trainer = _trainer()
    found = vars(trainer)["jit_compile"]

    def set_jit_compile(self: Any, value: Any) -> None:
        if value and xla.cannot_compile(getattr(self, "_distribute_strategy", None)):
            xla.warn()
            value = False
        found.fset(self, value)

    trainer.jit_compile = property(found.fget, set_jit_compile)


JIT_COMPILE = Repair("jit_compile", "trainer.py Trainer.jit_compile", _fits, _faulty, _mend)
