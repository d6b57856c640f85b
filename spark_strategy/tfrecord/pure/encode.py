"""Columns to framed records, in Python."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import pairwise

from spark_strategy.tfrecord.pure.frames import masked_crc
from spark_strategy.tfrecord.wire import Column, Kind, Message


def _varint(value: int) -> bytes:
    value &= 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(number: int, payload: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(payload)) + payload


def encode(
    columns: Sequence[Column], lists: Sequence[Column], *, rows: int, message: Message
) -> memoryview:
    """See ``wire.Codec``."""
    out = bytearray()
    for row in range(rows):
        if message is Message.RAW:
            body = _values(columns[0], row, row + 1)[0]
        else:
            body = _field(1, _entries(columns, row))
            if message is Message.SEQUENCE:
                body += _field(2, _entries(lists, row))
        length = struct.pack("<Q", len(body))
        out += length + struct.pack("<I", masked_crc(length))
        out += body + struct.pack("<I", masked_crc(body))
    return memoryview(out)


def _entries(columns: Sequence[Column], row: int) -> bytes:
    out = bytearray()
    for column in columns:
        if column.valid is None or column.valid[row]:
            value = _field(2, _row(column, row))
            out += _field(1, _field(1, column.name.encode()) + value)
    return bytes(out)


def _row(column: Column, row: int) -> bytes:
    if column.outer is None:
        return _feature(column, row, row + 1)
    first, last = (int(end) for end in column.outer[row : row + 2])
    if column.inner is None:
        return _feature(column, first, last)
    inner = column.inner[first : last + 1].tolist()
    return b"".join(_field(1, _feature(column, *ends)) for ends in pairwise(inner))


def _feature(column: Column, first: int, last: int) -> bytes:
    values = _values(column, first, last)
    if column.kind is Kind.BYTES:
        packed = b"".join(_field(1, value) for value in values)
    else:
        packed = _field(1, b"".join(values)) if values else b""
    return _field(column.kind, packed)


def _values(column: Column, first: int, last: int) -> list[bytes]:
    if column.ends is not None:
        ends = column.ends[first : last + 1].tolist()
        return [column.values[start:end].tobytes() for start, end in pairwise(ends)]
    values = column.values[first:last]
    if column.kind is Kind.FLOAT:
        return [value.tobytes() for value in values]
    return [_varint(value) for value in values.tolist()]
