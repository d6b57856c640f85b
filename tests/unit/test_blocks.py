"""Arrow batches through both ends: encoded as in a task, decoded as in the child.

What must come out is computed from ``to_pylist`` alone.
"""

from __future__ import annotations

import datetime as dt
import itertools
import math
import subprocess
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_strategy.data.blocks import encode
from spark_strategy.data.columns import Column, ColumnSpec, specs_of, with_lengths
from spark_strategy.errors import DataError
from spark_strategy.worker import blocks

EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - a clock without a zone
MICROSECOND = dt.timedelta(microseconds=1)


def array(element: Any) -> dict[str, Any]:
    """Spark's type of an array."""
    return {"type": "array", "elementType": element}


def specs_for(kinds: dict[str, Any], declared: dict[str, Column]) -> tuple[ColumnSpec, ...]:
    """As the driver decides."""
    fields = [{"name": name, "type": kind} for name, kind in kinds.items()]
    return specs_of({"type": "struct", "fields": fields}, declared)


def batches_of(content: Sequence[bytes], specs: Sequence[ColumnSpec], sizes: list[int]) -> Any:
    """Blocks decoded and cut into batches, the way ``Dataset.rebatch`` would."""
    decoded = [blocks.decode(tf.constant(one), specs) for one in content]
    rows = {key: tf.concat([one[key] for one in decoded], 0) for key in blocks.carriers(specs)}
    ends = np.cumsum([0, *sizes])
    for first, end in itertools.pairwise(ends):
        yield blocks.finish({key: value[first:end] for key, value in rows.items()}, specs)


def listed(tensor: tf.Tensor | tf.RaggedTensor) -> list[Any]:
    """Nested lists, one per row."""
    return tensor.to_list() if isinstance(tensor, tf.RaggedTensor) else tensor.numpy().tolist()


@dataclass(frozen=True)
class Case:
    """A type and how it is declared.

    Attributes:
        kind: Spark's type, as in jsonValue.
        arrow: what Spark (or another writer of Arrow) sends for it.
        rows: values of rows.
        expected: the value a row becomes.
        column: the declaration.
    """

    kind: Any
    arrow: pa.DataType
    rows: st.SearchStrategy[Any]
    expected: Callable[[Any], Any]
    column: Column = Column()  # noqa: RUF009 - it is frozen


def same(value: Any) -> Any:
    """For what needs no conversion."""
    return value


def encoded(value: Any) -> Any:
    """Strings as TensorFlow holds them."""
    if isinstance(value, list):
        return [encoded(one) for one in value]
    return value.encode() if isinstance(value, str) else value


def or_fill(fill: Any) -> Callable[[Any], Any]:
    """A null scalar."""
    return lambda value: fill if value is None else encoded(value)


def padded(value: list[Any], length: int, pad: Any) -> list[Any]:
    """Filled up at the end."""
    return encoded(value) + [pad] * (length - len(value))


def micros(value: dt.datetime) -> int:
    """Since 1970 on the value's own clock, UTC if it has one."""
    return (value.replace(tzinfo=None) - EPOCH) // MICROSECOND


INT8 = st.integers(-128, 127)
INT64 = st.integers(-(2**63), 2**63 - 1)
FLOAT32 = st.floats(width=32)
TEXT = st.text(max_size=3) | st.sampled_from(["", "x" * 200, "\0"])
TIME = st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2200, 1, 1))  # noqa: DTZ001 - as above


def lists(values: st.SearchStrategy[Any], low: int = 0, high: int = 4) -> Any:
    """Arrays."""
    return st.lists(values, min_size=low, max_size=high)


