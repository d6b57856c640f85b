"""Keras 3's first save waits for all ranks, so a chief that saves alone hangs.

``saving_lib.get_attr_skipset`` makes a throw-away layer, optimizer and metric to learn which
attributes all of them have. The optimizer creates variables, and under
MultiWorkerMirroredStrategy each new variable is broadcast from the chief. A strategy's scope
belongs to a thread: on a fresh one the same objects are plain.
"""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from spark_strategy.keras.repair import Repair, takes


def _module() -> Any:
    from keras.src.saving import saving_lib

    return saving_lib


def _fits() -> bool:
    return takes(_module(), "get_attr_skipset", "obj_type")


def _faulty() -> bool:
    """Fixed when no optimizer is made any more, or away from the user's strategy."""
    return "Optimizer" in _module().get_attr_skipset.__code__.co_names


def _mend() -> None:
    saving_lib = _module()
    original = saving_lib.get_attr_skipset

    # Keras caches per thread, and these threads end.
    @functools.cache
    def get_attr_skipset(obj_type: str) -> Any:
        with ThreadPoolExecutor(1) as outside:
            return outside.submit(original, obj_type).result()

    saving_lib.get_attr_skipset = get_attr_skipset


SAVE_ALONE = Repair("saving alone", "saving_lib.py get_attr_skipset", _fits, _faulty, _mend)
