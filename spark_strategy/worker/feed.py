"""This rank's rows as ``tf.data``: blocks in files -> batches, by TensorFlow's own C++ ops.

A Python generator names the blocks and the batch sizes, a few times a second at most while
rows still arrive and once per epoch afterwards; no row passes through it. Reading, decoding,
shuffling and batching are ops that ship with TensorFlow.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import tensorflow as tf

from spark_strategy.data.columns import ColumnSpec
from spark_strategy.data.feed import FeedOrder
from spark_strategy.data.row_ledger import from_json
from spark_strategy.data.steps import Shard
from spark_strategy.errors import PlanError
from spark_strategy.folder import ChildFolder
from spark_strategy.topology import is_count
from spark_strategy.worker import blocks
from spark_strategy.worker.grants import Cut, Grant, Grants, Waits
from spark_strategy.worker.selection import Resolved, Selection, matrix
from spark_strategy.worker.sharded import sharded

_GRANT: Final = (
    tf.TensorSpec([None], tf.string),
    tf.TensorSpec([None, 2], tf.int64),
    tf.TensorSpec([None], tf.int64),
    tf.TensorSpec([], tf.int64),
    tf.TensorSpec([2], tf.int64),
)

_POLL_S: Final = 0.02

# There is no Python control flow to convert, and converting takes a second.
plain: Final = tf.autograph.experimental.do_not_convert

# What passes through the pipeline, with the rows as first dimension: what a column is carried in,
# and matrices.
_Streams = dict[str, tf.Tensor]


class Feed:
    """The rows of one rank.

    Args:
        order: columns by the DataFrame's name.
        folder: shared with the task, which says in it how many rows every rank has.
        spool: where the task puts this rank's rows.
        rank: this rank.
        ranks: how many there are.
    """

    def __init__(
        self, order: FeedOrder, folder: ChildFolder, spool: Path, *, rank: int, ranks: int
    ) -> None:
        self._order = order
        self._folder = folder
        self._spool = spool
        self._rank = rank
        self._ranks = ranks
        self._waits = Waits()
        self._known: dict[str, Sequence[Shard]] = {}
        self._text = b""

    @property
    def waited_s(self) -> float:
        """Seconds that readers stood where no row had arrived yet."""
        return self._waits.seconds

    def has_rows(self, name: str) -> bool:
        """Whether any rank has a row of a DataFrame; waits until one has, or all have arrived."""
        while True:
            shards = self._peers(name)
            if any(shard.rows for shard in shards):
                return True
            if shards and all(shard.complete for shard in shards):
                return False
            time.sleep(_POLL_S)
            self._waits.seconds += _POLL_S

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
        all_replicas = strategy.num_replicas_in_sync
        check(batch_size, shuffle, max(all_replicas, self._ranks))
        cut = Cut(
            global_batch=batch_size,
            drop_remainder=drop_remainder,
            # Asked first: the default strategy has one replica and no list of devices.
            replicas=1 if all_replicas == 1 else len(strategy.extended.worker_devices),
            shuffled=shuffle > 0,
            seed=secrets.randbits(62) if seed is None else seed,
        )
        grants = Grants(self._spool / name, self._rank, lambda: self._peers(name), cut, self._waits)
        pipeline = Pipeline(specs, selection.resolved(specs), shuffle)
        dataset = tf.data.Dataset.from_generator(
            lambda: map(_tensors, grants.epoch()), output_signature=_GRANT
        ).flat_map(plain(pipeline.batches))
        if pipeline.is_ragged:
            dataset = dataset.map(plain(pipeline.element))
        return sharded((dataset.repeat() if repeat else dataset).prefetch(2))

    def _peers(self, name: str) -> Sequence[Shard]:
        """Asked a hundred times a second while rows arrive: parse only what is new."""
        text = self._folder.read_rows()
        if text != self._text:
            self._known = {key: one.shards for key, one in from_json(text).items()}
            self._text = text
        return self._known.get(name, ())


def specs_of(order: FeedOrder, name: str) -> tuple[ColumnSpec, ...]:
    """The columns of a DataFrame of the run.

    Raises:
        PlanError: there is none of that name.
    """
    if name not in order.columns:
        names = ", ".join(map(repr, order.columns))
        raise PlanError(f"There is no DataFrame {name!r}; the run is fed with {names}.")
    return order.columns[name]


@dataclass(frozen=True)
class Pipeline:
    """What happens between a grant and an element.

    Attributes:
        specs: all columns of the DataFrame.
        resolved: which of them are wanted, and as what.
        window: rows of the shuffle's window; 0 for no shuffle.
    """

    specs: tuple[ColumnSpec, ...]
    resolved: Resolved
    window: int

    @property
    def is_ragged(self) -> bool:
        """Whether :meth:`batches` gives streams, to be made elements batch by batch.

        Elements without ragged columns are made block by block, which is much rarer.
        """
        return any(spec.ragged for spec in self._wanted(self.resolved.columns_alone))

    def batches(
        self,
        paths: tf.Tensor,
        bounds: tf.Tensor,
        sizes: tf.Tensor,
        empty: tf.Tensor,
        seed: tf.Tensor,
    ) -> tf.data.Dataset:
        """One grant's batches: elements, or with ragged columns streams."""
        rows = tf.data.Dataset.from_tensor_slices((paths, bounds)).map(plain(self.read))
        if self.window:
            rows = rows.rebatch(self.window).enumerate(seed[0])
            rows = rows.map(plain(lambda place, part: permuted(part, tf.stack([place, seed[1]]))))
        nothing = tf.nest.map_structure(
            lambda spec: tf.zeros([0, *spec.shape[1:]], spec.dtype), rows.element_spec
        )
        # Sizes are used in turn. There must be one; the one added here is never reached.
        full = rows.rebatch(tf.concat([sizes, [1]], axis=0))
        return full.concatenate(tf.data.Dataset.from_tensors(nothing).repeat(empty))

    def element(self, streams: _Streams) -> Any:
        """What the train function gets, of one batch (or block)."""
        tensors = blocks.finish(streams, self._wanted(self.resolved.columns_alone))
        matrices = {names: streams[_key(names)] for names in self.resolved.matrices}
        return self.resolved.element(tensors | matrices)

    def read(self, path: tf.Tensor, bounds: tf.Tensor) -> Any:
        """One block's rows from ``bounds[0]`` to ``bounds[1]``, as an element or as streams."""
        rows = self.rows(tf.io.read_file(path))
        return tf.nest.map_structure(lambda values: values[bounds[0] : bounds[1]], rows)

    def rows(self, block: tf.Tensor) -> Any:
        """A block's rows, as an element or as streams."""
        columns = blocks.decode(block, self.specs)
        alone = self._wanted(self.resolved.columns_alone)
        streams = {key: columns[key] for key in blocks.carriers(alone)}
        for names in self.resolved.matrices:
            streams[_key(names)] = matrix({name: columns[name] for name in names})
        return streams if self.is_ragged else self.element(streams)

    def _wanted(self, names: Collection[str]) -> tuple[ColumnSpec, ...]:
        return tuple(spec for spec in self.specs if spec.name in names)


