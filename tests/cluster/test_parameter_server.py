"""Parameter-server training on Spark's own processes, as a user would run it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from site_of_processes import Site

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(290)]

PS = [f"/job:ps/replica:0/task:{index}/device:CPU:0" for index in range(2)]


@pytest.fixture(scope="module")
def answer(site: Site) -> dict[str, Any]:
    """What the program saw; chief, two workers and up to two servers in five slots."""
    return site.program("parameter_server", "local[5]").answer(280)


@pytest.fixture(scope="module")
def on_driver(site: Site) -> Iterator[dict[str, Any]]:
    """What a program saw whose chief is on the driver; worker and server in two slots."""
    yield site.program("chief_on_driver", "local[2]").answer(220)
    assert site.left_by_runs() == []


def test_a_custom_loop_runs_on_the_chief_alone(answer: dict[str, Any]) -> None:
    """300 scheduled steps are 300 steps, and a variable is split as the partitioner says."""
    assert answer["loop"]["task"] == "chief:0"
    assert answer["loop"]["callers"] == answer["values"] == 1
    assert answer["loop"]["counted"] == 300
    assert sorted(answer["loop"]["shards"]) == PS
    assert answer["hosts"] == 5


def test_no_step_and_no_row_is_lost_or_counted_twice(answer: dict[str, Any]) -> None:
    """Two workers at once: iterations are the steps, a metric's rows the rows; epochs wait."""
    history, seen = answer["keras3"]["history"], answer["keras3"]["seen"]
    assert [iterations for _, _, iterations in seen] == [200, 400, 600]
    assert history["rows"] == [1600.0] * 3
    assert history["val_rows"] == [200.0] * 3
    assert history["accuracy"][-1] > 0.9
    # A metric that the parameter servers hold agrees with the loss, which they hold as well.
    assert history["entropy"] == pytest.approx(history["loss"], rel=1e-5)
    assert answer["keras3"]["devices"] == PS


def test_evaluation_and_prediction_are_those_of_the_rows(answer: dict[str, Any]) -> None:
    """Compared with NumPy: predictions in order, a weighted loss, rows once."""
    loss, expected, rows = answer["keras3"]["evaluated"]
    assert answer["keras3"]["prediction"] < 1e-5
    assert loss == pytest.approx(expected, rel=1e-4)
    assert rows == 200.0


def test_what_fit_is_asked_for(answer: dict[str, Any]) -> None:
    """Class weights, steps_per_execution, callbacks that save, stop and resume, own steps."""
    found = answer["keras3"]
    assert found["class_weight"][0] == pytest.approx(found["class_weight"][1], rel=1e-4)
    assert found["executions"] == [10, 2000.0]
    assert found["stopped"] == 2
    assert found["best"] == 8 * 8 + 8 + 8 * 2 + 2
    assert found["own"][1] < found["own"][0]
    assert found["resumed"] == [[1, 2], 30]


def test_workers_read_their_own_share_of_files(answer: dict[str, Any]) -> None:
    """Each record once where it is evaluated; as many steps as all workers have batches."""
    losses, steps, rows = answer["keras3"]["files"]
    assert losses[-1] < losses[0]
    # 150 records in halves, 37 and 13 whole: 12 batches of one worker and 9 of the other.
    assert steps == 20 * (12 + 9)
    assert rows == 200.0


def test_a_model_can_be_placed_by_hand(answer: dict[str, Any]) -> None:
    """A layer on each worker; forward and backward are those of the whole."""
    first, second, off = answer["loop"]["placed"]
    assert first.startswith("/job:worker/replica:0/task:0")
    assert second.startswith("/job:worker/replica:0/task:1")
    assert off < 1e-9


def test_a_large_table_is_split_over_the_servers_and_saved_whole(answer: dict[str, Any]) -> None:
    """Each half on its own server; the model that comes back has one table."""
    table = answer["keras3"]["table"]
    assert [shape for shape, _ in table.values()] == [[51, 4], [50, 4]]
    assert sorted(device for _, device in table.values()) == PS
    assert answer["keras3"]["learned"] < 0.1
    assert answer["words"] == [[101, 4], "Sequential"]


def test_tf_keras_trains_with_its_dataset_creator(answer: dict[str, Any]) -> None:
    """As upstream has it."""
    (first, last), iterations = answer["keras2"]
    assert last < first
    assert iterations == 100


def test_fit_on_a_dataframe_only_changes_its_topology(answer: dict[str, Any]) -> None:
    """Both learn the line and say the same things; only workers get rows."""
    by_servers, by_all_reduce = answer["fits"]
    assert set(by_servers["history"]) == set(by_all_reduce["history"])
    for found in answer["fits"]:
        slopes, offset = found["weights"]
        assert np.ravel(slopes) == pytest.approx([2.0, -1.0], abs=0.01)
        assert offset == pytest.approx([3.0], abs=0.01)
    assert by_servers["rows"][0] == by_servers["rows"][3] == 0
    assert sum(by_servers["rows"]) == 400
    assert abs(by_servers["rows"][1] - by_servers["rows"][2]) <= 7


def test_a_chief_on_the_driver_takes_no_slot(on_driver: dict[str, Any]) -> None:
    """Three ranks in two slots; the chief's guard is the driver's child; rows go to the worker."""
    value = on_driver["value"]
    assert value["task"] == "chief:0"
    assert value["ancestors"][0] == on_driver["driver"]
    assert value["threads"] == "1"
    assert value["gpus"] == ""
    (slopes, offset) = value["weights"]
    assert slopes == pytest.approx([2.0, -1.0], abs=0.01)
    assert offset == pytest.approx([3.0], abs=0.01)
    assert on_driver["ranks"] == 3
    assert on_driver["rows"] == [0, 400, 0]
    assert on_driver["said"] == ["chief:0 | trained"]
    assert on_driver["warned"] == []
    assert "slots              2 of 2" in on_driver["plan"]
    assert "needs 3 tasks at once but Spark has 2 slots" in on_driver["too_large"]["error"]
    assert "has no IPv4 address on interface='ib9'" in on_driver["elsewhere"]["error"]


def test_a_chief_on_the_driver_fails_as_any_rank(on_driver: dict[str, Any]) -> None:
    """Its own traceback, and the user's own exception as the cause."""
    refused = on_driver["refused"]
    assert refused["first"] == ["chief:0", "raised"]
    assert refused["from"] == "ValueError('the chief has had enough')"
    assert "chief:0's own traceback:\n" in refused["error"]
    assert ", in refuse\n" in refused["error"]


def test_a_lost_server_ends_the_chief_on_the_driver(on_driver: dict[str, Any]) -> None:
    """The server is the cause, and not what the chief noticed of it."""
    assert on_driver["lost"]["first"] == ["ps:0", "killed"]
    assert on_driver["lost"]["error"].startswith("ps:0 (rank 2) on ")


def test_ctrl_c_ends_the_chief_on_the_driver(on_driver: dict[str, Any]) -> None:
    """When the call returns, its process is gone; the executors' follow; no port listens."""
    assert on_driver["interrupted"] == "KeyboardInterrupt"
    assert on_driver["jobs"] == []
    assert on_driver["left"] == on_driver["left later"] == []
    assert on_driver["listening"] == []
