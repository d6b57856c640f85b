"""Whether what a user declares of columns are declarations at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spark_strategy.data.columns import Column
from spark_strategy.errors import PlanError


def check_declarations(columns: Any) -> None:
    """Refuse declarations that are not ``Column`` by name.

    Args:
        columns: what should be a dictionary of them; None for none.

    Raises:
        PlanError: shows how to declare a column.
    """
    if columns is None:
        return
    if not isinstance(columns, Mapping):
        raise PlanError(
            "columns is a dictionary, as in columns={'image': Column(shape=(28, 28, 1))}; found "
            f"{columns!r}."
        )
    for name, column in columns.items():
        if not isinstance(name, str) or not isinstance(column, Column):
            raise PlanError(
                f"columns[{name!r}] is a Column, as in Column(shape=(28, 28, 1)); found {column!r}."
            )
