"""The codec in C (codec.c). Importing it fails where the extension was not compiled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from spark_strategy.tfrecord._codec import ffi, lib
from spark_strategy.tfrecord.wire import (
    FOOTER_BYTES,
    HEADER_BYTES,
    RECORD_LIMIT_BYTES,
    Array,
    Column,
    Data,
    Kind,
    Measure,
    Message,
    Names,
    Scan,
    Stop,
)

# Most bytes of a tag with a length (codec.c, HEAD_MOST), and of a varint.
_HEAD: Final = 11
_VARINT: Final = 10

lib.tfr_init()


def _at(array: Array | Data | None, ctype: str) -> Any:
    """The memory of a contiguous array, as C sees it."""
    return ffi.NULL if array is None else ffi.from_buffer(ctype + "[]", array)


def masked_crc(data: Data) -> int:
    """See ``wire.Codec``."""
    crc: int = lib.tfr_crc32c(_at(data, "uint8_t"), len(data))
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def scan(data: Data, *, most: int, record_limit: int = RECORD_LIMIT_BYTES) -> Scan:
    """See ``wire.Codec``."""
    most = min(most, len(data) // (HEADER_BYTES + FOOTER_BYTES) + 1)
    records = np.empty((most, 2), np.int64)
    problems = np.zeros(most, np.uint8)
    used, stop = ffi.new("int64_t *"), ffi.new("int32_t *")
    found = lib.tfr_scan(
        _at(data, "uint8_t"),
        len(data),
        record_limit,
        most,
        _at(records, "span"),
        _at(problems, "uint8_t"),
        used,
        stop,
    )
    return Scan(records[:found], problems[:found], used[0], Stop(stop[0]))


def encode(
    columns: Sequence[Column], lists: Sequence[Column], *, rows: int, message: Message
) -> memoryview:
    """See ``wire.Codec``."""
    every = [*columns, *lists]
    alive: list[Any] = []
    described = ffi.new("column[]", max(len(every), 1))
    for entry, column in zip(described, every, strict=False):
        _describe(entry, column, alive)
    capacity = sum(_most_bytes(column, rows) for column in every)
    capacity += rows * (HEADER_BYTES + FOOTER_BYTES + 4 * _HEAD)
    # Written from its end; what stays unused in front is never touched, so it costs no memory.
    out = np.empty(capacity, np.uint8)
    start = lib.tfr_encode(
        described, len(columns), len(lists), rows, message, _at(out, "uint8_t"), capacity
    )
    assert start >= 0, "the bound on a record's size was too low"
    return memoryview(out.data)[start:]


def _describe(entry: Any, column: Column, alive: list[Any]) -> None:
    name = column.name.encode()
    values = {Kind.BYTES: "uint8_t", Kind.FLOAT: "float", Kind.INT64: "int64_t"}[column.kind]
    memory = {
        "name": _at(name, "char"),
        "valid": _at(column.valid, "uint8_t"),
        "outer": _at(column.outer, "int64_t"),
        "inner": _at(column.inner, "int64_t"),
        "values": _at(column.values, values),
        "ends": _at(column.ends, "int64_t"),
    }
    alive.append(memory)
    entry.kind, entry.depth, entry.name_size = column.kind, column.depth, len(name)
    for field, address in memory.items():
        setattr(entry, field, address)


def _most_bytes(column: Column, rows: int) -> int:
    values = len(column.values)
    size = {Kind.BYTES: 1, Kind.FLOAT: 4, Kind.INT64: _VARINT}[column.kind] * values
    if column.ends is not None:
        size += _HEAD * (len(column.ends) - 1)
    if column.inner is not None:
        size += 4 * _HEAD * (len(column.inner) - 1)
    return size + rows * (len(column.name.encode()) + 8 * _HEAD)


def index(
    data: Data, records: Array, names: Names, problems: Array, *, known_only: bool
) -> tuple[Array, int]:
    """See ``wire.Codec``."""
    texts = [name.encode() for name in (*names.context, *(names.lists or ()))]
    ends = np.cumsum([0, *map(len, texts)], dtype=np.int64)
    table_size = 1 << (2 * len(texts) + 1).bit_length()
    table = np.empty(2 * table_size, np.int32)
    slots = np.empty((len(texts), len(records), 2), np.int64)
    done = lib.tfr_index(
        _at(data, "uint8_t"),
        _at(records, "span"),
        len(records),
        _at(b"".join(texts), "uint8_t"),
        _at(ends, "int64_t"),
        len(names.context),
        -1 if names.lists is None else len(names.lists),
        _at(table, "int32_t"),
        table_size,
        known_only,
        _at(slots, "span"),
        _at(problems, "uint8_t"),
    )
    return slots, done


def measure(data: Data, features: Array, problems: Array) -> Measure:
    """See ``wire.Codec``."""
    rows = len(features)
    kinds = np.empty(rows, np.uint8)
    counts, sizes = np.empty(rows, np.int64), np.empty(rows, np.int64)
    lib.tfr_measure(
        _at(data, "uint8_t"),
        _at(features, "span"),
        rows,
        _at(kinds, "uint8_t"),
        _at(counts, "int64_t"),
        _at(sizes, "int64_t"),
        _at(problems, "uint8_t"),
    )
    return Measure(kinds, counts, sizes)


def split(data: Data, lists: Array, problems: Array) -> tuple[Array, Array]:
    """See ``wire.Codec``."""
    rows = len(lists)
    counts = np.empty(rows, np.int64)
    arguments = _at(data, "uint8_t"), _at(lists, "span"), rows, _at(counts, "int64_t")
    marks = _at(problems, "uint8_t")
    total = lib.tfr_split(*arguments, ffi.NULL, 0, marks)
    # One more than needed: a list that turns out malformed at its end is taken back.
    most = total + int((lists[:, 1][lists[:, 0] >= 0] // 2).max(initial=0))
    features = np.empty((most, 2), np.int64)
    found = lib.tfr_split(*arguments, _at(features, "span"), most, marks)
    assert found == total
    return counts, features[:total]


def int64s(data: Data, features: Array, total: int) -> Array:
    """See ``wire.Codec``."""
    out = np.empty(total, np.int64)
    found = lib.tfr_int64s(
        _at(data, "uint8_t"), _at(features, "span"), len(features), _at(out, "int64_t"), total
    )
    assert found == total
    return out


def floats(data: Data, features: Array, total: int) -> Array:
    """See ``wire.Codec``."""
    out = np.empty(total, np.float32)
    found = lib.tfr_floats(
        _at(data, "uint8_t"), _at(features, "span"), len(features), _at(out, "float"), total
    )
    assert found == total
    return out


def strings(data: Data, features: Array, total: int, size: int) -> tuple[Array, Array]:
    """See ``wire.Codec``."""
    ends = np.empty(total + 1, np.int64)
    out = np.empty(size, np.uint8)
    found = lib.tfr_strings(
        _at(data, "uint8_t"),
        _at(features, "span"),
        len(features),
        _at(ends, "int64_t"),
        total,
        _at(out, "uint8_t"),
        size,
    )
    assert found == total
    return ends, out
