"""A rank's parts of Parquet row groups as ``tf.data``: blocks in memory -> rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import tensorflow as tf

from spark_strategy.data.blocks import encode
from spark_strategy.data.shares import FilePart
from spark_strategy.worker.feed import Pipeline, plain, seeds, shuffled
from spark_strategy.worker.parquet import Parquet, RowGroup

_BLOCK_BYTES: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class Slice:
    """Neighbouring rows of a row group.

    Attributes:
        group: the row group.
        first: the first one's number in it.
        end: that of the row after the last one.
    """

    group: RowGroup
    first: int
    end: int

    @classmethod
    def of(cls, group: RowGroup, part: FilePart) -> Slice:
        """What one of several ranks reads of a row group: as many rows as ``part`` has records."""
        before = (FilePart(part.path, one, part.parts) for one in range(part.part))
        first = sum(one.records(group.rows) for one in before)
        return cls(group, first, first + part.records(group.rows))


def rows_of(
    table: Parquet, slices: Sequence[Slice], pipeline: Pipeline, seed: int | None
) -> tf.data.Dataset:
    """The rows of some slices, some at a time, as the pipeline has them; in its windows' disorder.

    Python reads and encodes a block of about 4 MB at a time, TensorFlow's ops do the rest.
    """

    def contents(epoch: np.int64) -> Iterator[bytes]:
        order = np.arange(len(slices))
        if pipeline.window:
            np.random.default_rng(epoch).shuffle(order)
        for one in (slices[place] for place in order.tolist()):
            for batch in table.batches(one.group, one.first, one.end, pipeline.specs):
                for block in encode(batch, pipeline.specs, block_bytes=_BLOCK_BYTES):
                    yield b"".join(block.buffers)

    def blocks(epoch: tf.Tensor) -> tf.data.Dataset:
        content = tf.TensorSpec([], tf.string)
        return tf.data.Dataset.from_generator(contents, output_signature=content, args=(epoch,))

    rows = seeds(seed).take(1).flat_map(plain(blocks)).map(plain(pipeline.rows))
    return shuffled(rows, pipeline.window, seed) if pipeline.window else rows
