"""A model as its users see it: named inputs, named outputs, batches in and out.

A Keras model computes by the very function that ``predict`` runs for each of its batches
(``make_predict_function`` in Keras' ``tensorflow/trainer.py`` and tf_keras'
``engine/training.py``): the same bits come out, at a fraction of ``predict``'s cost per batch. It
is made once, before any thread computes: tf_keras' ``predict_on_batch`` takes it off the model for
a moment at each call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import tensorflow as tf

from spark_strategy.data.columns import ColumnSpec
from spark_strategy.data.inputs import Input
from spark_strategy.data.layout import sections
from spark_strategy.data.matrices import common_dtype
from spark_strategy.errors import PlanError
from spark_strategy.keras.transport import flavour_of
from spark_strategy.serving import Output
from spark_strategy.worker.blocks import decode, element_spec, finish
from spark_strategy.worker.selection import Resolved, matrix

# Outputs of dtypes that Spark lacks, as one that it has.
_WIDENED: Final = {
    "bfloat16": "float32",
    "float16": "float32",
    "uint8": "int16",
    "uint16": "int32",
    "uint32": "int64",
}
_OUTPUTS: Final = {"bool", "int8", "int16", "int32", "int64", "float32", "float64", "string"}


class Program(Protocol):
    """A loaded model.

    Attributes:
        inputs: in the model's order; empty where the model does not say.
    """

    inputs: tuple[Input, ...]

    def outputs(self, element: Any) -> tuple[Output, ...]:
        """What comes out for an element of these TensorSpecs."""
        ...

    def function(self, element: Any) -> Callable[[Any], list[Any]]:
        """Batch -> each output's values, for batches of these TensorSpecs; ask ``outputs`` first.

        Threads may call it at the same time.
        """
        ...


class KerasProgram:
    """A Keras model.

    Args:
        model: of either Keras.
        weights: to be set once its variables exist; empty to leave them.
    """

    def __init__(self, model: Any, weights: Sequence[Any] = ()) -> None:
        self._model = model
        self._weights = list(weights)
        self.inputs: tuple[Input, ...] = tuple(
            Input(one.name, tuple(one.shape[1:]), tf.as_dtype(one.dtype).name)
            for one in (getattr(model, "inputs", None) or ())
        )

    def outputs(self, element: Any) -> tuple[Output, ...]:
        """By tracing the model, which computes nothing; sets the weights.

        Raises:
            PlanError: the model does not take such an element.
        """
        model = self._model
        step = tf.function(lambda x: model.predict_step((x,)), autograph=False)
        try:
            traced = step.get_concrete_function(element).structured_outputs
        # Tracing runs the model's own code: anything can come out of it.
        except Exception as error:
            raise PlanError(f"The model does not take {element}: {error}") from error
        if self._weights:
            model.set_weights(self._weights)
        names = getattr(model, "output_names", None) or ()
        return tuple(_output(*one) for one in _named(traced, names))

    def function(self, element: Any) -> Callable[[Any], list[Any]]:
        """What ``predict`` runs for a batch of any number of rows; compiles tf_keras ones anew."""
        is_tf_keras = flavour_of(self._model) == "tf_keras"
        if is_tf_keras:
            _compile_for_single_batches(self._model)
        self._model.make_predict_function()  # Keras 3 does not return it
        predict = self._model.predict_function
        if is_tf_keras:

            def outputs(batch: Any) -> Any:
                return predict(iter(tf.data.Dataset.from_tensors((batch,))))

        else:
            if isinstance(predict, tf.types.experimental.PolymorphicFunction):
                predict = predict.get_concrete_function([(element,)])

            def outputs(batch: Any) -> Any:
                return predict([(batch,)])

        return lambda batch: [value for _, value in _named(outputs(batch), ())]


def _compile_for_single_batches(model: Any) -> None:
    """Its function would take ``steps_per_execution`` batches at once, and is given one."""
    import tf_keras

    # A subclass may have a compile of its own, with other arguments.
    tf_keras.Model.compile(model, run_eagerly=model.run_eagerly, jit_compile=model.jit_compile)


class SignatureProgram:
    """A signature of a SavedModel.

    Args:
        model: the SavedModel, which must outlive its signatures.
        function: the signature.
    """

    def __init__(self, model: Any, function: Any) -> None:
        self._model = model
        self._function = function
        self._specs = dict(function.structured_input_signature[1])
        self.inputs = tuple(
            Input(name, tuple(spec.shape[1:]), spec.dtype.name)
            for name, spec in self._specs.items()
        )

    @classmethod
    def loaded(cls, path: str, signature: str) -> SignatureProgram:
        """The one of this name in the SavedModel at ``path``.

        Raises:
            PlanError: there is none.
        """
        model = tf.saved_model.load(path)
        if signature not in model.signatures:
            known = ", ".join(map(repr, model.signatures)) or "none"
            raise PlanError(f"The SavedModel has no signature {signature!r}; it has {known}.")
        return cls(model, model.signatures[signature])

    def outputs(self, element: Any) -> tuple[Output, ...]:
        """What the signature says."""
        del element
        return tuple(_output(*one) for one in _named(self._function.structured_outputs, ()))

    def function(self, element: Any) -> Callable[[Any], list[Any]]:
        """The signature, whatever the element."""
        del element
        return self._values

    def _values(self, batch: Any) -> list[Any]:
        if not isinstance(batch, Mapping):
            batch = {self.inputs[0].name: batch}
        answer = self._function(**{name: self._fitting(name, x) for name, x in batch.items()})
        return [value for _, value in _named(answer, ())]

    def _fitting(self, name: str, value: Any) -> tf.Tensor:
        """Numbers, one per row, as a matrix of one column where that is asked for, as in Keras."""
        spec, tensor = self._specs[name], tf.convert_to_tensor(value)
        is_column = tensor.shape.rank == 1 and spec.shape.rank == 2
        return tensor[:, None] if is_column else tensor


@dataclass(frozen=True, slots=True)
class Asked:
    """What a server's clients send.

    Attributes:
        specs: columns of a block.
        features: the elements made of them.
    """

    specs: tuple[ColumnSpec, ...]
    features: Resolved

    def element_spec(self) -> Any:
        """TensorSpecs of an element."""
        specs = element_spec(self.specs)
        tensors: dict[Any, Any] = dict(specs)
        for names in self.features.matrices:
            tensors[names] = _matrix_spec([specs[name] for name in names])
        return self.features.element(tensors)

    def element(self, block: memoryview) -> Any:
        """The rows of a block."""
        columns = self._columns(block)
        tensors: dict[Any, Any] = dict(columns)
        for names in self.features.matrices:
            tensors[names] = matrix({name: tf.convert_to_tensor(columns[name]) for name in names})
        return self.features.element(tensors)

    def _columns(self, block: memoryview) -> dict[str, Any]:
        if any(spec.ragged or spec.dtype == "string" for spec in self.specs):
            return finish(decode(tf.constant(bytes(block)), self.specs), self.specs)
        # Of numbers alone: what decode() does, without copies of the block.
        header = np.frombuffer(block, "<i8", 1 + len(self.specs))
        columns = {}
        for spec, (begin, end) in zip(self.specs, sections(header[1:].tolist()), strict=True):
            values = np.frombuffer(block[begin:end], spec.dtype)
            columns[spec.name] = values.reshape(int(header[0]), *spec.shape)
        return columns


class Answering:
    """A model behind the protocol of ``serving.py``.

    Args:
        source: the model (``sources.py``).
        asked: what its clients send.
    """

    def __init__(self, source: Any, asked: Asked) -> None:
        self._asked = asked
        program: Program = source.load()
        element = asked.element_spec()
        self._outputs = program.outputs(element)
        self._function = program.function(element)

    def __call__(self, block: memoryview) -> list[bytes]:
        """The reply to a block: each output's values."""
        values = self._function(self._asked.element(block))
        return [
            part
            for output, value in zip(self._outputs, values, strict=True)
            for part in _parts(output, np.asarray(value))
        ]


