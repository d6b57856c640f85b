"""Asynchronous training steps: handed out by the chief, computed by whichever worker is free."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from spark_strategy.keras.parameter_server.coordination import (
    coordinator_of,
    failures,
    traced_for_workers,
    waiting,
)
from spark_strategy.keras.parameter_server.source import Source

_log = logging.getLogger(__name__)

# Executions handed out ahead, for each worker: enough that none is ever idle, and few enough that
# the callbacks of batches stay close to what happens.
_AHEAD: Final = 16
_POLL_S: Final = 0.005


class Rows:
    """The workers' iterators, and how many steps of the epoch are still to be handed out.

    Args:
        source: what they read.
        steps: steps of an epoch.
        strategy: whose workers read.
    """

    def __init__(self, source: Source, steps: int, strategy: Any) -> None:
        self._steps = steps
        self._left = steps
        coordinator = coordinator_of(strategy)
        dataset = coordinator.create_per_worker_dataset(source.endless())
        self.iterator = iter(dataset)

    def take(self, several: int) -> int:
        """Up to ``several`` steps; the next epoch begins after the last one of this one."""
        count = min(several, self._left)
        self._left -= count
        if not self._left:
            self._left = self._steps
        return count

    def __iter__(self) -> Iterator[Any]:
        # Keras asks for an iterator, and hands it on to the train function.
        return self

    def __next__(self) -> Any:
        raise TypeError("The rows of parameter-server training are on the workers.")


class Logs(dict[str, Any]):
    """The logs of a step that may not have run yet: empty, until they are asked for.

    Args:
        last: the execution's own logs on their way, without those of the model's metrics.
    """

    def __init__(self, last: Any) -> None:
        super().__init__()
        self._last = last

    def resolved(self) -> dict[str, Any]:
        """The step's own logs; none where they are the model's metrics."""
        return dict(self._last.fetch() or {})


class TrainFunction:
    """What ``model.train_function`` is: hands steps out and does not wait for them.

    Args:
        model: whose steps.
        step_function: one step on a batch.
    """

    def __init__(self, model: Any, step_function: Callable[[Any], Any]) -> None:
        self._model = model
        self._coordinator = coordinator_of(model.distribute_strategy)
        self._steps = functools.cache(functools.partial(_compiled, model, step_function))
        self._limit = _AHEAD * model.distribute_strategy._num_workers
        self._epoch: tuple[int, int, int] | None = None

    def __call__(self, rows: Rows) -> Logs:
        """Hand out ``steps_per_execution`` steps, or what is left of the epoch."""
        count = rows.take(self._model.steps_per_execution)
        if self._epoch is None:
            self._epoch = (self._iterations(), 0, failures())
        began, steps, lost = self._epoch
        self._epoch = (began, steps + count, lost)
        function = self._steps(count, rows.iterator._values[0]._type_spec)
        while waiting(self._coordinator) >= self._limit:
            time.sleep(_POLL_S)
        return Logs(self._coordinator.schedule(function, args=(rows.iterator,)))

    def join(self) -> None:
        """Wait until every step is done."""
        self._coordinator.join()
        epoch, self._epoch = self._epoch, None
        if epoch is not None and failures() > epoch[2]:
            self._count_once(*epoch[:2])

    def _iterations(self) -> int:
        optimizer = self._model.optimizer
        return int(optimizer._iterations.numpy()) if optimizer is not None else 0

    def _count_once(self, began: int, steps: int) -> None:
        """Counts a step that ran again after its worker was lost as the one step that it is.

        A worker can be lost after its update has reached the servers and before the chief knows.
        """
        repeated = self._iterations() - began - steps
        if repeated > 0 and not overrides_step(self._model):
            _log.warning("%d of %d steps ran twice: their worker was lost", repeated, steps)
            self._model.optimizer._iterations.assign(began + steps)


def overrides_step(model: Any) -> bool:
    """Whether the model trains by a step of its own."""
    from keras.src.backend.tensorflow import trainer

    return getattr(type(model), "train_step", None) is not trainer.TensorFlowTrainer.train_step


def _compiled(model: Any, step_function: Callable[[Any], Any], count: int, spec: Any) -> Any:
    """``count`` steps as one graph. Its outputs travel to the chief only where they are needed.

    Traced once, here: a coordinator looks a ``tf.function`` up for each step, which took the chief
    half of its time.

    Args:
        model: whose steps.
        step_function: one step on a batch.
        count: steps of the graph.
        spec: the type of the workers' iterator.
    """
    import tensorflow as tf

    strategy = model.distribute_strategy

    def one(iterator: Any) -> Any:
        return strategy.run(step_function, args=(next(iterator),))

    def steps(iterator: Any) -> Any:
        if count > 1:
            tf.while_loop(
                lambda done: done < count - 1,
                lambda done: (_then(one(iterator), done + 1),),
                (tf.constant(0),),
                parallel_iterations=1,
            )
        logs = one(iterator)
        # What the metrics say the chief reads from the servers, once an epoch.
        return {} if set(logs) == set(model.get_metrics_result()) else logs

    with traced_for_workers(strategy):
        return tf.function(steps, autograph=False).get_concrete_function(spec)


def _then(before: Any, value: Any) -> Any:
    """The value, computed after ``before``."""
    import tensorflow as tf

    leaves = [leaf for leaf in tf.nest.flatten(before) if tf.is_tensor(leaf)]
    with tf.control_dependencies(leaves):
        return tf.identity(value)
