"""Keras 3 cannot run several multi-worker steps in one call.

``TensorFlowTrainer._make_function`` loops over the steps in a ``tf.while_loop`` around a
``tf.cond`` that holds the whole step. With collectives in it TensorFlow 2.21 fails: "You must feed
a value for placeholder tensor while/cond/Placeholder_1". Here the single-step function is called
that many times: callbacks run as rarely as asked and the numbers are the same; the calls themselves
are not saved, which collectives outweigh anyway.
"""

from __future__ import annotations

import contextlib
from typing import Any

from spark_strategy.keras.repair import Repair, takes


def _trainer() -> Any:
    from keras.src.backend.tensorflow import trainer

    return trainer


def _fits() -> bool:
    return takes(_trainer().TensorFlowTrainer, "_make_function", "self", "step_function")


def _faulty() -> bool:
    """Only a cluster can tell; the canary test does. Fixed code would know about workers."""
    names = _trainer().TensorFlowTrainer._make_function.__code__.co_names
    return "_collective_all_reduce_multi_worker" not in names


def _mend() -> None:
    trainer = _trainer()
    original = trainer.TensorFlowTrainer._make_function

    def make_function(self: Any, step_function: Any) -> Any:
        several = self.steps_per_execution
        across = trainer._collective_all_reduce_multi_worker(self.distribute_strategy)
        if several == 1 or not across:
            return original(self, step_function)
        return _repeated(_single_step(self, original, step_function), several)

    trainer.TensorFlowTrainer._make_function = make_function


def _single_step(model: Any, make_function: Any, step_function: Any) -> Any:
    """The function Keras makes for one step; it reads the number again when it is traced."""

    def one_step(iterator: Any) -> Any:
        several = model.steps_per_execution
        model.steps_per_execution = 1
        try:
            return single(iterator)
        finally:
            model.steps_per_execution = several

    single = make_function(model, step_function)
    return one_step


def _repeated(one_step: Any, several: int) -> Any:
    """Up to ``several`` steps, and none behind the end of the data."""
    import tensorflow as tf

    def steps(iterator: Any) -> Any:
        if isinstance(iterator, tf.distribute.DistributedIterator):
            outputs = _steps_on_optionals(one_step, several, iterator)
        elif isinstance(iterator, tf.data.Iterator):
            outputs = _steps_to_the_end(one_step, several, iterator)
        else:
            return one_step(iterator)  # train_on_batch brings its own single batch
        if outputs is None:
            raise StopIteration
        return outputs

    return steps


def _steps_on_optionals(one_step: Any, several: int, iterator: Any) -> Any:
    """The last outputs; a distributed iterator ends with an empty batch, on which no step is."""
    outputs = None
    for _ in range(several):
        batch = iterator.get_next_as_optional()
        if not batch.has_value():
            break
        outputs = one_step([batch.get_value()])
    return outputs


def _steps_to_the_end(one_step: Any, several: int, iterator: Any) -> Any:
    """The last outputs; a rank's own iterator says inside the step that the data is at its end."""
    import tensorflow as tf

    outputs = None
    with contextlib.suppress(tf.errors.OutOfRangeError):
        for _ in range(several):
            outputs = one_step(iterator)
    return outputs


STEPS_PER_EXECUTION = Repair(
    "steps_per_execution", "trainer.py _make_function", _fits, _faulty, _mend
)
