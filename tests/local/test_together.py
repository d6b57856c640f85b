"""Two runs at once in one driver: in two threads of one session, and in two sessions."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from pyspark.sql import SparkSession

from spark_strategy import Launcher, MultiWorker, get_context
from spark_strategy.errors import WorkerError

pytestmark = pytest.mark.usefixtures("leaves_nothing")


@pytest.mark.parametrize("sessions", ["one", "two"])
def test_each_run_gets_its_own_rows_lines_and_end(spark: SparkSession, sessions: str) -> None:
    """The failure of one is its own; the other ends with its value, and both with their output."""
    other = spark if sessions == "one" else spark.newSession()
    views = ("few", "many") if sessions == "one" else ("rows", "rows")
    spark.range(10).createOrReplaceTempView(views[0])
    other.range(1000).createOrReplaceTempView(views[1])
    begun = threading.Barrier(2)

    def total(fails: bool) -> int:
        rows = sum(int(batch["id"].shape[0]) for batch in get_context().dataset(batch_size=100))
        print(f"{rows} rows")
        if fails:
            raise LookupError(f"{rows} are too many")
        return rows

    def run(session: SparkSession, view: str, fails: bool) -> tuple[int, list[str]]:
        lines: list[str] = []
        launcher = Launcher(MultiWorker(1), spark=session, logs=lines.append, scope=False)
        begun.wait(60)
        result = launcher.on(session.table(view)).run(total, fails=fails)
        return result.value, lines

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(run, spark, views[0], False)
        second = pool.submit(run, other, views[1], True)

        value, lines = first.result()
        with pytest.raises(WorkerError, match="LookupError: 1000 are too many"):
            second.result()

    assert value == 10
    assert [line for line in lines if "rows" in line] == ["worker:0 | 10 rows"]
