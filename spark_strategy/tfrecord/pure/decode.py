"""Messages to columns, in Python."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from spark_strategy.tfrecord.wire import Array, Data, Kind, Measure, Names, Problem


class _MalformedError(Exception):
    """Bytes that are no message."""


def _read_varint(data: Data, at: int, end: int) -> tuple[int, int]:
    """A varint, cut to 64 bits, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at == end:
            break
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & 0xFFFFFFFFFFFFFFFF, at
    raise _MalformedError


def _fields(data: Data, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Number, wire type, start and end of each field of a message."""
    while at < end:
        tag, at = _read_varint(data, at, end)
        number, wire, start = tag >> 3, tag & 7, at
        if tag >> 32 or number == 0:
            raise _MalformedError
        if wire == 0:
            _, at = _read_varint(data, at, end)
        elif wire == 2:
            size, start = _read_varint(data, at, end)
            at = start + size
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        else:
            raise _MalformedError
        if at > end:
            raise _MalformedError
        yield number, wire, start, at


def _map(data: Data, at: int, end: int) -> Iterator[tuple[bytes, tuple[int, int]]]:
    """Key and span of the value of each entry of a map."""
    for number, wire, start, stop in _fields(data, at, end):
        if (number, wire) != (1, 2):
            continue
        key, value = b"", (stop, 0)
        for part, part_wire, first, last in _fields(data, start, stop):
            if (part, part_wire) == (1, 2):
                key = bytes(data[first:last])
            elif (part, part_wire) == (2, 2):
                value = (first, last - first)
        yield key, value


def feature_names(data: Data, record: Array, *, is_sequence: bool) -> tuple[list[str], list[str]]:
    """The names in Features and in FeatureLists of one well-formed record.

    Raises:
        UnicodeDecodeError: a name is no UTF-8.
    """
    found: tuple[list[str], list[str]] = ([], [])
    start, size = (int(number) for number in record)
    for number, wire, first, last in _fields(data, start, start + size):
        if wire == 2 and (number == 1 or (number == 2 and is_sequence)):
            found[number - 1].extend(key.decode() for key, _ in _map(data, first, last))
    return found


def index(
    data: Data, records: Array, names: Names, problems: Array, *, known_only: bool
) -> tuple[Array, int]:
    """See ``wire.Codec``."""
    maps = [{name.encode(): at for at, name in enumerate(names.context)}]
    if names.lists is not None:
        first = len(names.context)
        maps.append({name.encode(): first + at for at, name in enumerate(names.lists)})
    slots = np.zeros((sum(map(len, maps)), len(records), 2), np.int64)
    slots[:, :, 0] = -1
    for row, (start, size) in enumerate(records.tolist()):
        if problems[row]:
            continue
        try:
            known = _index_record(data, start, start + size, maps, slots[:, row])
        except _MalformedError:
            problems[row] = Problem.MALFORMED
            slots[:, row, 0] = -1
            continue
        if known_only and not known:
            return slots, row
    return slots, len(records)


def _index_record(
    data: Data, start: int, end: int, maps: Sequence[dict[bytes, int]], slots: Array
) -> bool:
    """Fills one record's slots; whether all of its names are known."""
    known = True
    for number, wire, first, last in _fields(data, start, end):
        if wire != 2 or number > len(maps):
            continue
        for key, value in _map(data, first, last):
            column = maps[number - 1].get(key)
            if column is None:
                known = False
            else:
                slots[column] = value
    return known


def _read_feature(data: Data, start: int, end: int) -> tuple[Kind, list[tuple[int, int]]]:
    """Kind of a Feature, and the spans (start, end) of its values' fields."""
    kind, chunks = Kind.NONE, list[tuple[int, int]]()
    for number, wire, first, last in _fields(data, start, end):
        if wire != 2 or number > Kind.INT64:
            continue
        if number != kind:  # a oneof: the last one counts
            kind, chunks = Kind(number), []
        other = {Kind.FLOAT: 5, Kind.INT64: 0}.get(kind, 2)
        for part, part_wire, value, value_end in _fields(data, first, last):
            if part == 1 and part_wire in (2, other):
                if kind is Kind.FLOAT and (value_end - value) % 4:
                    raise _MalformedError
                chunks.append((value, value_end))
    return kind, chunks


def _varints(data: Data, chunks: list[tuple[int, int]]) -> Iterator[int]:
    for at, end in chunks:
        while at < end:
            value, at = _read_varint(data, at, end)  # noqa: PLW2901 - the place in the chunk
            yield value


def measure(data: Data, features: Array, problems: Array) -> Measure:
    """See ``wire.Codec``."""
    rows = len(features)
    result = Measure(np.zeros(rows, np.uint8), np.zeros(rows, np.int64), np.zeros(rows, np.int64))
    for row, (start, size) in enumerate(features.tolist()):
        if start < 0:
            continue
        try:
            kind, chunks = _read_feature(data, start, start + size)
            if kind is Kind.INT64:
                count = sum(1 for _ in _varints(data, chunks))
            elif kind is Kind.FLOAT:
                count = sum(end - at for at, end in chunks) // 4
            else:
                count = len(chunks)
        except _MalformedError:
            problems[row] = Problem.MALFORMED
            continue
        result.kinds[row], result.counts[row] = kind, count
        if kind is Kind.BYTES:
            result.sizes[row] = sum(end - at for at, end in chunks)
    return result


def split(data: Data, lists: Array, problems: Array) -> tuple[Array, Array]:
    """See ``wire.Codec``."""
    counts = np.zeros(len(lists), np.int64)
    features: list[tuple[int, int]] = []
    for row, (start, size) in enumerate(lists.tolist()):
        if start < 0:
            continue
        try:
            found = [
                (first, last - first)
                for number, wire, first, last in _fields(data, start, start + size)
                if (number, wire) == (1, 2)
            ]
        except _MalformedError:
            problems[row] = Problem.MALFORMED
            continue
        counts[row] = len(found)
        features.extend(found)
    return counts, np.array(features, np.int64).reshape(-1, 2)


def _present(data: Data, features: Array) -> Iterator[tuple[Kind, list[tuple[int, int]]]]:
    for start, size in features.tolist():
        if start >= 0:
            yield _read_feature(data, start, start + size)


def int64s(data: Data, features: Array, total: int) -> Array:
    """See ``wire.Codec``."""
    found = _present(data, features)
    values = (v for kind, spans in found if kind is Kind.INT64 for v in _varints(data, spans))
    return np.fromiter(values, np.uint64, total).view(np.int64)


def floats(data: Data, features: Array, total: int) -> Array:
    """See ``wire.Codec``."""
    parts = [np.empty(0, np.float32)]
    for kind, spans in _present(data, features):
        if kind is Kind.FLOAT:
            parts.extend(np.frombuffer(data[at:end], "<f4") for at, end in spans)
        elif kind is Kind.INT64:
            whole = np.fromiter(_varints(data, spans), np.uint64).view(np.int64)
            parts.append(whole.astype(np.float32))
    out = np.concatenate(parts)
    assert len(out) == total
    return out


def strings(data: Data, features: Array, total: int, size: int) -> tuple[Array, Array]:
    """See ``wire.Codec``."""
    found = _present(data, features)
    values = [
        bytes(data[at:end]) for kind, spans in found if kind is Kind.BYTES for at, end in spans
    ]
    ends = np.cumsum([0, *map(len, values)], dtype=np.int64)
    assert len(values) == total
    assert int(ends[-1]) == size
    return ends, np.frombuffer(b"".join(values), np.uint8)
