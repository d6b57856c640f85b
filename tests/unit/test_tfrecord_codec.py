"""The TFRecord codecs: the one in C and the one in Python agree, on sense and on nonsense."""

from __future__ import annotations

import importlib
import shutil
from itertools import accumulate
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_strategy.tfrecord import pure
from spark_strategy.tfrecord.wire import Column, Data, Kind, Message, Names, Stop

NAMES = Names(["a", "b", "ä"], ["l", "m"])

texts = st.binary(max_size=20)
rows_of = {
    Kind.INT64: st.integers(-(2**63), 2**63 - 1),
    Kind.FLOAT: st.floats(width=32),
    Kind.BYTES: texts,
}


def native() -> ModuleType:
    """The codec in C; the tests of a machine without a compiler do without."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    return importlib.import_module("spark_strategy.tfrecord.native")


def column(name: str, kind: Kind, depth: int, rows: list[list[list[object]]]) -> Column:
    """A column from a list of lists of values per row."""
    inner = [values for row in rows for values in row]
    flat = [value for values in inner for value in values]
    starts = {
        "outer": np.array([0, *accumulate(map(len, rows if depth == 2 else inner))], np.int64),
        "inner": np.array([0, *accumulate(map(len, inner))], np.int64),
    }
    if depth < 2:
        del starts["inner"]
    if depth == 0:
        del starts["outer"]
    if kind is Kind.BYTES:
        ends = np.array([0, *accumulate(map(len, flat))], np.int64)
        return Column(name, kind, depth, np.frombuffer(b"".join(flat), np.uint8), ends, **starts)
    dtype = np.int64 if kind is Kind.INT64 else np.float32
    return Column(name, kind, depth, np.array(flat, dtype), **starts)


@st.composite
def columns(draw: st.DrawFn, name: str, depth: int, rows: int) -> Column:
    """A column of any kind."""
    kind = draw(st.sampled_from(list(rows_of)))
    count = st.just(1) if depth == 0 else st.integers(0, 3)
    lists = st.just(1) if depth < 2 else st.integers(0, 3)
    values = [
        [[draw(rows_of[kind]) for _ in range(draw(count))] for _ in range(draw(lists))]
        for _ in range(rows)
    ]
    return column(name, kind, depth, values)


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """A file of SequenceExamples."""
    rows = draw(st.integers(0, 4))
    context = [draw(columns(name, draw(st.integers(0, 1)), rows)) for name in ("a", "b")]
    lists = [draw(columns("l", 2, rows))]
    return bytes(pure.encode(context, lists, rows=rows, message=Message.SEQUENCE))


def decoded(codec: ModuleType, data: Data, *, known_only: bool = False) -> list[object]:
    """Everything that a codec says about the records of some data."""
    found = codec.scan(data, most=100, record_limit=1 << 20)
    problems = found.problems.copy()
    slots, done = codec.index(data, found.records, NAMES, problems, known_only=known_only)
    said: list[object] = [found.records.tolist(), found.used, found.stop, done]
    if done < len(found.records):
        return said
    features = [slots[0], slots[1], slots[2]]
    for lists in slots[3:]:
        counts, inner = codec.split(data, lists, problems)
        said.append(counts.tolist())
        features.append(inner)
    for spans in features:
        marks = np.zeros(len(spans), np.uint8)
        sizes = codec.measure(data, spans, marks)
        said += [marks.tolist(), *(part.tolist() for part in (sizes.kinds, sizes.counts))]
        spans[marks > 0, 0] = -1
        for kind in (Kind.BYTES, Kind.FLOAT, Kind.INT64):
            total = int(sizes.counts[sizes.kinds == kind].sum())
            if kind is Kind.BYTES:
                ends, text = codec.strings(data, spans, total, int(sizes.sizes.sum()))
                said += [ends.tolist(), text.tobytes()]
            elif kind is Kind.INT64:
                said.append(codec.int64s(data, spans, total).tolist())
            else:
                both = total + int(sizes.counts[sizes.kinds == Kind.INT64].sum())
                said.append(codec.floats(data, spans, both).tobytes())
    return [*said, problems.tolist()]


def test_crc_is_castagnoli() -> None:
    """The check value of CRC-32C, masked as TensorFlow does, at all lengths around a word."""
    crc = 0xE3069283
    masked = (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
    assert pure.masked_crc(b"123456789") == masked
    for size in range(40):
        assert native().masked_crc(bytes(range(size))) == pure.masked_crc(bytes(range(size)))


@settings(max_examples=100)
@given(st.data())
def test_both_codecs_write_the_same_bytes(data: st.DataObject) -> None:
    """Any kind, depth and number of values, nulls included."""
    rows = data.draw(st.integers(0, 4))
    context = [data.draw(columns(name, depth, rows)) for name, depth in (("a", 0), ("b", 1))]
    lists = [data.draw(columns("l", 2, rows))]
    for message, second in ((Message.EXAMPLE, []), (Message.SEQUENCE, lists)):
        ours = native().encode(context, second, rows=rows, message=message)
        assert bytes(ours) == bytes(pure.encode(context, second, rows=rows, message=message))


@settings(max_examples=100)
@given(files())
def test_both_codecs_read_the_same_values(data: bytes) -> None:
    """And no record of a whole file has a problem."""
    said = decoded(native(), data)
    assert said == decoded(pure, data)
    assert not any(said[-1])


@settings(max_examples=300)
@given(files(), st.data())
def test_damaged_messages_are_read_the_same(data: bytes, draw: st.DataObject) -> None:
    """Whatever bytes a record with a right checksum holds, both say the same, and neither fails."""
    records = pure.scan(data, most=100).records.tolist()
    bodies = [bytearray(data[start : start + size]) for start, size in records]
    for body in bodies:
        for _ in range(draw.draw(st.integers(1, 4)) if body else 0):
            at = draw.draw(st.integers(0, len(body) - 1))
            change = draw.draw(st.one_of(st.binary(max_size=3), st.just(b"\xff" * 10)))
            body[at : at + draw.draw(st.integers(0, 3))] = change
            if not body:
                break
    damaged = framed(bodies)
    for known_only in (False, True):
        said = decoded(native(), damaged, known_only=known_only)
        assert said == decoded(pure, damaged, known_only=known_only)


@settings(max_examples=300)
@given(st.lists(st.binary(max_size=60), max_size=4))
def test_any_bytes_as_messages_are_read_the_same(bodies: list[bytes]) -> None:
    """As above, for bytes that were never a message."""
    assert decoded(native(), framed(bodies)) == decoded(pure, framed(bodies))


@settings(max_examples=200)
@given(st.binary(max_size=100), files(), st.integers(0, 200))
def test_any_bytes_as_a_file_are_scanned_the_same(junk: bytes, data: bytes, at: int) -> None:
    """Junk anywhere in a file ends or marks records; nothing beyond its end is read."""
    damaged = data[:at] + junk + data[at + 1 :]
    assert decoded(native(), damaged) == decoded(pure, damaged)


def test_a_length_beyond_the_data_allocates_nothing() -> None:
    """A record that says 2^62 bytes, with a right checksum of that, is refused as too long."""
    length = (2**62).to_bytes(8, "little")
    data = length + pure.masked_crc(length).to_bytes(4, "little") + b"x" * 20
    for codec in (native(), pure):
        found = codec.scan(data, most=2**40)
        assert found.stop is Stop.TOO_LONG
        assert (found.used, len(found.records)) == (0, 0)


def framed(bodies: list[bytearray] | list[bytes]) -> bytes:
    """Records with right checksums around any bytes."""
    if not bodies:
        return b""
    raw = column("", Kind.BYTES, 0, [[[bytes(body)]] for body in bodies])
    return bytes(pure.encode([raw], [], rows=len(bodies), message=Message.RAW))
