"""One pass over the workers' rows, each row once; for evaluation and prediction.

Workers hold different numbers of rows and take them at their own pace, so nobody knows beforehand
who will compute how much. Every execution answers with the worker it ran on and the place of its
element there, or that the worker has none left; the pass is over when all workers have said so.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from spark_strategy.keras.parameter_server.coordination import (
    coordinator_of,
    failures,
    worker_index,
)
from spark_strategy.keras.parameter_server.source import Source

_log = logging.getLogger(__name__)

_AHEAD: Final = 2
_POLL_S: Final = 0.001
# How long a worker without rows is left alone: it would only say so again.
_REST_S: Final = 0.01
_NONE_LEFT: Final = -1
_PASSES: Final = 10


@dataclass(frozen=True)
class Result:
    """What came of one element.

    Attributes:
        worker: who computed it.
        place: which of the worker's elements it was.
        outputs: what the function returned.
    """

    worker: int
    place: int
    outputs: Any


class Pass:
    """Computes a function of each element.

    Args:
        strategy: whose workers.
        function: of one element; runs in a replica.
    """

    def __init__(self, strategy: Any, function: Callable[[Any], Any]) -> None:
        self._strategy = strategy
        self._coordinator = coordinator_of(strategy)
        self._execution = _compiled(strategy, function)

    def results(
        self, source: Source, *, limit: int | None, begin_again: Callable[[], None]
    ) -> Iterator[Result]:
        """The results, in the order they come.

        Args:
            source: what to read.
            limit: elements to read at most.
            begin_again: called before a further pass, which is made when a worker was lost: it
                reads its rows from the start.
        """
        for _ in range(_PASSES):
            lost = failures()
            yield from self._pass(source, limit)
            if failures() == lost:
                return
            _log.warning("A worker was lost: its rows are read again, and so are all others")
            begin_again()
        raise RuntimeError(f"Workers were lost in each of {_PASSES} passes over the same rows.")

    def _pass(self, source: Source, limit: int | None) -> Iterator[Result]:
        def enumerated() -> Any:
            return source.make().enumerate()

        rows = iter(self._coordinator.create_per_worker_dataset(enumerated))
        most = _AHEAD * self._strategy._num_workers
        pending: list[Any] = []
        ended: set[int] = set()
        done = 0
        while pending or self._wants_more(ended, done, limit):
            ahead = most if limit is None else min(most, limit - done)
            while len(pending) < ahead and self._wants_more(ended, done, limit):
                pending.append(self._coordinator.schedule(self._execution, args=(rows,)))
            came = [one for one in pending if _has_come(one)]
            pending = [one for one in pending if one not in came]
            idle = False
            for one in came:
                worker, place, outputs = one.fetch()
                if place == _NONE_LEFT:
                    ended.add(int(worker))
                    idle = True
                else:
                    done += 1
                    yield Result(int(worker), int(place), outputs)
            if idle or not came:
                time.sleep(_REST_S if idle else _POLL_S)
                self._coordinator.done()  # raises what a step has raised

    def _wants_more(self, ended: set[int], done: int, limit: int | None) -> bool:
        return len(ended) < self._strategy._num_workers and (limit is None or done < limit)


def _has_come(remote: Any) -> bool:
    from tensorflow.python.distribute.coordinator import remote_value

    return bool(remote._status is not remote_value.RemoteValueStatus.NOT_READY)


def _compiled(strategy: Any, function: Callable[[Any], Any]) -> Any:
    """One element as a graph: ``(worker, place or -1, outputs or zeros)``."""
    import tensorflow as tf

    def execution(iterator: Any) -> Any:
        element = iterator.get_next_as_optional()
        _, spec = element.element_spec
        replica = tf.function(lambda data: strategy.run(function, args=(data,)), autograph=False)
        outputs = replica.get_concrete_function(spec).structured_outputs

        def computed() -> Any:
            place, data = element.get_value()
            values = replica(data)
            leaves = [leaf for leaf in tf.nest.flatten(values) if tf.is_tensor(leaf)]
            with tf.control_dependencies(leaves):
                return tf.identity(place), values

        def none_left() -> Any:
            return tf.constant(_NONE_LEFT, tf.int64), tf.nest.map_structure(_nothing, outputs)

        place, values = tf.cond(element.has_value(), computed, none_left)
        return worker_index(), place, values

    return tf.function(execution, autograph=False)


def _nothing(like: Any) -> Any:
    import tensorflow as tf

    shape = tf.TensorShape(like.shape)
    rank = [] if shape.rank is None else [size or 0 for size in shape]
    return tf.zeros(rank, like.dtype)
