"""What a model's inputs say about the columns that feed them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from spark_strategy.data.columns import Column
from spark_strategy.data.layout import STRING
from spark_strategy.data.schema import Leaf
from spark_strategy.errors import PlanError

# As in ``worker/selection.py``, which builds the tensors.
Names = str | Sequence[str]
Features = Names | Mapping[str, Names]


@dataclass(frozen=True, slots=True)
class Input:
    """One input of a model.

    Attributes:
        name: what the model calls it.
        shape: of one row; None for a length that is not fixed.
        dtype: name of its dtype.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str


def declared(
    leaves: Mapping[str, Leaf],
    features: Features,
    inputs: Sequence[Input],
    columns: Mapping[str, Column],
) -> dict[str, Column]:
    """The user's declarations, and what the model's inputs add to them.

    A column takes the dtype of the input that it feeds, and an array its shape. Where the model
    does not tell its inputs, doubles become float32, as in Keras.

    Args:
        leaves: the DataFrame's columns, by name.
        features: columns of the model's input, or of each by its name.
        inputs: of the model; empty if it does not say.
        columns: what the user declared, by column.

    Raises:
        PlanError: the features name another input than the model has.
    """
    found = dict(columns)
    for names, one in _fed(features, inputs):
        group = [leaves[name] for name in ([names] if isinstance(names, str) else names)]
        for leaf in group:
            own = found.get(leaf.name, Column())
            dtype = own.dtype or _dtype(leaf, one)
            found[leaf.name] = replace(own, dtype=dtype)
        unknown = [leaf for leaf in group if _lacks_shape(leaf, found[leaf.name])]
        if len(unknown) == 1 and one is not None and (shape := _left(group, found, one)):
            found[unknown[0].name] = replace(found[unknown[0].name], shape=shape)
    return found


def _fed(features: Features, inputs: Sequence[Input]) -> Iterator[tuple[Names, Input | None]]:
    """The columns of each input."""
    known = {one.name: one for one in inputs}
    if isinstance(features, Mapping):
        if known and set(features) != set(known):
            raise PlanError(
                f"features names the inputs {', '.join(features)}, and the model's are "
                f"{', '.join(known)}."
            )
        for name, names in features.items():
            yield names, known.get(name)
        return
    if len(known) > 1:
        raise PlanError(
            f"The model has the inputs {', '.join(known)}. Say which columns feed each, as in "
            f"features={{{inputs[0].name!r}: 'column', ...}}."
        )
    yield features, next(iter(inputs), None)


def _dtype(leaf: Leaf, one: Input | None) -> str | None:
    """What the column is cast to; None to leave it."""
    if leaf.dtype == STRING:
        return None
    if one is None:
        return "float32" if leaf.dtype == "float64" else None
    to_integers = not one.dtype.startswith("float") and leaf.dtype.startswith("float")
    return None if to_integers or one.dtype in (STRING, "bool", "bfloat16") else one.dtype


def _lacks_shape(leaf: Leaf, column: Column) -> bool:
    return leaf.depth > 0 and column.shape is None and not column.ragged


def _left(
    group: Sequence[Leaf], columns: Mapping[str, Column], one: Input
) -> tuple[int, ...] | None:
    """The shape of the one array of the group that has none yet; None if it cannot be told."""
    whole = [dim for dim in one.shape if dim is not None]
    if not whole or len(whole) < len(one.shape):
        return None
    if len(group) == 1:
        return tuple(whole)
    others = sum(math.prod(_known(columns[leaf.name])) for leaf in group) - _unknown(group, columns)
    return (whole[0] - others,) if len(whole) == 1 and whole[0] > others else None


def _known(column: Column) -> tuple[int, ...]:
    return tuple(dim for dim in column.shape or () if dim is not None)


def _unknown(group: Sequence[Leaf], columns: Mapping[str, Column]) -> int:
    """What the arrays without a shape counted as: one value each."""
    return sum(_lacks_shape(leaf, columns[leaf.name]) for leaf in group)