CASES = {
    "boolean": Case("boolean", pa.bool_(), st.booleans(), same),
    "boolean filled": Case(
        "boolean", pa.bool_(), st.none() | st.booleans(), or_fill(True), Column(fill=True)
    ),
    "boolean as float": Case("boolean", pa.bool_(), st.booleans(), float, Column(dtype="float32")),
    "byte": Case("byte", pa.int8(), INT8, same),
    "byte as uint8": Case("byte", pa.int8(), st.integers(0, 127), same, Column(dtype="uint8")),
    "short": Case("short", pa.int16(), st.integers(-(2**15), 2**15 - 1), same),
    "integer": Case("integer", pa.int32(), st.integers(-(2**31), 2**31 - 1), same),
    "integer filled": Case("integer", pa.int32(), st.none() | INT8, or_fill(-7), Column(fill=-7)),
    "long": Case("long", pa.int64(), INT64, same),
    "long as int8": Case(
        "long", pa.int64(), st.none() | INT8, or_fill(1), Column(dtype="int8", fill=1)
    ),
    "float": Case("float", pa.float32(), FLOAT32, same),
    "double": Case("double", pa.float64(), st.floats(), same),
    "double filled": Case(
        "double", pa.float64(), st.none() | st.floats(), or_fill(0.5), Column(fill=0.5)
    ),
    "double as float32": Case("double", pa.float64(), FLOAT32, same, Column(dtype="float32")),
    "decimal": Case(
        "decimal(9,2)",
        pa.decimal128(9, 2),
        st.decimals(-(10**7) + 1, 10**7 - 1, places=2),
        float,
    ),
    "decimal of many digits": Case(
        "decimal(38,18)",
        pa.decimal128(38, 18),
        st.decimals(-100, 100, places=4),
        float,
    ),
    "decimal beyond 64 bits": Case(
        "decimal(38,0)",
        pa.decimal128(38, 0),
        st.integers(0, 2**70).map(lambda n: Decimal(n << 20)),
        float,
    ),
    "decimals filled": Case(
        array("decimal(9,2)"),
        pa.list_(pa.decimal128(9, 2)),
        lists(st.none() | st.decimals(-99, 99, places=2)),
        lambda row: [9.0 if one is None else float(one) for one in row],
        Column(ragged=True, fill=9),
    ),
    "date": Case(
        "date",
        pa.date32(),
        st.dates(),
        lambda day: (day - EPOCH.date()).days,
    ),
    "timestamp": Case(
        "timestamp",
        pa.timestamp("us", "Etc/UTC"),
        TIME.map(lambda time: time.replace(tzinfo=dt.UTC)),
        micros,
    ),
    "timestamp in seconds": Case(
        "timestamp",
        pa.timestamp("s"),
        TIME.map(lambda time: time.replace(microsecond=0)),
        micros,
    ),
    "timestamp_ntz": Case("timestamp_ntz", pa.timestamp("us"), TIME, micros),
    "string": Case("string", pa.string(), TEXT, encoded),
    "string filled": Case(
        "string", pa.large_string(), st.none() | TEXT, or_fill(b"?"), Column(fill="?")
    ),
    "string view": Case("string", pa.string_view(), TEXT, encoded),
    "binary": Case("binary", pa.binary(), st.binary(max_size=5), same),
    "binary filled": Case(
        "binary",
        pa.large_binary(),
        st.none() | st.binary(max_size=5),
        or_fill(b""),
        Column(fill=""),
    ),
    "binary of fixed size": Case("binary", pa.binary(3), st.binary(min_size=3, max_size=3), same),
    "array": Case(
        array("float"), pa.list_(pa.float32()), lists(FLOAT32, 3, 3), same, Column(shape=(3,))
    ),
    "array of bools": Case(
        array("boolean"), pa.list_(pa.bool_()), lists(st.booleans(), 3, 3), same, Column(shape=(3,))
    ),
    "array with a shape": Case(
        array("long"),
        pa.large_list(pa.int64()),
        lists(INT8, 4, 4),
        lambda row: [[row[:2], row[2:]]],
        Column(shape=(1, 2, 2), dtype="float32"),
    ),
    "array filled": Case(
        array("short"),
        pa.list_(pa.int16()),
        st.none() | lists(st.none() | INT8, 2, 2),
        lambda row: [5, 5] if row is None else [5 if one is None else one for one in row],
        Column(shape=(2,), fill=5),
    ),
    "array of fixed size": Case(
        array("double"),
        pa.list_(pa.float64(), 2),
        st.none() | lists(st.floats(), 2, 2),
        lambda row: row or [0.0, 0.0],
        Column(shape=(2,), fill=0),
    ),
    "array view": Case(
        array("long"), pa.list_view(pa.int64()), lists(INT64, 2, 2), same, Column(shape=(2,))
    ),
    "array of strings": Case(
        array("string"), pa.list_(pa.string()), lists(TEXT, 2, 2), encoded, Column(shape=(2,))
    ),
    "array of strings filled": Case(
        array("string"),
        pa.list_(pa.string()),
        st.none() | lists(st.none() | TEXT, 2, 2),
        lambda row: [or_fill(b"-")(one) for one in row or (None, None)],
        Column(shape=(2,), fill="-"),
    ),
    "padded": Case(
        array("float"),
        pa.list_(pa.float32()),
        lists(FLOAT32, 0, 3),
        lambda row: padded(row, 3, -1.0),
        Column(shape=(3,), pad=-1),
    ),
    "padded filled": Case(
        array("integer"),
        pa.list_(pa.int32()),
        st.none() | lists(st.none() | INT8, 0, 3),
        lambda row: padded([7 if one is None else one for one in row or ()], 3, 9),
        Column(shape=(3,), pad=9, fill=7),
    ),
    "padded strings": Case(
        array("string"),
        pa.list_(pa.string()),
        lists(st.none() | TEXT, 0, 3),
        lambda row: padded([or_fill(b"null")(one) for one in row], 3, b"pad"),
        Column(shape=(3,), pad="pad", fill="null"),
    ),
    "ragged": Case(
        array("double"), pa.list_(pa.float64()), lists(st.floats()), same, Column(ragged=True)
    ),
    "ragged bools": Case(
        array("boolean"), pa.list_(pa.bool_()), lists(st.booleans()), same, Column(ragged=True)
    ),
    "ragged view filled": Case(
        array("long"),
        pa.large_list_view(pa.int64()),
        st.none() | lists(st.none() | INT64),
        lambda row: [3 if one is None else one for one in row or ()],
        Column(ragged=True, fill=3),
    ),
    "ragged strings": Case(
        array("string"), pa.list_(pa.string()), lists(TEXT), encoded, Column(ragged=True)
    ),
    "ragged binary": Case(
        array("binary"),
        pa.list_(pa.large_binary()),
        st.none() | lists(st.none() | st.binary(max_size=300)),
        lambda row: [or_fill(b"f")(one) for one in row or ()],
        Column(ragged=True, fill="f"),
    ),
    "array of arrays": Case(
        array(array("byte")),
        pa.list_(pa.list_(pa.int8())),
        lists(lists(INT8, 2, 2), 3, 3),
        same,
        Column(shape=(3, 2)),
    ),
    "array of arrays filled": Case(
        array(array("byte")),
        pa.list_(pa.list_(pa.int8())),
        st.none() | lists(st.none() | lists(st.none() | INT8, 1, 1), 2, 2),
        lambda row: [
            [(inner or [None])[0] if inner and inner[0] is not None else 4]
            for inner in row or (None, None)
        ],
        Column(shape=(2, 1), fill=4),
    ),
    "array of arrays padded": Case(
        array(array("float")),
        pa.list_(pa.list_(pa.float32())),
        lists(lists(FLOAT32, 0, 2), 0, 3),
        lambda row: [padded(inner, 2, 0.0) for inner in [*row, [], [], []][:3]],
        Column(shape=(3, 2), pad=0),
    ),
    "array of arrays of strings": Case(
        array(array("string")),
        pa.list_(pa.list_(pa.string())),
        lists(lists(TEXT, 0, 2), 0, 2),
        lambda row: [padded(inner, 2, b"") for inner in [*row, [], []][:2]],
        Column(shape=(2, 2), pad=""),
    ),
    "ragged arrays of arrays": Case(
        array(array("integer")),
        pa.list_(pa.large_list(pa.int32())),
        lists(lists(INT8)),
        same,
        Column(ragged=True),
    ),
    "ragged arrays of arrays filled": Case(
        array(array("integer")),
        pa.list_(pa.list_(pa.int32())),
        st.none() | lists(st.none() | lists(st.none() | INT8)),
        lambda row: [[0 if one is None else one for one in inner or ()] for inner in row or ()],
        Column(ragged=True, fill=0),
    ),
    "ragged arrays of pairs": Case(
        array(array("float")),
        pa.list_(pa.list_(pa.float32())),
        lists(lists(FLOAT32, 2, 2)),
        same,
        Column(ragged=True, shape=(None, 2)),
    ),
    "ragged arrays of pairs of strings": Case(
        array(array("string")),
        pa.list_(pa.list_(pa.string())),
        lists(lists(TEXT, 2, 2)),
        encoded,
        Column(ragged=True, shape=(None, 2)),
    ),
    "ragged arrays of arrays of strings": Case(
        array(array("string")),
        pa.list_(pa.list_(pa.string())),
        lists(lists(TEXT)),
        encoded,
        Column(ragged=True),
    ),
}


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=30)
@given(data=st.data())
def test_each_type_comes_out_as_it_went_in(name: str, data: st.DataObject) -> None:
    """Any rows, in a slice of a batch, in any blocks and batches, an empty one among them."""
    case = CASES[name]
    rows = data.draw(st.lists(case.rows, max_size=6), label="rows")
    first = data.draw(st.integers(0, len(rows)), label="first")
    end = data.draw(st.integers(first, len(rows)), label="end")
    block_bytes = data.draw(st.sampled_from([1, 20, 60, 10**6]), label="block_bytes")
    cut = data.draw(st.integers(0, end - first), label="cut")
    batch = pa.record_batch({"x": pa.array(rows, case.arrow)}).slice(first, end - first)
    specs = specs_for({"x": case.kind}, {"x": case.column})
    made = list(encode(batch, specs, block_bytes=block_bytes))
    assert sum(block.rows for block in made) == batch.num_rows
    if not made:
        assert batch.num_rows == 0
        return
    content = [b"".join(block.buffers) for block in made]
    assert [len(one) for one in content] == [block.nbytes for block in made]
    found = [listed(b["x"]) for b in batches_of(content, specs, [cut, 0, end - first - cut])]
    expected = [case.expected(value) for value in batch.column("x").to_pylist()]
    assert repr([row for rows in found for row in rows]) == repr(expected_like(expected, specs[0]))
    assert found[1] == []


