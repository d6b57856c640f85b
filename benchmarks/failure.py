"""Failure: seconds from a worker's death to the exception on the driver.

Rank 1 writes down the time and dies in one of four ways; rank 0 waits for it in a collective.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import report

from spark_strategy import Launcher, MultiWorker, errors, get_context

TARGETS_S = {"exception": 3.0, "SIGKILL": 3.0, "SIGSTOP": 15.0, "executor": 5.0}


def die(how: str, stamp: str) -> None:
    """Rank 1 dies, rank 0 waits for it."""
    import os
    import signal
    import time
    from pathlib import Path

    import psutil
    import tensorflow as tf

    strategy = get_context().strategy

    @tf.function
    def meet() -> Any:
        return strategy.reduce("SUM", strategy.run(lambda: tf.constant(1.0)), axis=None)

    meet()
    if get_context().rank == 0:
        meet()
        return
    time.sleep(1.0)
    Path(stamp).write_text(str(time.time()))
    if how == "exception":
        raise ValueError("planned")
    if how == "executor":
        next(one for one in psutil.Process().parents() if one.name() == "java").kill()
    else:
        os.kill(os.getpid(), signal.Signals[how])
    time.sleep(600)


def seconds(launcher: Launcher, how: str) -> float:
    """From death to exception."""
    with tempfile.TemporaryDirectory() as folder:
        stamp = Path(folder) / "died"
        try:
            launcher.run(die, how, str(stamp))
        except errors.WorkerError as error:
            report.progress(f"{how}: {str(error).splitlines()[0]}")
            return time.time() - float(stamp.read_text())
    raise RuntimeError(f"{how}: the run did not fail")


def main() -> None:
    """Measure, print, judge."""
    asked = report.arguments(__doc__ or "", rounds=3)
    spark = report.quiet_spark("local-cluster[2,1,1024]")
    launcher = Launcher(MultiWorker(2), spark=spark, logs=None, timeout_s=200)
    found = {
        how: [round(seconds(launcher, how), 2) for _ in range(asked.rounds)] for how in TARGETS_S
    }
    medians = {how: statistics.median(times) for how, times in found.items()}
    ratio = max(medians[how] / target for how, target in TARGETS_S.items())
    report.finish(
        "failure",
        ratio=ratio,
        target="every median at most its target, so the largest quotient at most 1",
        met=ratio <= 1,
        check=asked.check,
        targets_s=TARGETS_S,
        medians_s=medians,
        seconds=found,
    )


if __name__ == "__main__":
    main()
