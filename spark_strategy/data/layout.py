"""The format of a block file, which holds a block of rows as tensors.

Columnar, little-endian: int64 values ``[rows, bytes of part 0, bytes of part 1, ...]``, then the
parts back to back. TensorFlow's own ops must be able to read it, so there are two kinds of parts:

- numbers as ``tf.io.decode_raw`` reads them: the values of all rows (a bool is one byte);
- byte strings as ``tf.io.parse_tensor`` reads them: a serialized TensorProto whose
  ``tensor_content`` is the strings' lengths as varints and then all their bytes
  (``DecodeStringList`` in tensorflow/core/lib/strings or tsl/platform/tensor_coding.cc). It costs
  one pass. Cutting strings out of a large one with ``tf.strings.substr`` takes 70 times as long
  (*measured*: 10,000 strings of 100 bytes in 1.5 ms, 1,000 in 10 ms).

A column of fixed shape is one part. A ragged column is *row-wise* strings, one per row, because
``Dataset.rebatch`` and ``tf.gather`` take vectors of strings but no RaggedTensor:

================ ==================================================================
key              bytes of one row
================ ==================================================================
name, NUL counts int64 lengths of the inner arrays, of an array of arrays
name, NUL sizes  varint length of each string, of an array of strings
name, NUL values the values, or the strings' bytes
================ ==================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

STRING: Final = "string"

# Bytes of one value of each other dtype that a column can have: what ``decode_raw`` can read.
ITEM_BYTES: Final[Mapping[str, int]] = {
    "bool": 1,
    "int8": 1,
    "int16": 2,
    "int32": 4,
    "int64": 8,
    "uint8": 1,
    "uint16": 2,
    "float16": 2,
    "float32": 4,
    "float64": 8,
}

# A varint is padded to 5 bytes, which any decoder of 32-bit varints reads: what is of fixed width
# can be computed for all rows at once, and counted.
VARINT_BYTES: Final = 5
VARINT_SHIFTS: Final = (0, 7, 14, 21, 28)
VARINT_MARKS: Final = (128, 128, 128, 128, 0)

# Field 1 of a TensorProto: DT_STRING. Field 2: a shape of one dimension, whose size follows.
STRINGS_TYPE_AND_SHAPE: Final = b"\x08\x07\x12\x08\x12\x06\x08"
# Field 4: tensor_content, whose length follows.
STRINGS_CONTENT: Final = b"\x22"


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a block.

    Attributes:
        key: what the child calls it; the column's name when it is all of the column.
        dtype: of its values; "string" for byte strings.
    """

    key: str
    dtype: str


def counts_key(name: str) -> str:
    """Key of the inner arrays' lengths; a NUL, so that no column is called that."""
    return f"{name}\0counts"


def sizes_key(name: str) -> str:
    """Key of the strings' lengths."""
    return f"{name}\0sizes"


def values_key(name: str) -> str:
    """Key of the values."""
    return f"{name}\0values"
