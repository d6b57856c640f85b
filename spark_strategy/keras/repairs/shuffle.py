"""Keras shuffles arrays with each process's own random numbers.

``fit(x, y)`` under MultiWorkerMirroredStrategy gives every rank all rows and lets it keep its part
of each batch. That is a partition only if all ranks shuffle alike; without a common seed some rows
are seen twice in an epoch and others never (ArrayDataAdapter.get_tf_dataset: ``tf.random.shuffle``
without a seed). Here ranks that set no seed take the chief's, or a random one of its choice.
"""

from __future__ import annotations

import random
from typing import Any

from spark_strategy.keras.collective import chiefs_value, is_multi_worker
from spark_strategy.keras.place import Place
from spark_strategy.keras.repair import Repair


def shared_seed(place: Place) -> Repair:
    """The repair for this rank."""
    return Repair("shared shuffle", "array_data_adapter.py", _fits, _faulty, lambda: _mend(place))


def _iterator() -> Any:
    from keras.src.backend.tensorflow import trainer

    return trainer.TFEpochIterator


def _fits() -> bool:
    return "distribute_strategy" in _iterator().__init__.__code__.co_varnames


def _faulty() -> bool:
    """Fixed when the permutation gets a seed."""
    from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter

    return "seed" not in ArrayDataAdapter.get_tf_dataset.__code__.co_varnames


def _mend(place: Place) -> None:
    iterator = _iterator()
    init = iterator.__init__

    def __init__(self: Any, distribute_strategy: Any = None, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        agree_on_seed(distribute_strategy, place)
        init(self, distribute_strategy, *args, **kwargs)

    iterator.__init__ = __init__


def agree_on_seed(strategy: Any, place: Place) -> None:
    """Gives ranks without a global seed the chief's; all ranks call it, whether they have one."""
    import tensorflow as tf
    from tensorflow.python.eager import context

    if not is_multi_worker(strategy):
        return
    mine = context.global_seed()
    wish = random.SystemRandom().randrange(2**31) if mine is None else mine
    chiefs = int(chiefs_value(strategy, float(wish), place))
    if mine is None:
        tf.random.set_seed(chiefs)