def expected_like(expected: list[Any], spec: ColumnSpec) -> list[Any]:
    """Whole numbers as floats where the column holds floats."""
    if not spec.dtype.startswith("float"):
        return expected
    return [expected_like(one, spec) if isinstance(one, list) else float(one) for one in expected]


def many_columns() -> tuple[pa.RecordBatch, tuple[ColumnSpec, ...]]:
    """Fifty rows of some columns that travel differently."""
    columns = {
        "id": ("long", pa.int64(), Column(), list(range(50))),
        "name": ("string", pa.string(), Column(), [f"row {n}" for n in range(50)]),
        "image": (
            array("float"),
            pa.list_(pa.float32()),
            Column(shape=(2, 3)),
            [[n + k / 8 for k in range(6)] for n in range(50)],
        ),
        "tokens": (
            array("integer"),
            pa.list_(pa.int32()),
            Column(ragged=True),
            [list(range(n % 4)) for n in range(50)],
        ),
        "words": (
            array(array("string")),
            pa.list_(pa.list_(pa.string())),
            Column(ragged=True),
            [[["w"] * k for k in range(n % 3)] for n in range(50)],
        ),
    }
    batch = pa.record_batch({name: pa.array(c[3], c[1]) for name, c in columns.items()})
    kinds = {name: column[0] for name, column in columns.items()}
    return batch, specs_for(kinds, {name: column[2] for name, column in columns.items()})


