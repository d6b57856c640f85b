"""TFRecord files for the chief of parameter-server training, whose workers read them.

The chief makes one dataset, whose graph runs on each worker and asks there whose it is
(``worker/feed_of_workers.py`` does the same with rows that Spark feeds).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

from spark_strategy.data.shares import FilePart, records_of
from spark_strategy.worker.in_step import Batching
from spark_strategy.worker.records import Example, Reading, elements


def of_workers(
    dealt: Sequence[Sequence[FilePart]],
    counts: Callable[[], Mapping[str, int]],
    example: Example,
    reading: Reading,
    batching: Batching,
    *,
    repeat: bool,
) -> tf.data.Dataset:
    """Each worker's share of the records, in batches of ``batch_size``: a step is one worker's.

    Args:
        dealt: each worker's parts.
        counts: records of each file; reads them. Not called for records that are repeated without
            end: otherwise they say how many steps an epoch has.
        example: what a record holds.
        reading: how records are read.
        batching: how they are cut.
        repeat: over and over.
    """
    batches = reading.records_of_workers(dealt).rebatch(
        batching.batch_size, drop_remainder=batching.drop_remainder
    )
    known = {} if repeat else batching.known_of_workers(records_of(dealt, counts()))
    return elements(batches, example, repeat=repeat, **known)
