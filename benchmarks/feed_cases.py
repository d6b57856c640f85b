"""What the ranks run for ``feed.py``, and the hash both sides compute."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil
import pyarrow as pa

NARROW: Final = [f"c{place:02d}" for place in range(40)]
BATCH: Final = 128


def nothing() -> dict[str, int]:
    """An idle rank's peak memory."""
    return peaks()


def first_epoch(features: Any) -> dict[str, int]:
    """All rows once; peak memory."""
    import tensorflow as tf

    count(dataset(features))
    del tf
    return peaks()


def later_epochs(features: Any, rounds: int) -> dict[str, Any]:
    """Rows per second from the spool and from memory, in turns, and the hash of all rows."""
    import tensorflow as tf

    spool = dataset(features)
    parts = list(spool.as_numpy_iterator())
    x, y = (np.concatenate([part[side] for part in parts]) for side in (0, 1))
    memory = tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH)
    found: dict[str, Any] = {"spool": [], "memory": [], "hash": row_hash(x, y)}
    for number in range(rounds):
        for side in ("spool", "memory") if number % 2 else ("memory", "spool"):
            began = time.monotonic()
            rows = count(spool if side == "spool" else memory)
            found[side].append(rows / (time.monotonic() - began))
    return found


def dataset(features: Any) -> Any:
    """This rank's batches, ``BATCH`` rows each."""
    from spark_strategy import get_context

    context = get_context()
    return context.dataset(batch_size=BATCH * context.num_workers, features=features, label="y")


def count(batches: Any) -> int:
    """Rows of all batches, counted by TensorFlow."""
    import tensorflow as tf

    start = tf.constant(0, tf.int64)
    return int(batches.reduce(start, lambda rows, batch: rows + tf.shape(batch[0], tf.int64)[0]))


def peaks() -> dict[str, int]:
    """Peak resident bytes of this child and of the Spark task above it (child, guard, task)."""
    child = psutil.Process()
    return {"child": _peak(child.pid), "task": _peak(child.parent().ppid())}


def _peak(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def hashes(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The hash of a partition's rows, computed by Spark's own Python worker."""
    total = 0
    for batch in batches:
        *columns, y = batch.columns
        if len(columns) == 1:
            x = columns[0].flatten().to_numpy().reshape(len(batch), -1)
        else:
            x = np.stack([column.to_numpy() for column in columns], axis=1)
        total += row_hash(x, y.to_numpy())
    yield pa.RecordBatch.from_pydict({"hash": pa.array([_signed(total)], pa.int64())})


def row_hash(x: Any, y: Any) -> int:
    """Sum over rows of a hash of their bits: any order of rows gives the same."""
    words = np.ascontiguousarray(x, np.float32).view(np.uint32).astype(np.uint64)
    odd = np.arange(words.shape[1], dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) | np.uint64(1)
    mixed = words @ odd + y.astype(np.uint64) * np.uint64(0xC2B2AE3D27D4EB4F)
    mixed = (mixed ^ (mixed >> np.uint64(31))) * np.uint64(0xBF58476D1CE4E5B9)
    return _signed(int(mixed.sum(dtype=np.uint64)))


def _signed(total: int) -> int:
    total %= 2**64
    return total - 2**64 if total >= 2**63 else total
