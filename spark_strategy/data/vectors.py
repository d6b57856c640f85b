"""Spark ML vectors as Parquet has them -> arrays; in Spark itself ``vector_to_array`` does this."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from spark_strategy.errors import DataError

_DENSE = 1  # VectorUDT's type of a dense vector; 0 is a sparse one


def dense(name: str, vectors: pa.StructArray) -> pa.ListArray:
    """Vectors of one length as arrays of float64; a null stays one.

    Args:
        name: the column's, for messages.
        vectors: structs of ``type``, ``size``, ``indices`` and ``values``, as ``VectorUDT`` has
            them: a dense vector has its values alone.

    Raises:
        DataError: their lengths differ.
    """
    kind, size, indices, values = (
        pc.struct_field(vectors, [field]) for field in ("type", "size", "indices", "values")
    )
    counts = _numbers(pc.list_value_length(values))
    is_dense = _numbers(kind) == _DENSE
    present = ~vectors.is_null().to_numpy(zero_copy_only=False)
    lengths = np.where(is_dense, counts, _numbers(size))
    found = np.unique(lengths[present])
    if len(found) > 1:
        raise DataError(
            f"The vectors in column {name!r} have {found[0]} and {found[-1]} values; a tensor "
            "needs one length.",
            column=name,
            rows=np.flatnonzero(present & (lengths != found[0])).tolist(),
        )
    width = int(found[0]) if len(found) else 0
    if present.all() and is_dense.all():
        return values
    filled = np.zeros((len(vectors), width))
    rows = np.repeat(np.arange(len(vectors)), counts)
    places = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    places[~is_dense[rows]] = indices.flatten().to_numpy(zero_copy_only=False)
    filled[rows, places] = values.flatten().to_numpy(zero_copy_only=False)
    ends = np.concatenate([[0], np.cumsum(np.where(present, width, 0))])
    is_wide = ends[-1] > np.iinfo(np.int32).max
    kind, offsets = (pa.LargeListArray, ends) if is_wide else (pa.ListArray, ends.astype(np.int32))
    return kind.from_arrays(offsets, filled[present].reshape(-1), mask=pa.array(~present))


def _numbers(array: pa.Array) -> npt.NDArray[np.int64]:
    numbers: npt.NDArray[np.int64] = array.fill_null(0).to_numpy(zero_copy_only=False)
    return numbers.astype(np.int64)
