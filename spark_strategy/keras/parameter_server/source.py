"""What fit, evaluate and predict read, as a dataset that each worker makes for itself.

The coordinator sends workers a graph, and TensorFlow's C++ runtime runs it there: whatever is
read must be made of TensorFlow's own operations. Four kinds of input become such a graph:

- a dataset of Spark's rows (``fed``) reads the worker's own rows;
- a finite ``tf.data.Dataset``, or arrays: each worker takes every n-th element;
- an endless ``tf.data.Dataset``: each worker reads all of it, as upstream has it;
- a dataset function, called for each worker: what it returns is the worker's.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from spark_strategy.keras import fed
from spark_strategy.keras.parameter_server.coordination import worker_index

_SHUFFLES: Final = re.compile(r"Shuffle(AndRepeat)?Dataset(V\d)?")
_PYTHON: Final = frozenset({"PyFunc", "EagerPyFunc", "PyFuncStateless"})
_FIXED_SEEDS: Final = (1, 2)


@dataclass(frozen=True)
class Source:
    """Rows for one call of fit, evaluate or predict.

    Attributes:
        make: gives the worker's dataset; called in a graph that runs on the worker.
        ends: whether that dataset may end.
        steps: elements over all workers; None where nobody knows.
        element_spec: of the elements.
        own_rows: whether workers hold different rows of their own, in no common order.
        idle: a worker that has no rows; empty for none.
    """

    make: Callable[[], Any]
    ends: bool
    steps: int | None
    element_spec: Any
    own_rows: bool = True
    idle: str = ""

    def endless(self) -> Callable[[], Any]:
        """The worker's dataset over and over, for training."""
        return lambda: self.make().repeat() if self.ends else self.make()


def of_function(function: Callable[..., Any], class_weight: Any, strategy: Any) -> Source:
    """What a dataset function reads; it takes an InputContext or nothing."""
    import tensorflow as tf
    from keras.src.trainers.data_adapters import tf_dataset_adapter

    takes_context = bool(inspect.signature(function).parameters)
    context = tf.distribute.InputContext(1, 0, strategy.num_replicas_in_sync)

    def make() -> Any:
        dataset = function(context) if takes_context else function()
        if class_weight:
            dataset = dataset.map(tf_dataset_adapter.make_class_weight_map_fn(class_weight))
        return dataset

    # Built here once, in a graph of its own that nobody runs, to see what it gives.
    with tf.Graph().as_default():
        dataset = make()
        if not isinstance(dataset, tf.data.Dataset):
            raise TypeError(f"A dataset function returns a tf.data.Dataset, found {dataset!r}.")
        spec = dataset.element_spec
    return Source(make, ends=True, steps=None, element_spec=spec)


def of_dataset(dataset: Any, num_batches: int | None, strategy: Any, *, alike: bool) -> Source:
    """What a dataset reads.

    Args:
        dataset: on the coordinator.
        num_batches: its elements, as far as known.
        strategy: whose workers read it.
        alike: whether all workers must shuffle alike, so that their parts are a partition.
    """
    import tensorflow as tf

    own = fed.is_marked(dataset)
    spec, endless = dataset.element_spec, dataset.cardinality() == tf.data.INFINITE_CARDINALITY
    # An input of the worker's graph: a dataset made of a constant would be folded into another.
    graph = tf.constant(_serialized(dataset, alike=alike and not own and not endless))
    workers = strategy._num_workers

    def make() -> Any:
        variant = tf.raw_ops.DatasetFromGraph(graph_def=graph)
        copy = tf.data.experimental.from_variant(variant, spec)
        return copy if own or endless else copy.shard(workers, worker_index())

    steps = fed.steps_of(dataset) if own else num_batches
    return Source(
        make,
        ends=not endless,
        steps=steps,
        element_spec=spec,
        own_rows=own,
        idle=fed.idle_of(dataset),
    )


def _serialized(dataset: Any, *, alike: bool) -> bytes:
    import tensorflow as tf

    variant = tf.data.experimental.to_variant(dataset)
    content = tf.raw_ops.DatasetToGraphV2(
        input_dataset=variant, external_state_policy=1, strip_device_assignment=True
    ).numpy()
    graph = tf.compat.v1.GraphDef.FromString(content)
    bodies = [graph.node, *(function.node_def for function in graph.library.function)]
    if any(node.op in _PYTHON for nodes in bodies for node in nodes):
        raise ValueError(
            "A worker of parameter-server training runs no Python: the dataset calls a Python "
            "function (from_generator, py_function, a PyDataset or a generator). Build it from "
            "files, arrays and TensorFlow's operations, or feed rows from Spark: train.on(df) and "
            "get_context().dataset(...)."
        )
    return bytes(_seeded(graph).SerializeToString() if alike else content)


def _seeded(graph: Any) -> Any:
    """The graph, in which a shuffle without a seed has a fixed one."""
    constants = {node.name: node for node in graph.node if node.op == "Const"}
    for node in graph.node:
        if _SHUFFLES.fullmatch(node.op):
            # (input, buffer size, seed, seed2, ...) in every version that carries seeds.
            seeds = [constants.get(name.partition(":")[0]) for name in node.input[2:4]]
            if all(seed is not None and not _value(seed) for seed in seeds):
                for seed, value in zip(seeds, _FIXED_SEEDS, strict=True):
                    _set(seed, value)
    return graph


def _value(node: Any) -> Any:
    import tensorflow as tf

    return tf.make_ndarray(node.attr["value"].tensor).item()


def _set(node: Any, value: int) -> None:
    import tensorflow as tf

    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value, tf.int64, []))