def test_blocks_are_read_shuffled_and_rebatched_by_tf_data(tmp_path: Path) -> None:
    """The whole way in the child's graph; rows stay whole, and the element spec is as announced."""
    batch, specs = many_columns()
    paths = []
    for number, block in enumerate(encode(batch, specs, block_bytes=700)):
        paths.append(str(tmp_path / f"{number}.block"))
        with Path(paths[-1]).open("wb") as file:
            file.writelines(block.buffers)
    assert len(paths) > 3

    def permuted(rows: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        order = tf.random.experimental.stateless_shuffle(tf.range(tf.shape(rows["id"])[0]), (1, 2))
        return {key: tf.gather(value, order) for key, value in rows.items()}

    dataset = tf.data.Dataset.from_tensor_slices(paths)
    dataset = dataset.map(lambda path: blocks.decode(tf.io.read_file(path), specs))
    dataset = dataset.rebatch(20).map(permuted).rebatch([7, 0, 13, 9, 21])
    dataset = dataset.map(lambda rows: blocks.finish(rows, specs))
    assert dataset.element_spec == blocks.element_spec(specs)
    found = [{name: listed(tensor) for name, tensor in one.items()} for one in dataset]
    assert [len(one["id"]) for one in found] == [7, 0, 13, 9, 21]
    ids = [number for one in found for number in one["id"]]
    assert sorted(ids) == list(range(50)) != ids
    sent = batch.to_pydict()
    for name in ("name", "tokens", "words"):
        rows = [row for one in found for row in one[name]]
        assert rows == [encoded(sent[name][number]) for number in ids]
    rows = [np.reshape(row, 6).tolist() for one in found for row in one["image"]]
    assert rows == [sent["image"][number] for number in ids]


def test_element_spec_says_shape_dtype_and_raggedness() -> None:
    """As a train function will see it."""
    _, specs = many_columns()
    assert blocks.element_spec(specs) == {
        "id": tf.TensorSpec([None], tf.int64),
        "name": tf.TensorSpec([None], tf.string),
        "image": tf.TensorSpec([None, 2, 3], tf.float32),
        "tokens": tf.RaggedTensorSpec([None, None], tf.int32, 1, tf.int64),
        "words": tf.RaggedTensorSpec([None, None, None], tf.string, 2, tf.int64),
    }


def test_a_null_struct_is_a_null_in_its_fields() -> None:
    """At any depth, whatever Arrow has below it, in a slice too."""
    kind = pa.struct({"a": pa.int64(), "b.c": pa.struct({"d": pa.list_(pa.string())})})
    rows = [{"a": 0}, {"a": 1, "b.c": {"d": ["x"]}}, None, {"a": None, "b.c": None}]
    batch = pa.record_batch({"s": pa.array(rows, kind)}).slice(1)
    inner = {"type": "struct", "fields": [{"name": "d", "type": array("string")}]}
    struct = [{"name": "a", "type": "long"}, {"name": "b.c", "type": inner}]
    specs = specs_for(
        {"s": {"type": "struct", "fields": struct}},
        {"s.a": Column(fill=-1), "s.b.c.d": Column(ragged=True, fill="")},
    )
    [block] = encode(batch, specs, block_bytes=1000)
    [found] = batches_of([b"".join(block.buffers)], specs, [3])
    assert listed(found["s.a"]) == [1, -1, -1]
    assert listed(found["s.b.c.d"]) == [[b"x"], [], []]


def test_what_is_below_a_null_does_not_count() -> None:
    """Arrow may keep anything in the place of a null: numbers too large, arrays too long."""
    hidden = pa.array([300, 1], pa.int64()).buffers()[1]
    valid = pa.py_buffer(bytes([0b10]))
    number = pa.Array.from_buffers(pa.int64(), 2, [valid, hidden])
    row = pa.ListArray.from_arrays(
        [0, 3, 5], pa.array([1, 2, 3, 4, 5]), mask=pa.array([True, False])
    )
    batch = pa.record_batch({"x": number, "y": row})
    declared = {"x": Column(dtype="int8", fill=0), "y": Column(shape=(2,), fill=0)}
    specs = specs_for({"x": "long", "y": array("long")}, declared)
    [block] = encode(batch, specs, block_bytes=1000)
    [found] = batches_of([b"".join(block.buffers)], specs, [2])
    assert listed(found["x"]) == [0, 1]
    assert listed(found["y"]) == [[0, 0], [4, 5]]


def test_arrays_without_nulls_are_not_copied() -> None:
    """Their part of a block is Arrow's own memory."""
    values = pa.array(np.arange(60, dtype=np.float32))
    rows = pa.ListArray.from_arrays(np.arange(0, 61, 6, dtype=np.int32), values)
    batch = pa.record_batch({"x": rows}).slice(2, 6)
    specs = with_lengths(specs_for({"x": array("float")}, {}), {"x": 6})
    blocks_made = list(encode(batch, specs, block_bytes=72))
    assert [block.rows for block in blocks_made] == [3, 3]
    address = values.buffers()[1].address
    for number, block in enumerate(blocks_made):
        found = np.frombuffer(next(b for b in block.buffers if b.nbytes == 72), np.float32)
        assert found.__array_interface__["data"][0] == address + 4 * 6 * (2 + 3 * number)


def test_blocks_of_a_batch_are_of_one_size() -> None:
    """As few as there can be, and none of them a small rest; no block is without rows."""
    specs = specs_for({"x": "long"}, {})
    batch = pa.record_batch({"x": pa.array(range(1000))})
    rows = [block.rows for block in encode(batch, specs, block_bytes=2700)]
    assert rows == [333, 333, 334]
    texts = ["a", "b", "c" * 900, "d", "e"]
    specs = specs_for({"x": "string"}, {})
    for block_bytes in (1, 100, 450):
        made = list(encode(pa.record_batch({"x": pa.array(texts)}), specs, block_bytes=block_bytes))
        assert sum(block.rows for block in made) == 5
        assert all(block.rows for block in made)


def test_columns_are_found_by_name() -> None:
    """In whatever order they come, and among others."""
    specs = specs_for({"x": "long", "y": "long"}, {})
    batch = pa.record_batch({"z": pa.array([0]), "y": pa.array([2]), "x": pa.array([1])})
    [block] = encode(batch, specs, block_bytes=100)
    [found] = batches_of([b"".join(block.buffers)], specs, [1])
    assert {name: listed(rows) for name, rows in found.items()} == {"x": [1], "y": [2]}


LONGS = pa.list_(pa.int64())

REFUSED = {
    "null": ("long", pa.array([1, None]), Column(), "Column 'x' (long) is null, in row 1 of a"),
    "null string": ("string", pa.array([None, "a"]), Column(), "Column(fill='')}, or remove such"),
    "null array": (
        array("long"),
        pa.array([[1], None], LONGS),
        Column(shape=(1,)),
        "is null, in row 1",
    ),
    "null in an array": (
        array("long"),
        pa.array([[1], [], [2, None]], LONGS),
        Column(ragged=True),
        (
            "Column 'x' (array<long>) has a null in its array, in row 2 of a batch. Declare "
            "columns={'x': Column(fill=0)}, or remove such rows with df.na.drop."
        ),
    ),
    "null inner array": (
        array(array("long")),
        pa.array([[[1]], [[1], None]], pa.list_(LONGS)),
        Column(ragged=True),
        "has a null in its array, in row 1",
    ),
    "short": (
        array("float"),
        pa.array([[1.0, 2.0], [1.0]], pa.list_(pa.float32())),
        Column(shape=(2, 1)),
        (
            "Column 'x' (array<float>) has an array of 1, and shape (2, 1) takes 2, in row 1 of a "
            "batch. Declare columns={'x': Column(ragged=True) or Column(pad=0, shape=...)}, or make"
        ),
    ),
    "long strings": (
        array("string"),
        pa.array([["a", "b"]]),
        Column(shape=(1,)),
        "Column(pad='', shape=...)",
    ),
    "longer than padded": (
        array("long"),
        pa.array([[], [1, 2, 3]], LONGS),
        Column(shape=(2,), pad=-1),
        (
            "has an array of 3, and shape (2,) takes 2, in row 1 of a batch. Declare "
            "columns={'x': Column(pad=-1, shape=...) with a larger shape}"
        ),
    ),
    "inner too short": (
        array(array("long")),
        pa.array([[], [[1, 2], [3]]], pa.list_(LONGS)),
        Column(shape=(None, 2), ragged=True),
        (
            "has an array of 1, and shape (None, 2) takes 2, in row 1 of a batch. Declare "
            "columns={'x': Column(ragged=True) without a shape}"
        ),
    ),
    "outer too long": (
        array(array("long")),
        pa.array([[[1]], [[1], [2]]], pa.list_(LONGS)),
        Column(shape=(1, 1)),
        "has an array of 2, and shape (1, 1) takes 1, in row 1",
    ),
    "too large": (
        "long",
        pa.array([127, 128]),
        Column(dtype="int8"),
        (
            "Column 'x' (long) holds 128, which int8 cannot hold, in row 1 of a batch. Declare "
            "columns={'x': Column(dtype=...) with a wider dtype}, or correct it in Spark."
        ),
    ),
    "negative": (
        array("long"),
        pa.array([[0], [1, -1]], LONGS),
        Column(dtype="uint8", ragged=True),
        "holds -1, which uint8 cannot hold, in row 1",
    ),
    "infinite": (
        "double",
        pa.array([math.inf, 1e39]),
        Column(dtype="float32"),
        "holds 1e+39, which",
    ),
    "infinite half": ("long", pa.array([0, 70000]), Column(dtype="float16"), "holds 70000, which"),
    "decimal too large": (
        "decimal(38,0)",
        pa.array([Decimal(1), Decimal(10**37)], pa.decimal128(38, 0)),
        Column(dtype="float16"),
        "holds 1e+37, which float16 cannot hold, in row 1",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_row_that_does_not_fit_is_named(name: str) -> None:
    """With the column, the row, what was found and what to do; no block is made before."""
    kind, column, declared, text = REFUSED[name]
    specs = specs_for({"x": kind}, {"x": declared})
    with pytest.raises(DataError) as refused:
        next(encode(pa.record_batch({"x": column}), specs, block_bytes=1))
    assert text in str(refused.value)


def test_numbers_need_no_pandas() -> None:
    """Which pyarrow imports for some of its functions: 28 MB in each Python worker that scores."""
    program = """
        import sys
        import numpy as np
        import pyarrow as pa
        from spark_strategy.data.answers import column
        from spark_strategy.data.blocks import encode
        from spark_strategy.data.columns import Column, specs_of
        field = {"name": "x", "nullable": True, "metadata": {}, "type": {
            "type": "array", "elementType": "float", "containsNull": True}}
        specs = specs_of({"type": "struct", "fields": [field]}, {"x": Column(shape=(3,))})
        batch = pa.RecordBatch.from_arrays([column(np.ones((4, 3), "f4"), (3,))], ["x"])
        (block,) = encode(batch, specs, block_bytes=1000)
        assert block.rows == 4
        assert "pandas" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True)


@pytest.mark.parametrize(
    ("unit", "wrong"), [("ns", 1_700_000_000_123_456_789), ("ms", 2**60), ("s", -(2**50))]
)
def test_a_time_that_microseconds_cannot_hold_is_refused(unit: str, wrong: int) -> None:
    """Whole microseconds of any unit are taken; nothing is rounded or wraps around."""
    (spec,) = specs_for({"when": "timestamp"}, {"when": Column(fill=0)})
    scale = {"ns": 1000, "ms": 1 / 1000, "s": 1 / 1_000_000}[unit]
    good = [int(scale * micros) for micros in (3_000_000, -7_000_000)]
    times = pa.array([*good, None], pa.int64()).cast(pa.timestamp(unit, "UTC"))
    batch = pa.RecordBatch.from_arrays([times], ["when"])
    (block,) = encode(batch, [spec], block_bytes=1 << 20)
    decoded = blocks.decode(tf.constant(b"".join(block.buffers)), [spec])
    assert decoded["when"].numpy().tolist() == [3_000_000, -7_000_000, 0]
    times = pa.array([*good, wrong], pa.int64()).cast(pa.timestamp(unit, "UTC"))
    batch = pa.RecordBatch.from_arrays([times], ["when"])
    with pytest.raises(DataError, match=f"'when'.*{wrong} {unit} since 1970.*in row 2") as raised:
        list(encode(batch, [spec], block_bytes=1 << 20))
    assert "Write it in microseconds." in str(raised.value)
    assert raised.value.rows == (2,)
