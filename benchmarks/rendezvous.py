"""Rendezvous: seconds per rank from 4 to 256 ranks, without a TensorFlow child.

One bare barrier stage on local[N]; each task reserves its port, waits at a barrier so that
starting N Python workers is not counted, and gathers. What counts is the slowest rank's gather.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator
from typing import Any

import psutil
import report

RANKS = (4, 16, 64, 128, 256)
# A Python worker with pyarrow; below this much memory per rank, larger stages are left out.
WORKER_BYTES = 75 * 2**20
TARGET = 1.0


def stage(spark: Any, ranks: int) -> list[float]:
    """Each rank's seconds for reserving a port and gathering everyone's arrivals."""

    def body(batches: Iterator[Any]) -> Iterator[Any]:
        import time

        import pyarrow as pa
        from pyspark import BarrierTaskContext

        from spark_strategy.cluster import Arrival, Fence
        from spark_strategy.spark import rendezvous
        from spark_strategy.topology import MultiWorker

        for _ in batches:
            pass
        context = BarrierTaskContext.get()
        context.barrier()
        rank, fence = context.partitionId(), Fence("benchmark", 0)
        began = time.monotonic()
        with rendezvous.reserve(None) as sock:
            arrival = Arrival(rank, fence, f"127.0.0.1:{sock.getsockname()[1]}")
            cluster, _ = rendezvous.gather(
                context, MultiWorker(ranks), fence, arrival, timeout_s=300
            )
            seconds = time.monotonic() - began
            assert cluster is not None
            assert len(set(cluster.addresses)) == ranks
        yield pa.RecordBatch.from_pylist([{"seconds": seconds}])

    frame = spark.range(0, ranks, 1, ranks)
    rows = frame.mapInArrow(body, "seconds double", barrier=True).collect()
    return [row["seconds"] for row in rows]


def main() -> None:
    """Measure, print, judge."""
    asked = report.arguments(__doc__ or "", rounds=3, most=RANKS[-1])
    room = psutil.virtual_memory().available - 2 * 2**30
    sizes = [ranks for ranks in RANKS if ranks <= asked.most and ranks * WORKER_BYTES < room]
    spark = report.quiet_spark(f"local[{sizes[-1]}]")
    slowest, per_rank = {}, {}
    for ranks in sizes:
        rounds = [max(stage(spark, ranks)) for _ in range(asked.rounds)]
        slowest[ranks] = round(statistics.median(rounds), 3)
        per_rank[ranks] = round(slowest[ranks] / ranks, 5)
        report.progress(f"{ranks} ranks: {slowest[ranks]:.2f} s, {per_rank[ranks]:.4f} s per rank")
    steps = itertools.pairwise(sizes)
    ratio = max((per_rank[larger] / per_rank[smaller] for smaller, larger in steps), default=1.0)
    report.finish(
        "rendezvous",
        ratio=ratio,
        target="seconds per rank never more than at the next smaller size",
        met=ratio <= TARGET,
        check=asked.check,
        seconds=slowest,
        seconds_per_rank=per_rank,
        left_out=[ranks for ranks in RANKS if ranks not in sizes],
    )


if __name__ == "__main__":
    main()
