"""What the two codecs, native.py and pure.py, take and give.

A TFRecord file is a row of records: uint64 length, masked CRC-32C of it, the bytes, masked CRC-32C
of them, all little-endian (tensorflow/core/lib/io/record_writer.h). A record is usually a message
(tensorflow/core/example/example.proto, feature.proto):

    Example         { Features features = 1; }
    SequenceExample { Features context = 1; FeatureLists feature_lists = 2; }
    Features        { map<string, Feature> feature = 1; }
    FeatureLists    { map<string, FeatureList> feature_list = 1; }
    FeatureList     { repeated Feature feature = 1; }
    Feature         { oneof { BytesList bytes_list = 1; FloatList float_list = 2;
                              Int64List int64_list = 3; } }

Both work on batches of records: spans into one buffer, an int64 array of shape (n, 2) with start
and size, a start of -1 for what is absent. Both check every read against the end of its message,
and what they allocate is at most some small multiple of the bytes they are given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, Protocol, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Data: TypeAlias = bytes | bytearray | memoryview

HEADER_BYTES: Final = 12
FOOTER_BYTES: Final = 4
# Protobuf's own limit on a message, and Arrow's on the bytes of a string column.
RECORD_LIMIT_BYTES: Final = 2**31 - 1


class Kind(IntEnum):
    """The list in a Feature: its field number."""

    NONE = 0
    BYTES = 1
    FLOAT = 2
    INT64 = 3


class Message(IntEnum):
    """What a record holds."""

    RAW = 0
    EXAMPLE = 1
    SEQUENCE = 2


class Problem(IntEnum):
    """What is wrong with a record."""

    FINE = 0
    DATA_CRC = 1
    MALFORMED = 2


class Stop(IntEnum):
    """Why a scan ended before its data did."""

    END = 0
    LENGTH_CRC = 1
    TRUNCATED = 2
    TOO_LONG = 3


@dataclass(frozen=True, slots=True)
class Scan:
    """Records at the start of some data.

    Attributes:
        records: their spans, shape (n, 2).
        problems: of each, ``Problem``, uint8.
        used: bytes of the data that they take.
        stop: why there are no more.
    """

    records: Array
    problems: Array
    used: int
    stop: Stop


@dataclass(frozen=True, slots=True)
class Column:
    """A column of rows to encode.

    Attributes:
        name: of the feature; columns are given in the order of their names' UTF-8 bytes.
        kind: of its list.
        depth: 0 for one value per row, 1 for a list, 2 for a list of lists.
        values: int64, float32, or the uint8 bytes of all strings.
        ends: of strings, where each begins in ``values``, int64, one more than there are strings.
        valid: uint8 per row, 0 leaves the feature out; None when all are there.
        outer: depth 1 and 2, where each row's values (lists) begin, int64, rows + 1.
        inner: depth 2, where each list's values begin, int64, lists + 1.
    """

    name: str
    kind: Kind
    depth: int
    values: Array
    ends: Array | None = None
    valid: Array | None = None
    outer: Array | None = None
    inner: Array | None = None


@dataclass(frozen=True, slots=True)
class Names:
    """Features to look for: those of an Example or a context, then those of feature_lists.

    Attributes:
        context: names in Features.
        lists: names in FeatureLists; None for Examples.
    """

    context: Sequence[str]
    lists: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class Measure:
    """What a column of Features holds, one entry each.

    Attributes:
        kinds: ``Kind``, uint8.
        counts: of values, int64.
        sizes: bytes of all its strings, int64.
    """

    kinds: Array
    counts: Array
    sizes: Array


class Codec(Protocol):
    """What native.py and pure.py are. ``problems`` are marked in place."""

    def masked_crc(self, data: Data) -> int:
        """The masked CRC-32C that a record carries."""

    def scan(self, data: Data, *, most: int, record_limit: int = ...) -> Scan:
        """At most ``most`` records from the start of the data."""

    def encode(
        self, columns: Sequence[Column], lists: Sequence[Column], *, rows: int, message: Message
    ) -> memoryview:
        """The framed records of all rows, ready to be written."""

    def index(
        self, data: Data, records: Array, names: Names, problems: Array, *, known_only: bool
    ) -> tuple[Array, int]:
        """Spans of shape (names, records, 2) of each name's Feature or FeatureList.

        The second value is the number of records done: with ``known_only`` those in front of the
        first that has another name.
        """

    def measure(self, data: Data, features: Array, problems: Array) -> Measure:
        """Kind, number and bytes of the values of each Feature."""

    def split(self, data: Data, lists: Array, problems: Array) -> tuple[Array, Array]:
        """Number of Features in each FeatureList, and the spans of all."""

    def int64s(self, data: Data, features: Array, total: int) -> Array:
        """All values of int64 lists."""

    def floats(self, data: Data, features: Array, total: int) -> Array:
        """All values of float lists as float32; those of int64 lists are converted."""

    def strings(self, data: Data, features: Array, total: int, size: int) -> tuple[Array, Array]:
        """All values of bytes lists: where each begins (int64, total + 1), and their bytes."""
