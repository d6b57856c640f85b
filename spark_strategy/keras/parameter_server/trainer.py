"""Keras 3 trains under ParameterServerStrategy on the chief alone, or not at all.

``TensorFlowTrainer.fit`` asks the strategy to distribute a dataset, which only a ClusterCoordinator
can do, and runs each step itself and waits for it. Here, under that strategy and no other, Keras's
own loops hand the steps out: an epoch's end waits for all of them and reads the metrics that the
workers have added up on the parameter servers. Its callbacks, logs and history are Keras's own.
The repair can go when Keras 3 uses a ClusterCoordinator, as tf_keras does.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from typing import Any

from spark_strategy.keras.parameter_server import source as sources
from spark_strategy.keras.parameter_server.coordination import is_coordinated
from spark_strategy.keras.parameter_server.once import Pass, Result
from spark_strategy.keras.parameter_server.prediction import callbacks_of, predicted
from spark_strategy.keras.parameter_server.source import Source
from spark_strategy.keras.parameter_server.steps import Logs, Rows, TrainFunction
from spark_strategy.keras.repair import Repair, takes


def _module() -> Any:
    from keras.src.backend.tensorflow import trainer

    return trainer


def _fits() -> bool:
    trainer = _module().TensorFlowTrainer
    epochs = _module().TFEpochIterator
    return (
        takes(trainer, "make_train_function", "self", "force")
        and takes(trainer, "make_test_function", "self", "force")
        and takes(trainer, "_maybe_symbolic_build", "self", "iterator", "data_batch")
        and takes(trainer, "_get_metrics_result_or_logs", "self", "logs")
        and takes(trainer, "predict", "self", "x", "batch_size", "verbose", "steps", "callbacks")
        and takes(epochs, "__init__", "self", "distribute_strategy", "args", "kwargs")
        and takes(epochs, "_enumerate_iterator", "self")
    )


def _faulty() -> bool:
    """Fixed when the trainer knows of a coordinator."""
    module = _module()
    codes = (module.TensorFlowTrainer.fit, module.TFEpochIterator.__init__)
    names = {name for code in codes for name in _unwrapped(code).__code__.co_names}
    return not any("oordinator" in name for name in names)


def _unwrapped(function: Any) -> Any:
    return _unwrapped(function.__wrapped__) if hasattr(function, "__wrapped__") else function


def _mend() -> None:
    _mend_epochs()
    _mend_build()
    _mend_functions()
    _mend_logs()
    _mend_predict()


class _Evaluation:
    """The rows of an evaluation, for the test function.

    Args:
        source: what the workers read.
        limit: elements to read at most.
    """

    def __init__(self, source: Source, limit: int | None) -> None:
        self.source = source
        self.limit = limit
        self.results: Iterator[Result] | None = None


def _mend_epochs() -> None:
    """An epoch's iterator gives the train or test function what it hands out to the workers."""
    epochs = _module().TFEpochIterator
    init, enumerate_steps = epochs.__init__, epochs._enumerate_iterator

    @functools.wraps(init)
    def __init__(self: Any, distribute_strategy: Any = None, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        self.coordinated = None
        if is_coordinated(distribute_strategy):
            _init(self, distribute_strategy, **kwargs)
        else:
            init(self, distribute_strategy, *args, **kwargs)

    def enumerate_iterator(self: Any) -> Iterator[Any]:
        if self.coordinated is None or self.trains:
            yield from enumerate_steps(self)
            return
        rows = _Evaluation(self.coordinated, self.limit)
        for step in itertools.count():
            yield step, step, rows

    epochs.__init__ = __init__
    epochs._enumerate_iterator = enumerate_iterator


def _init(
    self: Any,
    strategy: Any,
    *,
    steps_per_epoch: int | None = None,
    steps_per_execution: int = 1,
    **data: Any,
) -> None:
    """As ``EpochIterator.__init__``. Of its callers only fit names a class_weight."""
    self.trains = "class_weight" in data
    self.coordinated = _source(strategy, **{"shuffle": False, "class_weight": None, **data})
    steps = steps_per_epoch or self.coordinated.steps
    if self.trains and steps is None:
        raise ValueError(
            "fit under ParameterServerStrategy needs steps_per_epoch: how many steps an epoch has "
            "cannot be told from this dataset, which the workers read."
        )
    if self.trains and self.coordinated.idle:
        raise ValueError(
            f"There is no row for {self.coordinated.idle}: train with fewer workers or more rows."
        )
    self.limit = steps_per_epoch
    self.steps_per_epoch = steps if self.trains else steps_per_epoch
    self.steps_per_execution = steps_per_execution
    self.data_adapter = _Adapter()
    self._current_iterator = self._epoch_iterator = self._num_batches = None
    self._steps_seen = 0
    if self.trains:
        self._distributed_dataset = Rows(self.coordinated, steps, strategy)


class _Adapter:
    """What Keras's loops ask of a data adapter beyond the data."""

    num_batches = None

    def on_epoch_begin(self) -> None:
        """Nothing changes."""

    def on_epoch_end(self) -> None:
        """Nothing changes."""


def _source(strategy: Any, x: Any, *, class_weight: Any, shuffle: Any, **others: Any) -> Source:
    import tensorflow as tf
    from keras.src.trainers import data_adapters

    is_dataset = isinstance(x, tf.data.Dataset)
    is_function = callable(x) and not is_dataset and not hasattr(x, "__getitem__")
    if is_function and not tf.is_tensor(x):
        return sources.of_function(x, class_weight, strategy)
    adapter = data_adapters.get_data_adapter(
        x=x, class_weight=class_weight, shuffle=shuffle and not is_dataset, **others
    )
    dataset = adapter.get_tf_dataset()
    return sources.of_dataset(dataset, adapter.num_batches, strategy, alike=True)


def _mend_build() -> None:
    """A model is built from what its rows look like; the chief has none of them."""
    trainer = _module().TensorFlowTrainer
    build = trainer._maybe_symbolic_build

    def maybe_symbolic_build(self: Any, iterator: Any = None, data_batch: Any = None) -> Any:
        source = getattr(iterator, "coordinated", None)
        if source is None:
            return build(self, iterator=iterator, data_batch=data_batch)
        return build(self, data_batch=source.element_spec)

    trainer._maybe_symbolic_build = maybe_symbolic_build


def _mend_functions() -> None:
    trainer = _module().TensorFlowTrainer
    make_train, make_test = trainer.make_train_function, trainer.make_test_function

    def make_train_function(self: Any, force: bool = False) -> Any:  # noqa: FBT001, FBT002 - upstream's
        if not is_coordinated(self.distribute_strategy):
            return make_train(self, force)
        if self.train_function is None or force:
            _check_graph(self)
            self.train_function = TrainFunction(self, self.train_step)
        return self.train_function

    def make_test_function(self: Any, force: bool = False) -> Any:  # noqa: FBT001, FBT002 - upstream's
        if not is_coordinated(self.distribute_strategy):
            return make_test(self, force)
        if self.test_function is None or force:
            _check_graph(self)
            self.test_function = _TestFunction(self)
        return self.test_function

    trainer.make_train_function = make_train_function
    trainer.make_test_function = make_test_function


def _check_graph(model: Any) -> None:
    if model.run_eagerly:
        raise ValueError(
            "A worker of parameter-server training runs graphs: compile the model without "
            "run_eagerly=True."
        )


class _TestFunction:
    """What ``model.test_function`` is: waits for one more element's step."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._pass = Pass(model.distribute_strategy, model.test_step)

    def __call__(self, rows: _Evaluation) -> dict[str, Any]:
        if rows.results is None:
            rows.results = self._pass.results(
                rows.source, limit=rows.limit, begin_again=self._model.reset_metrics
            )
        return dict(next(rows.results).outputs)


def _mend_logs() -> None:
    """An epoch's logs are the metrics, once all its steps are done."""
    from keras.src.utils.python_utils import pythonify_logs

    trainer = _module().TensorFlowTrainer
    result_or_logs = trainer._get_metrics_result_or_logs

    def get_metrics_result_or_logs(self: Any, logs: Any) -> Any:
        if not isinstance(logs, Logs):
            return result_or_logs(self, logs)
        self.train_function.join()
        # As numbers: a metric may answer with its variable, which the validation resets.
        return pythonify_logs(logs.resolved() or self.get_metrics_result())

    trainer._get_metrics_result_or_logs = get_metrics_result_or_logs


def _mend_predict() -> None:
    """Predictions are computed by the workers, and come back in the order of the rows."""
    trainer = _module().TensorFlowTrainer
    predict = trainer.predict

    @functools.wraps(predict)
    def coordinated(  # noqa: PLR0917 - upstream's signature
        self: Any,
        x: Any,
        batch_size: int | None = None,
        verbose: Any = "auto",
        steps: int | None = None,
        callbacks: Any = None,
    ) -> Any:
        if not is_coordinated(self.distribute_strategy):
            return predict(self, x, batch_size, verbose, steps, callbacks)
        strategy = self.distribute_strategy
        source = _source(strategy, x, batch_size=batch_size, shuffle=False, class_weight=None)
        return predicted(self, source, steps, callbacks_of(self, callbacks, verbose))

    trainer.predict = coordinated


COORDINATED_FIT = Repair(
    "parameter-server fit", "trainer.py TensorFlowTrainer.fit", _fits, _faulty, _mend
)
