"""Launching: ``.run()`` of a function that returns at once, against the floor under it.

The floor is a bare 2-task barrier stage on the same session, then two Python processes started by
hand that import TensorFlow and build the strategy. Both are measured in turns in one run.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any

import floor
import report

from spark_strategy import Launcher, MultiWorker

TARGET = 1.15


def bare_stage(spark: Any) -> float:
    """Seconds of a 2-task barrier stage that does nothing, not even wait at a barrier."""

    def body(batches: Iterator[Any]) -> Iterator[Any]:
        yield from batches

    began = time.monotonic()
    spark.range(0, 2, 1, 2).mapInArrow(body, "id long", barrier=True).toArrow()
    return time.monotonic() - began


def main() -> None:
    """Measure, print, judge."""
    asked = report.arguments(__doc__ or "", rounds=5)
    spark = report.quiet_spark("local[2]")
    launcher = Launcher(MultiWorker(2), spark=spark, logs=None)
    launcher.run(nothing)
    bare_stage(spark)
    floor.run("nothing")
    ratios, ours, floors, phases = [], [], [], {}
    for number in range(asked.rounds):
        stage = bare_stage(spark)
        processes, _ = floor.run("nothing")
        began = time.monotonic()
        result = launcher.run(nothing)
        ours.append(time.monotonic() - began)
        floors.append(stage + processes)
        ratios.append(ours[-1] / floors[-1])
        phases = vars_of(result.timings)
        report.progress(
            f"{number + 1}: run {ours[-1]:.2f} s, stage {stage:.2f} s + processes "
            f"{processes:.2f} s, ratio {ratios[-1]:.3f}, {phases}"
        )
    ratio = statistics.median(ratios)
    report.finish(
        "launch",
        ratio=ratio,
        target=f"median ratio at most {TARGET}",
        met=ratio <= TARGET,
        check=asked.check,
        run_s=round(statistics.median(ours), 3),
        floor_s=round(statistics.median(floors), 3),
        ratios=[round(one, 3) for one in ratios],
        last_run_phases_s=phases,
    )


def nothing() -> int:
    """The function that is run."""
    return 0


def vars_of(timings: Any) -> dict[str, float]:
    """A timings value as a dictionary."""
    return {name: round(getattr(timings, name), 3) for name in timings.__dataclass_fields__}


if __name__ == "__main__":
    main()
