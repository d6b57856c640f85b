"""TFRecord files for the chief of parameter-server training, whose workers read them.

The chief makes one dataset, whose graph runs on each worker and asks there whose it is
(``worker/feed_of_workers.py`` does the same with rows that Spark feeds).
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from spark_strategy.data.shares import File, shares
from spark_strategy.worker.in_step import Batching
from spark_strategy.worker.records import Example, Reading, count, elements


def of_workers(
    files: Sequence[File],
    workers: int,
    example: Example,
    reading: Reading,
    batching: Batching,
    *,
    repeat: bool,
) -> tf.data.Dataset:
    """Each worker's share of the records, in batches of ``batch_size``: a step is one worker's.

    An epoch has as many steps as all workers have batches. For that the chief counts the records,
    unless they are repeated without end.
    """
    dealt = shares(files, workers)
    size, drop = batching.batch_size, batching.drop_remainder
    batches = reading.records_of_workers(dealt).rebatch(size, drop_remainder=drop)
    if repeat:
        return elements(batches, example, repeat=True)
    counts = {file.path: count(file.path, reading.compression_of(file.path)) for file in files}
    rows = [sum(part.records(counts[part.path]) for part in own) for own in dealt]
    return elements(
        batches,
        example,
        repeat=False,
        steps=sum(own // size if drop else -(-own // size) for own in rows),
        idle=next((f"worker:{worker}" for worker, own in enumerate(rows) if not own), ""),
    )
