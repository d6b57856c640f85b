"""Keras 3 averages the logs of the replicas along their first axis, which scalars do not have.

``reduce_per_replica`` in multi-worker mode calls ``strategy.reduce("MEAN", v, axis=0)``, and
``strategy.reduce("SUM", v)`` without its third argument (keras#20585). With ``axis=None`` the
values themselves are reduced. A step logs several scalars and each costs a round trip between
hosts, so scalars of one type travel together where a worker has one replica.
"""

from __future__ import annotations

from typing import Any

from spark_strategy.keras.repair import Repair, takes


def _module() -> Any:
    from keras.src.backend.tensorflow import trainer

    return trainer


def _fits() -> bool:
    return takes(_module(), "reduce_per_replica", "values", "strategy", "reduction") and takes(
        _module(), "_collective_all_reduce_multi_worker", "strategy"
    )


def _faulty() -> bool:
    strategy = _recording_strategy()
    _module().reduce_per_replica(1.0, strategy, "mean")
    return bool(strategy.axes == [0])


def _mend() -> None:
    trainer = _module()
    original = trainer.reduce_per_replica

    def reduce_per_replica(values: Any, strategy: Any, reduction: str) -> Any:
        across = {"auto": "MEAN", "mean": "MEAN", "sum": "SUM"}.get(reduction)
        if across and trainer._collective_all_reduce_multi_worker(strategy):
            return _reduce(values, strategy, across)
        return original(values, strategy, reduction)

    trainer.reduce_per_replica = reduce_per_replica


def _reduce(values: Any, strategy: Any, across: str) -> Any:
    """Reduces every leaf over all replicas, the scalars of one type in one step."""
    import tensorflow as tf

    leaves = tf.nest.flatten(values)
    groups: dict[Any, list[int]] = {}
    for number, leaf in enumerate(leaves):
        scalar = isinstance(leaf, tf.Tensor) and leaf.shape.rank == 0 and leaf.dtype.is_floating
        groups.setdefault(leaf.dtype if scalar else number, []).append(number)
    for members in groups.values():
        if len(members) > 1:
            packed = strategy.reduce(across, tf.stack([leaves[n] for n in members]), axis=None)
            reduced = tf.unstack(packed, num=len(members))
        else:
            reduced = [strategy.reduce(across, leaves[members[0]], axis=None)]
        for number, value in zip(members, reduced, strict=True):
            leaves[number] = value
    return tf.nest.pack_sequence_as(values, leaves)


def _recording_strategy() -> Any:
    """Passes for a strategy of several workers, and notes along which axis it should reduce."""
    import tensorflow as tf

    class Recording(tf.distribute.MultiWorkerMirroredStrategy):
        def __init__(self) -> None:  # the real one would join a cluster
            self.axes: list[int | None] = []

        @property
        def extended(self) -> Any:
            return self

        def _in_multi_worker_mode(self) -> bool:
            return True

        def reduce(self, _op: Any, value: Any, axis: int | None = None) -> Any:
            self.axes.append(axis)
            return value

    return Recording()


REDUCE_LOGS = Repair(
    "log reduction", "keras#20585, trainer.py reduce_per_replica", _fits, _faulty, _mend
)
