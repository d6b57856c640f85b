"""A schema out of the records themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from spark_strategy.errors import DataError
from spark_strategy.tfrecord.codec import codec
from spark_strategy.tfrecord.pure import feature_names
from spark_strategy.tfrecord.records import Piece
from spark_strategy.tfrecord.wire import Array, Data, Kind, Message, Names

# Records that are looked at together; bounds the memory where there are many features.
BATCH: Final = 256
_MOST_FEATURES: Final = 10_000
_SCALARS: Final = {Kind.INT64: "long", Kind.FLOAT: "float"}


@dataclass
class _Seen:
    """What the records said of one feature so far."""

    kind: Kind = Kind.NONE
    most: int = 0
    is_text: bool = True


class Survey:
    """Collects the features of records; those of all files merge.

    Args:
        message: what a record holds.
    """

    def __init__(self, message: Message) -> None:
        self._message = message
        self._context: dict[str, _Seen] = {}
        self._lists: dict[str, _Seen] = {}

    def add(self, piece: Piece, path: str) -> None:
        """Look at the records of a piece; bad ones are left out.

        Raises:
            DataError: a feature is text here and numbers there; or there are too many features.
        """
        records, problems = piece.scan.records, piece.scan.problems.copy()
        at = 0
        while at < len(records):
            part, marks = records[at : at + BATCH], problems[at : at + BATCH]
            lists = list(self._lists) if self._message is Message.SEQUENCE else None
            names = Names(list(self._context), lists)
            slots, done = codec().index(piece.data, part, names, marks, known_only=True)
            self._look(piece.data, slots[:, :done], path)
            at += done
            if done < len(part):
                self._learn(piece.data, part[done], path)

    def _learn(self, data: Data, record: Array, path: str) -> None:
        is_sequence = self._message is Message.SEQUENCE
        try:
            context, lists = feature_names(data, record, is_sequence=is_sequence)
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: the name of a feature is no UTF-8: {error}") from error
        for name in context:
            self._context.setdefault(name, _Seen())
        for name in lists:
            self._lists.setdefault(name, _Seen())
        if len(self._context) + len(self._lists) > _MOST_FEATURES:
            raise DataError(
                f"{path}: more than {_MOST_FEATURES} different features. Give a schema, for "
                "example spark.read.schema('a BIGINT').format('tfrecord')."
            )

    def _look(self, data: Data, slots: Array, path: str) -> None:
        for (name, seen), spans in zip(self._all(), slots, strict=True):
            features = np.ascontiguousarray(spans)
            marks = np.zeros(len(features), np.uint8)
            if name in self._lists and seen is self._lists[name]:
                _, features = codec().split(data, features, marks)
                marks = np.zeros(len(features), np.uint8)
            found = codec().measure(data, features, marks)
            seen.most = max(seen.most, int(found.counts.max(initial=0)))
            for kind in np.unique(found.kinds[found.kinds > 0]).tolist():
                seen.kind = _merged(seen.kind, Kind(kind), name, path)
            if seen.kind is Kind.BYTES and seen.is_text:
                features[marks > 0, 0] = -1
                total, size = int(found.counts.sum()), int(found.sizes.sum())
                _, text = codec().strings(data, features, total, size)
                seen.is_text = _is_text(text.tobytes())

    def _all(self) -> Iterator[tuple[str, _Seen]]:
        yield from self._context.items()
        yield from self._lists.items()

    def fields(self) -> list[dict[str, Any]]:
        """Fields of ``StructType.jsonValue()``, by name; those without any value left out."""
        found = []
        for name, seen in sorted(self._all(), key=lambda item: item[0]):
            if seen.kind is Kind.NONE:
                continue
            kind: Any = _SCALARS.get(seen.kind) or ("string" if seen.is_text else "binary")
            is_list = name in self._lists and seen is self._lists[name]
            if seen.most > 1 or is_list:
                kind = _array(kind)
            found.append(_field(name, _array(kind) if is_list else kind))
        return found


def _array(kind: Any) -> dict[str, Any]:
    return {"type": "array", "elementType": kind, "containsNull": True}


def _field(name: str, kind: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, "nullable": True, "metadata": {}}


def _is_text(text: bytes) -> bool:
    """Whether all values are UTF-8, going by their bytes in a row."""
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _merged(before: Kind, now: Kind, name: str, path: str) -> Kind:
    if before in (Kind.NONE, now):
        return now
    if Kind.BYTES in (before, now):
        raise DataError(
            f"{path}: feature {name!r} is {now.name.lower()}_list here, but "
            f"{before.name.lower()}_list in records before. Give a schema, or load these files "
            "apart."
        )
    return Kind.FLOAT


def inferred_fields(message: Message, pieces: Iterable[tuple[str, Piece]]) -> list[dict[str, Any]]:
    """The fields of the features in these records, by name.

    Args:
        message: what a record holds.
        pieces: with the path of their file.

    Raises:
        DataError: as ``Survey.add``.
    """
    if message is Message.RAW:
        return [_field("byteArray", "binary")]
    survey = Survey(message)
    for path, piece in pieces:
        survey.add(piece, path)
    return survey.fields()
