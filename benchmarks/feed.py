"""Feeding: rows per second from a DataFrame to a train function, against Spark's and TensorFlow's.

First epoch: what feeding adds to a run (its seconds less those of a run without rows), against
a plain ``mapInArrow`` pass-through of the same DataFrame. Later epochs: against
``from_tensor_slices((x, y)).batch(128)`` over the same rows in the memory of the same process,
one process per rank, in turns. Memory: also with a shard larger than the bound. A hash of all rows
seen must equal that of all rows sent.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any

import feed_cases
import pyarrow as pa
import pyspark.cloudpickle
import report

from spark_strategy import Launcher, MultiWorker

FIRST, LATER = 0.8, 1.0
MEMORY_BYTES = 512 << 20
RANKS = 2


def main() -> None:
    """Measure both workloads, print, judge."""
    # Spark's own workers import no file that lies beside this one.
    pyspark.cloudpickle.register_pickle_by_value(feed_cases)
    asked = report.arguments(__doc__ or "", rounds=3, wide=200_000, narrow=2_000_000, large=500_000)
    settings = {"spark.driver.memory": "6g", "spark.python.worker.reuse": "false"}
    spark = report.quiet_spark(f"local[{RANKS}]", **settings)
    launcher = Launcher(MultiWorker(RANKS), spark=spark, logs=None)
    found = {
        "wide": workload(launcher, wide(spark, asked.wide), "x", rounds=asked.rounds),
        "narrow": workload(
            launcher, narrow(spark, asked.narrow), feed_cases.NARROW, rounds=asked.rounds
        ),
    }
    memory = memory_of(launcher, spark, asked.large)
    worst = min(min(one["first"] / FIRST, one["later"] / LATER) for one in found.values())
    small = all(one["extra_bytes"] <= MEMORY_BYTES for one in (*found.values(), memory))
    met = worst >= 1 and small and all(one["hash_equal"] for one in found.values())
    report.finish(
        "feed",
        ratio=worst,
        target=f"first epoch at least {FIRST} of the pass-through (aim 0.9), later epochs at least "
        f"{LATER} of memory, at most 512 MiB beyond an idle run, all rows seen",
        met=met,
        check=asked.check,
        **found,
        large=memory,
    )


def wide(spark: Any, rows: int) -> Any:
    """784 float32 in an array column, and a label."""
    return stored(computed(spark, rows))


def computed(spark: Any, rows: int) -> Any:
    """The same rows, made as they are read."""
    pixels = "transform(sequence(0, 783), i -> cast((id * 31 + i * 17) % 255 as float)) as x"
    return spark.range(0, rows, 1, RANKS).selectExpr(pixels, "id % 10 as y")


def narrow(spark: Any, rows: int) -> Any:
    """40 float columns, and a label."""
    columns = [
        f"cast((id * 31 + {i} * 17) % 255 as float) as {name}"
        for i, name in enumerate(feed_cases.NARROW)
    ]
    return stored(spark.range(0, rows, 1, RANKS).selectExpr(*columns, "id % 10 as y"))


def stored(frame: Any) -> Any:
    """In Spark's own memory, so that both sides are measured and not the making of the rows."""
    frame.persist()
    frame.count()
    return frame


def memory_of(launcher: Launcher, spark: Any, rows: int) -> dict[str, Any]:
    """Peak memory of a shard that is itself larger than what is allowed."""
    idle = launcher.run(feed_cases.nothing)
    fed = launcher.on(computed(spark, rows)).run(feed_cases.first_epoch, "x")
    return {
        "rows": rows,
        "shard_bytes": max(stats.spool_bytes for stats in fed.feed),
        "extra_bytes": extra_bytes(fed.values, idle.values),
    }


def extra_bytes(fed: Any, idle: Any) -> int:
    """What the hungriest rank's child and task take beyond those of a run without rows."""
    return max(
        one["task"] + one["child"] - other["task"] - other["child"]
        for one, other in zip(fed, idle, strict=True)
    )


def workload(launcher: Launcher, frame: Any, features: Any, *, rounds: int) -> dict[str, Any]:
    """All figures of one DataFrame."""
    rows = frame.count()
    passed, fed, results = [], [], []
    for number in range(rounds):
        began = time.monotonic()
        frame.mapInArrow(through, frame.schema).write.format("noop").mode("overwrite").save()
        passed.append(time.monotonic() - began)
        began = time.monotonic()
        idle = launcher.run(feed_cases.nothing)
        empty = time.monotonic() - began
        began = time.monotonic()
        results.append(launcher.on(frame).run(feed_cases.first_epoch, features))
        fed.append(time.monotonic() - began - empty)
        report.progress(
            f"{number + 1}: pass-through {passed[-1]:.2f} s, feeding added {fed[-1]:.2f} s to "
            f"{empty:.2f} s; {results[-1].feed[0]}"
        )
    again = launcher.on(frame).run(feed_cases.later_epochs, features, rounds)
    report.progress(f"later epochs: {again.value}")
    sent = sum(row["hash"] for row in frame.mapInArrow(feed_cases.hashes, "hash long").collect())
    seen = sum(value["hash"] for value in again.values)
    ours, memory = (
        statistics.median(
            min(value[side][turn] for value in again.values) for turn in range(rounds)
        )
        for side in ("spool", "memory")
    )
    return {
        "first": round(statistics.median(p / f for p, f in zip(passed, fed, strict=True)), 3),
        "later": round(ours / memory, 3),
        "hash_equal": sent % 2**64 == seen % 2**64,
        "extra_bytes": extra_bytes(results[-1].values, idle.values),
        "rows": rows,
        "pass_through_s": [round(one, 2) for one in passed],
        "feeding_s": [round(one, 2) for one in fed],
        "spool_rows_per_s": round(ours),
        "memory_rows_per_s": round(memory),
    }


def through(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The floor: rows to Python and back."""
    yield from batches


if __name__ == "__main__":
    main()
