"""How the columns of a DataFrame become tensors, decided from their types alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, cast

from spark_strategy.data.layout import ITEM_BYTES, STRING, Part, counts_key, sizes_key, values_key
from spark_strategy.data.schema import Leaf, leaves
from spark_strategy.errors import PlanError
from spark_strategy.topology import is_count

Value = bool | int | float | str
Shape = tuple[int | None, ...]

_FLOAT_MAX: Final = {
    "float16": 65504.0,
    "float32": 3.4028234663852886e38,
    "float64": 1.7976931348623157e308,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """What a column's type does not say about its tensor.

    Args:
        shape: shape of one row: an array column of 784 numbers can be (28, 28, 1), in row-major
            order. An array of arrays is as long as the first dimension, and its arrays have the
            others. None at the front, with ``ragged``, for a length that varies.
        dtype: name of the dtype, such as "float32"; None for the one of the column's type. An
            integer out of its range is an error, and so is a number that would become infinite.
        pad: makes arrays of varying length dense: they are filled up at the end with this value
            to ``shape``. A longer one is an error.
        ragged: arrays of varying length become a ``tf.RaggedTensor``.
        fill: what stands for a null, in arrays too. A null array of fixed length becomes one full
            of it, a null array of varying length an empty one. None: a null is an error.

    Raises:
        PlanError: the fields contradict each other.
    """

    shape: Shape | None = None
    dtype: str | None = None
    pad: Value | None = None
    ragged: bool = False
    fill: Value | None = None

    def __post_init__(self) -> None:
        if self.dtype is not None and self.dtype not in (*ITEM_BYTES, STRING):
            raise PlanError(
                f"Column(dtype) is one of {', '.join((*ITEM_BYTES, STRING))}, found {self.dtype!r}."
            )
        for field, value in (("pad", self.pad), ("fill", self.fill)):
            if not isinstance(value, Value | None):
                raise PlanError(f"Column({field}) is a number or a string, found {value!r}.")
        if self.pad is not None and self.ragged:
            raise PlanError(
                f"Column(pad={self.pad!r}, ragged=True) asks for a dense and a ragged tensor. "
                "Choose one of them."
            )
        if self.pad is not None and self.shape is None:
            raise PlanError(
                f"Column(pad={self.pad!r}) needs the shape to pad to, as in shape=(100,)."
            )
        if self.shape is not None:
            self._check_shape(self.shape)

    def _check_shape(self, shape: object) -> None:
        dims = shape if isinstance(shape, tuple) else ("",)
        varying = _leading_none(dims)
        if not all(is_count(dim) and dim for dim in dims[varying:]):
            raise PlanError(
                "Column(shape) is a tuple of whole numbers above 0, as in (28, 28, 1) or (784,), "
                f"found {shape!r}."
            )
        if bool(varying) != self.ragged:
            raise PlanError(
                f"Column(shape={shape}, ragged={self.ragged}): a ragged column, and no other, has "
                "None for the lengths that vary, as in Column(shape=(None, 3), ragged=True)."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnSpec:
    """What was decided for one column. Travels to the executors and the children.

    Attributes:
        name: the column's name, dotted for a field of a struct.
        path: the names on the way to it: one for each struct, and its own.
        spark_type: its type in words, for messages.
        depth: levels of arrays; 0 for a scalar.
        dtype: name of the tensor's dtype; "string" for strings and binary.
        shape: of one row; None for a length that varies or is not known yet.
        ragged: whether the lengths in ``shape`` that are None vary.
        pad: fills up short arrays; None where none may be short.
        fill: stands for a null; None where there may be none.
        is_vector: whether it is a Spark ML vector, for ``vector_to_array`` to convert.
    """

    name: str
    path: tuple[str, ...]
    spark_type: str
    depth: int
    dtype: str
    shape: Shape
    ragged: bool = False
    pad: Value | None = None
    fill: Value | None = None
    is_vector: bool = False

    @property
    def needs_length(self) -> bool:
        """Whether the length of its arrays is still to be looked up, for :func:`with_lengths`."""
        return None in self.shape and not self.ragged

    @property
    def ragged_rank(self) -> int:
        """How many of its lengths vary."""
        return _leading_none(self.shape) if self.ragged else 0

    @property
    def row_values(self) -> int | None:
        """Values in one row; None where that varies."""
        return None if None in self.shape else math.prod(cast("tuple[int, ...]", self.shape))

    @property
    def row_bytes(self) -> int | None:
        """Bytes of one row; None where they vary."""
        if self.row_values is None or self.dtype == STRING:
            return None
        return self.row_values * ITEM_BYTES[self.dtype]

    @property
    def parts(self) -> tuple[Part, ...]:
        """What a block holds of it, in order."""
        if not self.ragged:
            return (Part(self.name, self.dtype),)
        keys = [counts_key(self.name)] if self.ragged_rank > 1 else []
        keys += [sizes_key(self.name)] if self.dtype == STRING else []
        return tuple(Part(key, STRING) for key in (*keys, values_key(self.name)))

    @property
    def lengths(self) -> Shape:
        """How long its arrays are, for each level of them, outermost first; None if it varies."""
        if not self.depth:
            return ()
        outer, inner = self.shape[: self.depth - 1], self.shape[self.depth - 1 :]
        return (*outer, None if None in inner else math.prod(cast("tuple[int, ...]", inner)))


def specs_of(schema: Mapping[str, Any], declared: Mapping[str, Column]) -> tuple[ColumnSpec, ...]:
    """The columns of a DataFrame, in order, and instead of a struct its fields.

    Args:
        schema: ``DataFrame.schema.jsonValue()``.
        declared: by :attr:`ColumnSpec.name`. What names no column here may be meant for another
            DataFrame, and is left alone.

    Raises:
        PlanError: a column cannot become a tensor, or not in the declared way.
    """
    specs = tuple(_spec(leaf, declared.get(leaf.name, Column())) for leaf in leaves(schema))
    names = [spec.name for spec in specs]
    for name in names:
        if names.count(name) > 1:
            raise PlanError(f"Two columns are called {name!r}. Rename one of them.")
    if not specs:
        raise PlanError("The DataFrame has no columns, so there is nothing to feed. Select some.")
    return specs


def with_lengths(specs: Sequence[ColumnSpec], lengths: Mapping[str, int]) -> tuple[ColumnSpec, ...]:
    """The same columns, where nobody declared the length of an array with the one found.

    Args:
        specs: columns.
        lengths: how long the arrays of a column are, by its name.

    Raises:
        PlanError: a length is 0.
    """
    return tuple(
        replace(spec, shape=(_found_length(spec, lengths[spec.name]),))
        if spec.needs_length and spec.name in lengths
        else spec
        for spec in specs
    )


def _found_length(spec: ColumnSpec, length: int) -> int:
    if length < 1:
        raise PlanError(
            f"The first array in column {spec.name!r} is empty. Say how long they are, as in "
            f"columns={{{spec.name!r}: Column(shape=(784,))}}, or that it varies: "
            "Column(ragged=True)."
        )
    return length


def _spec(leaf: Leaf, column: Column) -> ColumnSpec:
    dtype = _dtype(leaf, column.dtype or leaf.dtype)
    for field, value in (("fill", column.fill), ("pad", column.pad)):
        if value is not None and not _holds(dtype, value):
            raise PlanError(
                f"Column {leaf.name!r} becomes {dtype}, which cannot hold Column({field}="
                f"{value!r}). Choose another {field}, or another dtype."
            )
    return ColumnSpec(
        name=leaf.name,
        path=leaf.path,
        spark_type=leaf.spark_type,
        depth=leaf.depth,
        dtype=dtype,
        shape=_shape(leaf, column),
        ragged=column.ragged,
        pad=column.pad,
        fill=column.fill,
        is_vector=leaf.is_vector,
    )


def _dtype(leaf: Leaf, dtype: str) -> str:
    """``dtype``, if each value of the column either fits or is seen not to."""
    is_possible = dtype == leaf.dtype or (
        STRING not in (dtype, leaf.dtype)
        and dtype != "bool"
        and (dtype.startswith("float") or not leaf.dtype.startswith("float"))
    )
    if not is_possible:
        raise PlanError(
            f"Column {leaf.name!r} is {leaf.spark_type} and cannot become {dtype}. Cast it in "
            "Spark, which knows how."
        )
    return dtype


def _shape(leaf: Leaf, column: Column) -> Shape:
    what = f"Column {leaf.name!r} is {leaf.spark_type}"
    depth, shape = leaf.depth, column.shape
    if not depth:
        if shape or column.ragged or column.pad is not None:
            raise PlanError(f"{what}, one value per row. Declare no shape, pad or ragged for it.")
        return ()
    if shape is None:
        if depth > 1 and not column.ragged:
            raise PlanError(
                f"{what}, and nobody says how long its arrays are. Declare it, as in columns="
                f"{{{leaf.name!r}: Column(shape=(5, 5))}}, or that it varies: Column(ragged=True)."
            )
        return (None,) * depth
    varying = _leading_none(shape)
    if len(shape) < depth or (varying >= depth and len(shape) > depth):
        raise PlanError(
            f"{what}, which Column(shape={shape}, ragged={column.ragged}) does not fit. Give each "
            "level of arrays a dimension; the arrays further inside may have several, unless "
            "their length varies."
        )
    return shape


def _holds(dtype: str, value: Value) -> bool:
    if dtype == STRING or isinstance(value, str):
        return dtype == STRING and isinstance(value, str)
    if dtype == "bool":
        return value in (0, 1)
    if dtype.startswith("float"):
        return abs(value) == math.inf or not abs(value) > _FLOAT_MAX[dtype]
    bits = 8 * ITEM_BYTES[dtype]
    low, high = (0, 2**bits) if dtype.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1))
    return (isinstance(value, int) or value.is_integer()) and low <= value < high


def _leading_none(shape: tuple[object, ...]) -> int:
    return next((place for place, dim in enumerate(shape) if dim is not None), len(shape))
