"""Batches that tasks put together to score them: no row is lost, however large it is."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from spark_strategy.data import answers
from spark_strategy.data.blocks import encode
from spark_strategy.data.columns import Column, specs_of
from spark_strategy.errors import DataError
from spark_strategy.spark.scoring import joined


def test_rows_too_large_for_offsets_of_32_bits_are_one_batch_all_the_same() -> None:
    """Texts, and arrays of them, get wider offsets, by which they are encoded as before."""
    texts = pa.array(["a", None, "bcd"])
    lists = pa.array([["x"], None, ["y", "z"]])
    part = pa.RecordBatch.from_arrays([texts, lists, pa.array([1, 2, 3])], ["t", "l", "n"])
    plain, large = joined([part, part]), joined([part, part], reach=10)
    assert plain.schema == part.schema
    assert large.schema.types == [
        *(pa.large_string(), pa.large_list(pa.large_string()), pa.int64())
    ]
    assert large.to_pylist() == plain.to_pylist() == [*part.to_pylist(), *part.to_pylist()]
    fields = [
        {"name": "t", "type": "string"},
        {"name": "l", "type": {"type": "array", "elementType": "string"}},
    ]
    declared = {"t": Column(fill=""), "l": Column(ragged=True, fill="")}
    specs = specs_of({"type": "struct", "fields": fields}, declared)
    made = [next(encode(one, specs, block_bytes=1 << 20)) for one in (plain, large)]
    assert b"".join(made[0].buffers) == b"".join(made[1].buffers)


def test_answers_that_no_column_of_spark_holds_are_refused() -> None:
    """Offsets of 32 bits would begin anew."""
    small = answers.column(np.zeros((2, 3), np.float32), (3,))
    assert small.to_pylist() == [[0.0] * 3] * 2
    width, rows = 2**15 + 1, 2**16
    with pytest.raises(DataError, match=r"2,147,549,184 values .* 65,536 rows.*smaller batch_size"):
        answers.lists(np.arange(0, rows * width + 1, width), pa.nulls(rows * width))
