"""Training speed: steps per second of a Keras model under ``distribute`` against the floor.

The floor is the same function in two processes started by hand with the same thread counts.
"""

from __future__ import annotations

import statistics

import floor
import report

import cases
from spark_strategy import Launcher, MultiWorker

TARGET = 0.95


def main() -> None:
    """Measure, print, judge."""
    asked = report.arguments(__doc__ or "", rounds=5)
    spark = report.quiet_spark("local[2]")
    launcher = Launcher(MultiWorker(2), spark=spark, logs=None)
    ours, floors = [], []
    for number in range(asked.rounds):
        # A drifting load meets both sides alike: first one of them goes first, then the other.
        for side in (ours, floors) if number % 2 else (floors, ours):
            if side is ours:
                side.append(min(launcher.run(cases.steps_per_second).values))
            else:
                side.append(min(floor.run("steps_per_second")[1]))
        report.progress(f"{number + 1}: run {ours[-1]:.1f}, floor {floors[-1]:.1f} steps/s")
    ratio = statistics.median(one / other for one, other in zip(ours, floors, strict=True))
    report.finish(
        "train",
        ratio=ratio,
        target=f"median ratio at least {TARGET} (aim 0.98)",
        met=ratio >= TARGET,
        check=asked.check,
        run_steps_per_s=[round(one, 1) for one in ours],
        floor_steps_per_s=[round(one, 1) for one in floors],
    )


if __name__ == "__main__":
    main()
