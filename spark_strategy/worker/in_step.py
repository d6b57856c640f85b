"""Rows that a rank reads itself, in the batches of steps that all ranks take together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from spark_strategy.data.steps import Shard, settled


@dataclass(frozen=True, slots=True)
class Batching:
    """How an epoch is cut.

    Attributes:
        batch_size: rows of a step over all ranks.
        drop_remainder: leave out a last step that is smaller.
    """

    batch_size: int
    drop_remainder: bool

    def in_step(
        self, rows: tf.data.Dataset, counts: Sequence[int], rank: int, *, replicas: int
    ) -> tf.data.Dataset:
        """A rank's batches of all steps, empty ones at the end included.

        Args:
            rows: of this rank, some at a time.
            counts: rows of every rank.
            rank: this rank.
            replicas: of this rank; each gets a batch of its own.
        """
        shards = [Shard(count, complete=True) for count in counts]
        runs = settled(
            shards, self.batch_size, used=[0] * len(shards), drop_remainder=self.drop_remainder
        )
        cuts = [np.tile(_split(run.sizes[rank], replicas), run.count) for run in runs]
        sizes = np.concatenate([*cuts, np.zeros(0, np.int64)])
        full = len(np.trim_zeros(sizes, "b"))
        # There must be one size; the one added here is never reached.
        batches = rows.rebatch(np.append(sizes[:full], 1)).take(full)
        nothing = tf.nest.map_structure(
            lambda spec: tf.zeros([0, *spec.shape[1:]], spec.dtype), rows.element_spec
        )
        whole = batches.concatenate(tf.data.Dataset.from_tensors(nothing).repeat(len(sizes) - full))
        return whole.apply(tf.data.experimental.assert_cardinality(len(sizes)))

    def alone(self, rows: tf.data.Dataset, rank: int, ranks: int) -> tf.data.Dataset:
        """A rank's batches where each takes its own steps: its part of ``batch_size`` in each."""
        share, extra = divmod(self.batch_size, ranks)
        return rows.rebatch(share + (rank < extra), self.drop_remainder)

    def known_of_workers(self, rows: Sequence[int]) -> dict[str, Any]:
        """What is known of an epoch in which a step is one worker's, for the dataset's mark.

        Args:
            rows: of each worker.
        """
        size, drop = self.batch_size, self.drop_remainder
        return {
            "steps": sum(own // size if drop else -(-own // size) for own in rows),
            "idle": next((f"worker:{number}" for number, own in enumerate(rows) if not own), ""),
        }


def _split(rows: int, replicas: int) -> np.ndarray:
    share, extra = divmod(rows, replicas)
    return np.asarray([share + (place < extra) for place in range(replicas)], np.int64)