def _parts(output: Output, values: Any) -> list[bytes]:
    if output.dtype != "string":
        return [np.ascontiguousarray(values, output.dtype).tobytes()]
    texts = [bytes(text) for text in values.reshape(-1)]
    return [np.array([len(text) for text in texts], "<i8").tobytes(), b"".join(texts)]


def _named(outputs: Any, names: Sequence[str]) -> list[tuple[str, Any]]:
    """Each output with its name, in one order always."""
    if isinstance(outputs, Mapping):
        return sorted(outputs.items())
    if not isinstance(outputs, list | tuple):
        return [(names[0] if len(names) == 1 else "output", outputs)]
    if len(names) != len(outputs):
        names = [f"output_{place}" for place in range(len(outputs))]
    return list(zip(names, outputs, strict=True))


def _output(name: str, tensor: Any) -> Output:
    dtype = tensor.dtype.name
    dtype = _WIDENED.get(dtype, dtype)
    shape = tensor.shape.as_list() if tensor.shape.rank else None
    if dtype not in _OUTPUTS or not shape or None in shape[1:]:
        raise PlanError(
            f"The model's output {name!r} is {tensor.dtype.name} of shape {tensor.shape}, which no "
            "column can hold: each row needs numbers, texts, or arrays of a known length."
        )
    return Output(name, dtype, tuple(shape[1:]))


def _matrix_spec(specs: Sequence[tf.TensorSpec]) -> tf.TensorSpec:
    """Of what ``matrix`` makes."""
    width = sum(1 if spec.shape.rank == 1 else spec.shape[1] for spec in specs)
    return tf.TensorSpec([None, width], common_dtype(spec.dtype.name for spec in specs))
