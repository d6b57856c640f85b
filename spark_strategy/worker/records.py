"""TFRecord files as ``tf.data``: a rank's share in steps that all ranks take together.

Under a strategy with collectives all ranks must take the same steps, so the records are counted
first, each file by one rank; then the steps are those of fed rows (``data/steps.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import tensorflow as tf

from spark_strategy.data.shares import File, FilePart, shares
from spark_strategy.errors import PlanError
from spark_strategy.folder import WORKER_FILE
from spark_strategy.keras import collective
from spark_strategy.worker.sharded import sharded

_READ_BYTES: Final = 1 << 20
_CHUNK: Final = 256
_CYCLE: Final = 4
_COMPRESSIONS: Final = {".gz": "GZIP", ".gzip": "GZIP", ".zlib": "ZLIB", ".deflate": "ZLIB"}

_plain: Final = tf.autograph.experimental.do_not_convert


@dataclass(frozen=True, slots=True)
class Example:
    """How a serialized Example becomes an element.

    Attributes:
        features: as ``tf.io.parse_example`` takes them; None leaves it serialized.
        label: the feature that is the target; several by name; None for none.
        weight: the feature with a weight for each record.
    """

    features: Mapping[str, Any] | None
    label: str | Sequence[str] | None
    weight: str | None

    def __post_init__(self) -> None:
        labels = [self.label] if isinstance(self.label, str) else list(self.label or ())
        names = [*labels, *([self.weight] if self.weight else [])]
        for name in names:
            if name not in (self.features or {}):
                known = ", ".join(self.features or {}) or "none"
                raise PlanError(f"There is no feature {name!r}; the features are {known}.")
        if self.weight and not labels:
            raise PlanError(
                f"weight={self.weight!r} needs a label: (x, y, weight) has three parts."
            )

    def element(self, serialized: tf.Tensor) -> Any:
        """Of a batch of serialized Examples."""
        if self.features is None:
            return serialized
        parsed = tf.io.parse_example(serialized, dict(self.features))
        if self.label is None:
            return parsed
        target = (
            parsed.pop(self.label)
            if isinstance(self.label, str)
            else {name: parsed.pop(name) for name in self.label}
        )
        weight = [parsed.pop(self.weight)] if self.weight else []
        inputs = parsed if len(parsed) > 1 else next(iter(parsed.values()))
        return (inputs, target, *weight)


@dataclass(frozen=True, slots=True)
class Reading:
    """How records are read.

    Attributes:
        compression: "GZIP", "ZLIB" or "" for all files; None to go by their names.
        shuffle: records of the window within which they are permuted; 0 keeps the order.
        seed: of the shuffle.
        deterministic: whether the order repeats; False may be faster.
    """

    compression: str | None
    shuffle: int
    seed: int | None
    deterministic: bool

    def records(self, parts: Sequence[FilePart]) -> tf.data.Dataset:
        """The serialized records of these parts, from several files at once, some at a time."""
        return self._read(tf.data.Dataset.from_tensor_slices(self._columns(parts)), len(parts))

    def records_of_workers(self, dealt: Sequence[Sequence[FilePart]]) -> tf.data.Dataset:
        """The same on whichever worker of parameter-server training reads it, of its own parts.

        Args:
            dealt: each worker's parts.
        """
        parts = [part for own in dealt for part in own]
        owners = [worker for worker, own in enumerate(dealt) for _ in own]
        columns = (*self._columns(parts), tf.constant(owners, tf.int64, [len(owners)]))

        def own(line: tf.Tensor) -> tf.data.Dataset:
            worker = tf.strings.to_number(line, tf.int64)
            files = tf.data.Dataset.from_tensor_slices(columns)
            mine = files.filter(_plain(lambda *file: file[-1] == worker))
            return self._read(mine.map(_plain(lambda *file: file[:-1])), len(parts))

        return tf.data.TextLineDataset(WORKER_FILE).flat_map(_plain(own))

    def _columns(self, parts: Sequence[FilePart]) -> tuple[tf.Tensor, ...]:
        kinds = [self.compression_of(part.path) for part in parts]
        return (
            tf.constant([part.path for part in parts], tf.string, [len(parts)]),
            tf.constant(kinds, tf.string, [len(parts)]),
            tf.constant([part.part for part in parts], tf.int64, [len(parts)]),
            tf.constant([part.parts for part in parts], tf.int64, [len(parts)]),
        )

    def _read(self, files: tf.data.Dataset, count: int) -> tf.data.Dataset:
        if self.shuffle and count:
            files = files.shuffle(count, seed=self.seed)
        records = files.interleave(
            _plain(_part_of_file),
            cycle_length=max(1, min(_CYCLE, count)),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=self.deterministic,
        )
        shuffled = records.shuffle(self.shuffle, seed=self.seed) if self.shuffle else records
        return shuffled.batch(_CHUNK)

    def compression_of(self, path: str) -> str:
        """What a file is compressed with."""
        if self.compression is not None:
            return self.compression
        return next((kind for end, kind in _COMPRESSIONS.items() if path.endswith(end)), "")


def counted(
    files: Sequence[File], reading: Reading, strategy: tf.distribute.Strategy, rank: int, ranks: int
) -> dict[str, int]:
    """Records of every file; each rank counts some, and all learn of all. Reads them once."""
    counts = np.zeros(len(files), np.float64)
    places = {file.path: place for place, file in enumerate(files)}
    for part in shares(files, ranks)[rank]:
        # A file that several ranks share is counted by one of them.
        if part.parts == 1 or places[part.path] % ranks == rank:
            counts[places[part.path]] = _count(part.path, reading.compression_of(part.path))
    if collective.is_multi_worker(strategy):
        counts = collective.sum_over_ranks(strategy, counts).numpy()
    return {file.path: int(count) for file, count in zip(files, counts, strict=True)}


def elements(
    batches: tf.data.Dataset, example: Example, *, repeat: bool, **known: Any
) -> tf.data.Dataset:
    """Parsed in parallel, marked as this rank's own shard.

    Args:
        batches: of serialized records.
        example: what they hold.
        repeat: over and over.
        known: for the mark.
    """
    parsed = batches.map(_plain(example.element), num_parallel_calls=tf.data.AUTOTUNE)
    return sharded((parsed.repeat() if repeat else parsed).prefetch(2), **known)


def _part_of_file(
    path: tf.Tensor, compression: tf.Tensor, part: tf.Tensor, parts: tf.Tensor
) -> tf.data.Dataset:
    return tf.data.TFRecordDataset(path, compression, _READ_BYTES).shard(parts, part)


def _count(path: str, compression: str) -> int:
    records = tf.data.TFRecordDataset(path, compression, _READ_BYTES).batch(1024)
    zero = np.int64(0)
    add = _plain(lambda sum_, batch: sum_ + tf.shape(batch, tf.int64)[0])
    return int(records.reduce(zero, add).numpy())
