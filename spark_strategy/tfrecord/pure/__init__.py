"""The codec in Python: slow, for machines on which the C part was not compiled."""

from spark_strategy.tfrecord.pure.decode import (
    feature_names,
    floats,
    index,
    int64s,
    measure,
    split,
    strings,
)
from spark_strategy.tfrecord.pure.encode import encode
from spark_strategy.tfrecord.pure.frames import masked_crc, scan

__all__ = [
    "encode",
    "feature_names",
    "floats",
    "index",
    "int64s",
    "masked_crc",
    "measure",
    "scan",
    "split",
    "strings",
]
