"""Independent calls on a real local Spark: each in a process of its own, none in another's way."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from spark_strategy import Independent, Launcher, MapResult, MultiWorker, distribute, get_context
from spark_strategy.errors import PlanError, ResultError, WorkerError

pytestmark = pytest.mark.usefixtures("spark", "leaves_nothing")


def describe(tag: str = "") -> dict[str, Any]:
    """What a call sees of its surroundings."""
    import tensorflow as tf

    context = get_context()
    print(f"here is {tag}")
    return {
        "tag": tag,
        "task": str(context.task),
        "rank": context.rank,
        "of": context.num_workers,
        "chief": context.is_chief,
        "default strategy": not tf.distribute.has_strategy(),
        "config": os.environ.get("TF_CONFIG"),
        "threads": os.environ["OMP_NUM_THREADS"],
        "gpus": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "pid": os.getpid(),
    }


def test_run_makes_n_calls_and_gives_their_values_by_number() -> None:
    """Each call is rank 0 of 1 in a clean process: no cluster, no strategy, its own threads."""
    result = Launcher(Independent(2), gpus_per_worker=0, logs=None).run(describe, "x")

    assert [value["task"] for value in result.values] == ["item:0", "item:1"]
    assert result.value == result.values[0]
    assert len({value["pid"] for value in result.values}) == 2
    for value in result.values:
        assert (value["rank"], value["of"], value["chief"]) == (0, 1, True)
        assert value["default strategy"]
        assert value["config"] is None
        assert (value["threads"], value["gpus"]) == ("1", "")
    assert len(result.hosts) == 2
    assert all(peak > 100 * 2**20 for peak in result.peak_rss_bytes)


def test_map_gives_each_item_its_value_or_its_error_in_order(tmp_path: Path) -> None:
    """More items than slots wait, in a generator; each has its own end, and is called once."""
    lines: list[str] = []
    called = tmp_path / "called"

    @distribute(Independent(2), logs=lines.append)
    def square(n: int) -> Any:
        print(f"n is {n}")
        with called.open("a") as file:
            file.write(f"{n}\n")
        if n == 1:
            raise ValueError("one is not liked")
        if n == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return threading.Lock() if n == 3 else n * n

    items = [{"n": n} for n in (5, 1, 2, 3, 4)]
    result = square.map(item for item in items)

    assert isinstance(result, MapResult)
    assert result.items == tuple(items)
    assert result.succeeded == {0: 25, 4: 16}
    raised, killed, unpicklable = result.failed.values()
    assert isinstance(raised, WorkerError)
    assert "item:1 (rank 1)" in str(raised)
    assert isinstance(raised.__cause__, ValueError)
    assert "SIGKILL" in str(killed)
    assert isinstance(unpicklable, ResultError)
    with pytest.raises(WorkerError, match="ValueError: one is not liked"):
        _ = result.values
    # Spark repeats failed tasks, and these calls did not fail for Spark.
    assert sorted(called.read_text().split()) == ["1", "2", "3", "4", "5"]
    assert "item:0 | n is 5" in lines
    assert "item:4 | n is 4" in lines
    first, second, *_ = result.summary().splitlines()
    assert re.fullmatch(r"{'n': 5} \d+\.\d s on \S+", first)
    assert second.startswith("{'n': 1} item:1 (rank 1) on ")


def test_too_many_failures_stop_the_rest_at_once(tmp_path: Path) -> None:
    """The running call is ended, the waiting one is not made; values names the cause."""
    begun = tmp_path / "begun"

    def call(work: str) -> None:
        deadline = time.monotonic() + 120
        if work == "fail":
            while not begun.exists():
                assert time.monotonic() < deadline
                time.sleep(0.05)
            raise KeyError("no such thing")
        begun.touch()
        time.sleep(120)

    started = time.monotonic()
    items = [{"work": "sleep"}, {"work": "fail"}, {"work": "sleep"}]
    result = Launcher(Independent(2), logs=None).map(call, items, max_failures=0)

    assert time.monotonic() - started < 100
    assert not result.succeeded
    running, failed, waiting = result.failed.values()
    assert "was stopped, because" in str(running)
    assert "KeyError" in str(failed)
    assert "was not called, because" in str(waiting)
    with pytest.raises(WorkerError, match="KeyError"):
        _ = result.values


def test_a_run_raises_the_first_cause() -> None:
    """run() needs the value of every call."""

    def fail_in_one() -> str:
        if get_context().task.index == 1:
            raise RuntimeError("the second")
        return "fine"

    with pytest.raises(WorkerError, match=r"item:1 \(rank 1\) .*RuntimeError: the second"):
        Launcher(Independent(2), logs=None).run(fail_in_one)


def test_every_call_is_fed_with_all_rows(spark: SparkSession) -> None:
    """A trial trains on the whole DataFrame, however many run beside it."""

    def count(batch_size: int) -> tuple[int, int]:
        batches = list(get_context().dataset(batch_size=batch_size))
        return len(batches), sum(int(batch["id"].shape[0]) for batch in batches)

    frame = spark.range(0, 1000, 1, 3)
    result = (
        Launcher(Independent(2), logs=None)
        .on(frame)
        .map(count, [{"batch_size": 100}, {"batch_size": 512}])
    )

    assert result.values == ((10, 1000), (2, 1000))


def test_what_makes_no_sense_is_refused_before_anything_starts() -> None:
    """Another topology, items that are no dictionaries, none at all, a bad number."""
    launcher = Launcher(Independent(1), logs=None)
    with pytest.raises(PlanError, match=r"MultiWorker\(2\) work on one call together"):
        Launcher(MultiWorker(2)).map(describe, [{}])
    with pytest.raises(PlanError, match="item 1 is 3"):
        launcher.map(describe, [{}, 3])  # type: ignore[list-item]
    with pytest.raises(PlanError, match="list of dictionaries"):
        launcher.map(describe, {"tag": "x"})  # type: ignore[arg-type]
    with pytest.raises(PlanError, match="no item to map over"):
        launcher.map(describe, [])
    with pytest.raises(PlanError, match="max_failures is a whole number of at least 0, found -1"):
        launcher.map(describe, [{}], max_failures=-1)


def test_no_slots_are_demanded_at_once() -> None:
    """Eight calls at a time are a wish; Spark with two slots runs two."""
    plan = Launcher(Independent(8), logs=None).plan()

    assert "up to 8 of 2" in str(plan)
