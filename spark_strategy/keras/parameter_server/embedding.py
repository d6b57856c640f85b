"""Keras 3 does not know a variable that is split over parameter servers.

With a partitioner ``tf.Variable`` becomes a ShardedVariable, which a Keras variable cannot wrap: a
lookup would send the whole table to the worker, and no gradient comes back. Here Keras's variables
are whole, except for the table of an Embedding: where the partitioner says so, it is several
variables, which the strategy puts on one server after the other. A lookup asks each server for the
rows it has, and a save writes one table, which any Keras reads.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any, Final

from spark_strategy.keras.parameter_server.coordination import is_coordinated
from spark_strategy.keras.repair import Repair, takes

# Initializers whose values do not depend on the table's size: parts are made one by one.
_BY_ROW: Final = frozenset({"RandomUniform", "RandomNormal", "TruncatedNormal"})


def _layer() -> Any:
    from keras.src.layers import Embedding

    return Embedding


def _variable() -> Any:
    from keras.src.backend.tensorflow import core

    return core.Variable


def _fits() -> bool:
    layer = _layer()
    return (
        takes(layer, "build", "self", "input_shape")
        and takes(layer, "call", "self", "inputs")
        and takes(layer, "save_own_variables", "self", "store")
        and takes(layer, "load_own_variables", "self", "store")
        and isinstance(layer.embeddings, property)
        and takes(_variable(), "_initialize", "self", "value")
    )


def _faulty() -> bool:
    """Fixed when a Keras variable knows of shards."""
    names = {name for function in vars(_variable()).values() for name in _names(function)}
    return not any("sharded" in name.lower() for name in names)


def _names(function: Any) -> tuple[str, ...]:
    return getattr(getattr(function, "__code__", None), "co_names", ())


def _mend() -> None:
    _mend_variable()
    _mend_table()
    _mend_storage()


def _mend_variable() -> None:
    variable = _variable()
    initialize = variable._initialize

    def initialize_whole(self: Any, value: Any) -> None:
        with _unpartitioned():
            initialize(self, value)

    variable._initialize = initialize_whole


@contextlib.contextmanager
def _unpartitioned() -> Iterator[None]:
    import tensorflow as tf

    strategy = tf.distribute.get_strategy()
    if not is_coordinated(strategy):
        yield
        return
    extended = strategy.extended
    before, extended._variable_partitioner = extended._variable_partitioner, None
    try:
        yield
    finally:
        extended._variable_partitioner = before


def _mend_table() -> None:
    layer = _layer()
    build, call, table = layer.build, layer.call, layer.embeddings

    @functools.wraps(build)
    def build_parts(self: Any, input_shape: Any = None) -> None:
        parts = 1 if self.built else _parts(self)
        if parts == 1:
            build(self, input_shape)
            return
        self.table_parts = [
            self.add_weight(
                shape=(rows, self.output_dim),
                initializer=_initializer(self, part, sum(_rows(self, parts)[:part]), rows),
                name=f"embeddings_part_{part}",
                regularizer=self.embeddings_regularizer,
                trainable=True,
            )
            for part, rows in enumerate(_rows(self, parts))
        ]
        self.built = True

    @functools.wraps(call)
    def call_parts(self: Any, inputs: Any) -> Any:
        import tensorflow as tf

        parts = getattr(self, "table_parts", None)
        if parts is None:
            return call(self, inputs)
        ids = inputs if inputs.dtype in ("int32", "int64") else tf.cast(inputs, "int32")
        found = tf.compat.v1.nn.embedding_lookup(
            [part.value for part in parts], ids, partition_strategy="div"
        )
        return tf.cast(found, self.compute_dtype)

    def embeddings(self: Any) -> Any:
        import tensorflow as tf

        parts = getattr(self, "table_parts", None)
        if parts is None:
            return table.fget(self)
        return tf.concat([part.value for part in parts], axis=0)

    layer.build, layer.call, layer.embeddings = build_parts, call_parts, property(embeddings)


def _mend_storage() -> None:
    layer = _layer()
    save, load = layer.save_own_variables, layer.load_own_variables

    def save_own_variables(self: Any, store: Any) -> None:
        if getattr(self, "table_parts", None) is None:
            save(self, store)
        else:
            store["0"] = self.embeddings.numpy()

    def load_own_variables(self: Any, store: Any) -> None:
        parts = getattr(self, "table_parts", None)
        if parts is None:
            load(self, store)
            return
        first = 0
        for part in parts:
            part.assign(store["0"][first : first + part.shape[0]])
            first += part.shape[0]

    layer.save_own_variables = save_own_variables
    layer.load_own_variables = load_own_variables


def _parts(layer: Any) -> int:
    """Into how many parts the strategy's partitioner would split the table."""
    import tensorflow as tf

    strategy = tf.distribute.get_strategy()
    partitioner = strategy.extended._variable_partitioner if is_coordinated(strategy) else None
    special = layer.quantization_mode or layer.lora_rank or layer.embeddings_constraint
    if partitioner is None or special:
        return 1
    shape = tf.TensorShape((layer.input_dim, layer.output_dim))
    parts = partitioner(shape=shape, dtype=tf.as_dtype(layer.variable_dtype))
    return max(1, min(int(parts[0]), int(layer.input_dim)))


def _rows(layer: Any, parts: int) -> list[int]:
    """Rows of each part; the first ones have one more, as in TensorFlow's "div" strategy."""
    each, extra = divmod(layer.input_dim, parts)
    return [each + (part < extra) for part in range(parts)]


def _initializer(layer: Any, part: int, first: int, rows: int) -> Any:
    whole = layer.embeddings_initializer
    if type(whole).__name__ not in _BY_ROW:
        shape = (layer.input_dim, layer.output_dim)
        return lambda _shape, dtype=None: whole(shape, dtype=dtype)[first : first + rows]
    config = whole.get_config()
    # The same seed would give every part the same rows.
    seed = config.get("seed")
    seeds = {"seed": seed + part} if isinstance(seed, int) else {}
    return type(whole).from_config({**config, **seeds})


SPLIT_EMBEDDING = Repair(
    "split embedding", "core.py Variable._initialize, embedding.py", _fits, _faulty, _mend
)
