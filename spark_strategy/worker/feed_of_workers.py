"""The workers' rows as ``tf.data`` for the chief of parameter-server training, which has none.

The chief makes one dataset, and its graph runs on each worker (``ClusterCoordinator``'s
``create_per_worker_dataset``), where it reads that worker's own spool: its files have the same
names in every process (``folder.OWN_SPOOL``). No Python runs there, so the graph reads the
manifest itself, and the chief waits until every worker has all of its rows.
"""

from __future__ import annotations

import time
from typing import Any, Final

import tensorflow as tf

from spark_strategy.data.feed import FeedOrder
from spark_strategy.data.row_ledger import from_json
from spark_strategy.data.spool import BLOCK_DIGITS, BLOCK_SUFFIX, END, MANIFEST
from spark_strategy.data.steps import Shard
from spark_strategy.folder import OWN_SPOOL, ChildFolder
from spark_strategy.parameter_server import feeds
from spark_strategy.topology import Topology
from spark_strategy.worker.feed import Pipeline, check, plain, shuffled, specs_of
from spark_strategy.worker.grants import Waits
from spark_strategy.worker.in_step import Batching
from spark_strategy.worker.selection import Selection
from spark_strategy.worker.sharded import sharded

_POLL_S: Final = 0.02
# Blocks of about 4 MB, whose order changes from epoch to epoch.
_BLOCKS: Final = 1024


class FeedOfWorkers:
    """The rows of all workers, for the chief.

    Args:
        order: columns by the DataFrame's name.
        folder: shared with the task, which says in it how many rows every rank has.
        topology: which ranks have rows.
    """

    def __init__(self, order: FeedOrder, folder: ChildFolder, topology: Topology) -> None:
        self._order = order
        self._folder = folder
        self._ranks = feeds(topology)
        self._waits = Waits()

    @property
    def waited_s(self) -> float:
        """Seconds that the chief stood until all rows had arrived."""
        return self._waits.seconds

    def has_rows(self, name: str) -> bool:
        """Whether any worker has a row of a DataFrame, once all have arrived."""
        return any(shard.rows for shard in self._shards(name))

    def dataset(
        self,
        name: str,
        selection: Selection,
        *,
        strategy: tf.distribute.Strategy,
        batch_size: int,
        shuffle: int,
        seed: int | None,
        repeat: bool,
        drop_remainder: bool,
    ) -> tf.data.Dataset:
        """See ``WorkerContext.dataset``."""
        specs = specs_of(self._order, name)
        check(batch_size, shuffle, strategy.num_replicas_in_sync)
        pipeline = Pipeline(specs, selection.resolved(specs), shuffle)
        rows = [shard.rows for shard in self._shards(name)]
        dataset = _blocks(name, shuffled=shuffle > 0, seed=seed).map(plain(_read(pipeline)))
        if shuffle:
            dataset = shuffled(dataset, shuffle, seed)
        dataset = dataset.rebatch(batch_size, drop_remainder=drop_remainder)
        if pipeline.is_ragged:
            dataset = dataset.map(plain(pipeline.element))
        known = Batching(batch_size, drop_remainder).known_of_workers(rows)
        return sharded((dataset.repeat() if repeat else dataset).prefetch(2), **known)

    def _shards(self, name: str) -> list[Shard]:
        """What each worker has, once it has all; the run's deadline ends the wait."""
        while True:
            known = from_json(self._folder.read_rows()).get(name)
            if known and all(rank in known.final for rank in self._ranks):
                return [known.shards[rank] for rank in self._ranks]
            time.sleep(_POLL_S)
            self._waits.seconds += _POLL_S


def _blocks(name: str, *, shuffled: bool, seed: int | None) -> tf.data.Dataset:
    """Paths of the blocks that the manifest names, on whichever worker reads it."""
    folder = f"{OWN_SPOOL}/{name}"
    lines = tf.data.TextLineDataset(f"{folder}/{MANIFEST}")
    numbers = lines.filter(plain(lambda line: line != END)).enumerate()

    def path(number: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
        digits = tf.strings.as_string(number, width=BLOCK_DIGITS, fill="0")
        return tf.strings.join([folder, "/", digits, BLOCK_SUFFIX])

    paths = numbers.map(plain(path))
    return paths.shuffle(_BLOCKS, seed=seed, reshuffle_each_iteration=True) if shuffled else paths


def _read(pipeline: Pipeline) -> Any:
    def whole(path: tf.Tensor) -> Any:
        return pipeline.read(path, tf.constant([0, tf.int64.max], tf.int64))

    return whole
