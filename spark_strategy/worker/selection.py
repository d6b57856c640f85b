"""Which columns become features, label and weight of an element."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spark_strategy.data.columns import ColumnSpec
from spark_strategy.data.matrices import EXACT_INTEGERS, common_dtype, is_exact
from spark_strategy.errors import PlanError
from spark_strategy.worker.own_errors import stated

if TYPE_CHECKING:
    import tensorflow as tf

# One column; several numeric ones that become a matrix; or several inputs by name.
Selector = str | Sequence[str] | Mapping[str, "str | Sequence[str]"]

_Leaf = str | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Selection:
    """What a train function asks for.

    Attributes:
        features: the model's inputs; None for all other columns, by name.
        label: the target, or targets by name; None for none.
        weight: the column of row weights; None for none.
    """

    features: Selector | None = None
    label: Selector | None = None
    weight: str | None = None

    def named(self) -> Iterator[str]:
        """Every column that is asked for by name."""
        for part in (self.features, self.label, self.weight):
            yield from _names(part)

    def resolved(self, specs: Sequence[ColumnSpec]) -> Resolved:
        """The same against columns that exist.

        Raises:
            PlanError: a column is not there, or cannot be part of a matrix.
        """
        if self.weight is not None and self.label is None:
            raise PlanError(
                f"weight={self.weight!r} needs a label: (x, y, weight) has three parts."
            )
        others = {*_names(self.label), *_names(self.weight)}
        rest = {spec.name: spec.name for spec in specs if spec.name not in others}
        parts = [self.features if self.features is not None else rest, self.label, self.weight]
        known = {spec.name: spec for spec in specs}
        return Resolved(tuple(_checked(part, known) for part in parts if part is not None))


@dataclass(frozen=True, slots=True)
class Resolved:
    """A selection whose columns exist: one part each for features, label and weight."""

    parts: tuple[_Leaf | Mapping[str, _Leaf], ...]

    @property
    def columns_alone(self) -> frozenset[str]:
        """The columns that are tensors of their own."""
        return frozenset(leaf for leaf in self._leaves() if isinstance(leaf, str))

    @property
    def matrices(self) -> frozenset[tuple[str, ...]]:
        """The columns of each matrix."""
        return frozenset(leaf for leaf in self._leaves() if isinstance(leaf, tuple))

    def element(self, tensors: Mapping[Any, tf.Tensor]) -> Any:
        """The element made of these tensors, keyed by column or, for a matrix, its columns."""
        parts = tuple(
            {name: tensors[leaf] for name, leaf in part.items()}
            if isinstance(part, Mapping)
            else tensors[part]
            for part in self.parts
        )
        return parts if len(parts) > 1 else parts[0]

    def _leaves(self) -> Iterator[_Leaf]:
        for part in self.parts:
            yield from part.values() if isinstance(part, Mapping) else (part,)


def matrix(columns: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """Columns of shape ``[rows]`` or ``[rows, n]`` side by side, ``[rows, sum of n]``.

    Of a dtype in which none loses a digit; an integer that has none fails as a DataError.

    Args:
        columns: by name, in order.
    """
    import tensorflow as tf

    dtype = common_dtype(column.dtype.name for column in columns.values())
    cast = [_cast(name, column, dtype) for name, column in columns.items()]
    if all(column.shape.rank == 1 for column in cast):
        return tf.stack(cast, axis=1)
    return tf.concat([c[:, None] if c.shape.rank == 1 else c for c in cast], axis=1)


def _cast(name: str, column: tf.Tensor, dtype: str) -> tf.Tensor:
    import tensorflow as tf

    if is_exact(column.dtype.name, dtype):
        return tf.cast(column, dtype)
    is_small = (column <= EXACT_INTEGERS) & (column >= -EXACT_INTEGERS)
    said = stated(
        f"Column {name!r} has integers above 2**53, which lose digits beside numbers of other "
        f"types in a matrix. Declare columns={{{name!r}: Column(dtype='float64')}} if that is "
        "meant, or give the column an input of its own."
    )
    with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(is_small), [said])]):
        return tf.cast(column, dtype)


def _names(selector: Selector | None) -> Iterator[str]:
    if selector is None:
        return
    if isinstance(selector, str):
        yield selector
        return
    for one in selector.values() if isinstance(selector, Mapping) else selector:
        yield from _names(one)


def _checked(part: Selector, known: Mapping[str, ColumnSpec]) -> _Leaf | dict[str, _Leaf]:
    if isinstance(part, Mapping):
        if not part:
            raise PlanError("There is no column left to be a feature.")
        return {name: _leaf(one, known) for name, one in part.items()}
    return _leaf(part, known)


def _leaf(names: str | Sequence[str], known: Mapping[str, ColumnSpec]) -> _Leaf:
    wanted = (names,) if isinstance(names, str) else tuple(names)
    for name in wanted:
        if name not in known:
            raise PlanError(f"There is no column {name!r}; the columns are {', '.join(known)}.")
    if isinstance(names, str):
        return names
    for name in wanted:
        spec = known[name]
        if spec.dtype == "string" or len(spec.shape) > 1 or None in spec.shape:
            raise PlanError(
                f"{name!r} cannot be part of a matrix: it is {spec.dtype} of shape {spec.shape} in "
                "each row, and a matrix takes numbers and flat arrays. Give it a name of its own, "
                "as in features={'x': [...], 'y': 'column'}."
            )
    if not wanted:
        raise PlanError("An empty list of columns is no feature; name at least one.")
    return wanted
