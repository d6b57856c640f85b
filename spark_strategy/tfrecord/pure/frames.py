"""Framing in Python."""

from __future__ import annotations

import struct
from typing import Final

import numpy as np

from spark_strategy.tfrecord.wire import (
    FOOTER_BYTES,
    HEADER_BYTES,
    RECORD_LIMIT_BYTES,
    Data,
    Problem,
    Scan,
    Stop,
)


def _crc_table() -> tuple[int, ...]:
    table = []
    for crc in range(256):
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)  # noqa: PLW2901 - the algorithm
        table.append(crc)
    return tuple(table)


_CRC: Final = _crc_table()


def masked_crc(data: Data) -> int:
    """See ``wire.Codec``."""
    crc, table = 0xFFFFFFFF, _CRC
    for byte in bytes(data):
        crc = (crc >> 8) ^ table[(crc ^ byte) & 255]
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def scan(data: Data, *, most: int, record_limit: int = RECORD_LIMIT_BYTES) -> Scan:
    """See ``wire.Codec``."""
    records: list[tuple[int, int]] = []
    problems: list[int] = []
    at, stop = 0, Stop.END
    while len(records) < most and at < len(data) and stop is Stop.END:
        stop, size = _header(data, at, record_limit)
        if stop is Stop.END:
            start = at + HEADER_BYTES
            at = start + size + FOOTER_BYTES
            (stored,) = struct.unpack_from("<I", data, start + size)
            fits = masked_crc(data[start : start + size]) == stored
            records.append((start, size))
            problems.append(Problem.FINE if fits else Problem.DATA_CRC)
    spans = np.array(records, np.int64).reshape(-1, 2)
    return Scan(spans, np.array(problems, np.uint8), at, stop)


def _header(data: Data, at: int, record_limit: int) -> tuple[Stop, int]:
    """Whether a whole record begins here, and its size."""
    if len(data) - at < HEADER_BYTES:
        return Stop.TRUNCATED, 0
    size, stored = struct.unpack_from("<QI", data, at)
    if masked_crc(data[at : at + 8]) != stored:
        return Stop.LENGTH_CRC, 0
    if size > record_limit:
        return Stop.TOO_LONG, 0
    if len(data) - at - HEADER_BYTES - FOOTER_BYTES < size:
        return Stop.TRUNCATED, 0
    return Stop.END, size
