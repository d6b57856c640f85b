"""Filters that folders can answer without being read."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, tzinfo
from typing import Any, Final

import pyarrow as pa
from pyspark.sql import datasource as ds

from spark_strategy.tfrecord.partitions import partition_scalar

_COMPARE: Final[Mapping[type[Any], Callable[[Any, Any], bool]]] = {
    ds.EqualTo: operator.eq,
    ds.GreaterThan: operator.gt,
    ds.GreaterThanOrEqual: operator.ge,
    ds.LessThan: operator.lt,
    ds.LessThanOrEqual: operator.le,
    ds.In: lambda value, choices: value in choices,
}


def may_match(
    partition: Mapping[str, str | None],
    types: Mapping[str, pa.DataType],
    filters: Sequence[Any],
    zone: tzinfo = UTC,
) -> bool:
    """Whether a file of this folder may hold rows that all filters let through.

    Args:
        partition: what the folder's name says.
        types: of the partition columns.
        filters: Spark's; those of other columns, and those not known here, exclude nothing.
        zone: of timestamps in the names of folders.
    """
    for one in filters:
        (name, *inside) = getattr(one, "attribute", ("",))
        if inside or name not in types:
            continue
        value = partition_scalar(partition.get(name), types[name], zone).as_py()
        if not _passes(one, value):
            return False
    return True


def _passes(one: Any, value: Any) -> bool:
    if isinstance(one, ds.IsNull):
        return value is None
    if isinstance(one, ds.IsNotNull):
        return value is not None
    compare = _COMPARE.get(type(one))
    if compare is None:
        return True
    try:
        return value is not None and compare(value, one.value)
    except TypeError:  # types that Python does not compare: Spark will
        return True
