"""Records to Arrow arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from spark_strategy.tfrecord.arrays import BadValuesError, Layout, arrow_array
from spark_strategy.tfrecord.codec import codec
from spark_strategy.tfrecord.features import Feature
from spark_strategy.tfrecord.wire import Array, Data, Kind, Measure, Message, Names, Problem, Scan

_PROBLEMS: Final = {
    Problem.DATA_CRC: "its bytes do not fit their checksum",
    Problem.MALFORMED: "its bytes are no {message}",
}
_MESSAGES: Final = {Message.EXAMPLE: "Example", Message.SEQUENCE: "SequenceExample"}
_LISTS: Final = {Kind.BYTES: "bytes_list", Kind.FLOAT: "float_list", Kind.INT64: "int64_list"}
# The lists that a column takes: whole numbers become fractions where these are asked for.
_TAKES: Final = {
    Kind.BYTES: (Kind.NONE, Kind.BYTES),
    Kind.FLOAT: (Kind.NONE, Kind.FLOAT, Kind.INT64),
    Kind.INT64: (Kind.NONE, Kind.INT64),
}


@dataclass(frozen=True, slots=True)
class Decoded:
    """A batch of records as columns.

    Attributes:
        arrays: one per feature; null where a record lacks it, or could not be read.
        reasons: what is wrong with the records that could not be read, by their number.
    """

    arrays: list[pa.Array]
    reasons: dict[int, str]


@dataclass(frozen=True, slots=True)
class _Found:
    """A feature's values in all records.

    Attributes:
        spans: of each Feature; of depth 2, of all lists' Features one after the other.
        measure: of the Features.
        present: whether each record has it.
        lists: of depth 2, the number of Features of each record.
    """

    spans: Array
    measure: Measure
    present: Array
    lists: Array | None = None


def decode_batch(data: Data, scan: Scan, features: Sequence[Feature], message: Message) -> Decoded:
    """The columns of the records that a scan found."""
    reasons: dict[int, str] = {}
    if message is Message.RAW:
        _explain(scan.problems, message, reasons)
        return Decoded(_all_raw(data, scan, features, reasons), reasons)
    problems = scan.problems.copy()
    slots = _slots(data, scan, features, problems, message)
    found = [
        _look(data, slots[at], feature, problems, reasons) for at, feature in enumerate(features)
    ]
    _explain(problems, message, reasons)
    return Decoded(_filled(data, features, found, reasons, len(problems)), reasons)


def _slots(
    data: Data, scan: Scan, features: Sequence[Feature], problems: Array, message: Message
) -> list[Array]:
    """Each feature's spans, in the order of the features."""
    lists = [feature.name for feature in features if feature.depth == 2]
    context = [feature.name for feature in features if feature.depth < 2]
    names = Names(context, lists if message is Message.SEQUENCE else None)
    spans, _ = codec().index(data, scan.records, names, problems, known_only=False)
    place = {name: at for at, name in enumerate((*context, *lists))}
    return [spans[place[feature.name]] for feature in features]


def _explain(problems: Array, message: Message, reasons: dict[int, str]) -> None:
    for row in np.flatnonzero(problems).tolist():
        text = _PROBLEMS[Problem(problems[row])]
        reasons[row] = text.format(message=_MESSAGES.get(message, ""))


def _look(
    data: Data, slots: Array, feature: Feature, problems: Array, reasons: dict[int, str]
) -> _Found:
    """Finds a feature's values, and the records in which they are not what was asked for."""
    if feature.depth < 2:
        measure = codec().measure(data, slots, problems)
        found = _Found(slots, measure, (slots[:, 0] >= 0) & (measure.kinds != Kind.NONE))
        rows = np.arange(len(slots))
        if feature.depth == 0:
            found.present[measure.counts == 0] = False
            for row in np.flatnonzero(measure.counts > 1).tolist():
                reasons.setdefault(
                    row,
                    f"feature {feature.name!r} has {measure.counts[row]} values, but its column is "
                    f"no array",
                )
    else:
        lists, spans = codec().split(data, slots, problems)
        rows = np.repeat(np.arange(len(slots)), lists)
        marks = np.zeros(len(spans), np.uint8)
        measure = codec().measure(data, spans, marks)
        problems[rows[marks > 0]] = Problem.MALFORMED
        found = _Found(spans, measure, slots[:, 0] >= 0, lists)
    for at in np.flatnonzero(~np.isin(measure.kinds, _TAKES[feature.kind])).tolist():
        reasons.setdefault(
            int(rows[at]),
            f"feature {feature.name!r} is {_LISTS[Kind(measure.kinds[at])]}, but its column "
            f"needs {_LISTS[feature.kind]}",
        )
    if not feature.nullable:
        for row in np.flatnonzero(~found.present & (problems == 0)).tolist():
            reasons.setdefault(row, f"feature {feature.name!r} is missing, but not nullable")
    return found


def _filled(
    data: Data,
    features: Sequence[Feature],
    found: Sequence[_Found],
    reasons: dict[int, str],
    rows: int,
) -> list[pa.Array]:
    """The arrays, without the values of bad records; whose badness may show only here."""
    bad = np.zeros(rows, np.bool_)
    done: dict[str, pa.Array] = {}
    while True:
        bad[list(reasons)] = True
        try:
            for feature, one in zip(features, found, strict=True):
                done[feature.name] = _array(data, feature, one, bad)
        except BadValuesError as error:
            for row, reason in error.reasons.items():
                reasons.setdefault(row, reason)
            continue
        return [done[feature.name] for feature in features]


def _array(data: Data, feature: Feature, found: _Found, bad: Array) -> pa.Array:
    present = found.present & ~bad
    keep = present if found.lists is None else np.repeat(present, found.lists)
    spans = found.spans.copy()
    spans[~keep, 0] = -1
    counts = np.where(keep, found.measure.counts, 0)
    if found.lists is None:
        layout = Layout(present, counts, None)
    else:
        layout = Layout(present, counts[keep], np.where(present, found.lists, 0))
    fill = _FILLS[feature.kind]
    values = fill(data, spans, int(counts.sum()), found.measure.sizes[keep])
    return arrow_array(feature, layout, values)


_Fill = Callable[[Data, Array, int, Array], tuple[Array, Array | None]]
_FILLS: Final[Mapping[Kind, _Fill]] = {
    Kind.INT64: lambda data, spans, total, _: (codec().int64s(data, spans, total), None),
    Kind.FLOAT: lambda data, spans, total, _: (codec().floats(data, spans, total), None),
    Kind.BYTES: lambda data, spans, total, sizes: _text(data, spans, total, int(sizes.sum())),
}


def _text(data: Data, spans: Array, total: int, size: int) -> tuple[Array, Array]:
    ends, text = codec().strings(data, spans, total, size)
    return text, ends


def _all_raw(
    data: Data, scan: Scan, features: Sequence[Feature], reasons: dict[int, str]
) -> list[pa.Array]:
    """The records themselves."""
    (feature,) = features
    while True:
        present = np.ones(len(scan.records), np.bool_)
        present[list(reasons)] = False
        kept = [bytes(data[start : start + size]) for start, size in scan.records[present].tolist()]
        ends = np.cumsum([0, *map(len, kept)], dtype=np.int64)
        layout = Layout(present, present.astype(np.int64), None)
        try:
            return [arrow_array(feature, layout, (np.frombuffer(b"".join(kept), np.uint8), ends))]
        except BadValuesError as error:
            reasons.update(error.reasons)