def _key(names: tuple[str, ...]) -> str:
    """A matrix among the streams: no column has a NUL in its name."""
    return "\0".join(names) + "\0"


def shuffled(rows: tf.data.Dataset, window: int, seed: int | None) -> tf.data.Dataset:
    """The rows of each window in an order of their own, another one in each epoch."""
    windows = tf.data.Dataset.zip((rows.rebatch(window), seeds(seed).batch(2)))
    return windows.map(plain(permuted))


def seeds(seed: int | None) -> tf.data.Dataset:
    """Numbers without end, others in each epoch; they repeat with the seed."""
    first = secrets.randbits(31) if seed is None else seed
    return tf.data.Dataset.random(first, rerandomize_each_iteration=True)


def permuted(window: Any, seed: tf.Tensor) -> Any:
    """The rows of a window in a random order, the same in every tensor."""
    count = tf.shape(tf.nest.flatten(window)[0])[0]
    order = tf.random.experimental.stateless_shuffle(tf.range(count), seed)
    return tf.nest.map_structure(lambda rows: tf.gather(rows, order), window)


def _tensors(grant: Grant) -> tuple[Any, ...]:
    return grant.paths.tolist(), grant.bounds, grant.sizes, grant.empty, grant.seed


def check(batch_size: object, shuffle: object, replicas: int) -> None:
    """Refuses sizes that make no sense."""
    if not is_count(batch_size) or batch_size < replicas:  # type: ignore[operator] # it is one
        raise PlanError(
            f"batch_size is the global batch size, a whole number of at least {replicas} here (a "
            f"row for each replica); found {batch_size!r}."
        )
    if not is_count(shuffle):
        raise PlanError(f"shuffle is a window of whole rows, 0 for none; found {shuffle!r}.")
