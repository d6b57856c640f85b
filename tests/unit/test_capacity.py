"""How many tasks a session can run at once, and when waiting for more is in vain."""

from __future__ import annotations

import pytest

from spark_strategy.errors import CapacityError
from spark_strategy.plan import Capacity, LaunchPlan, Orders
from spark_strategy.spark.capacity import address_space_mib
from spark_strategy.spark.executors import Demand, Registered, is_final, local_cores
from spark_strategy.topology import Independent, MultiWorker, Topology

YARN = Demand.of("yarn", {"spark.executor.instances": "4", "spark.executor.cores": "2"})


@pytest.mark.parametrize(
    ("master", "cores"),
    [
        ("local", 1),
        ("local[3]", 3),
        ("local[2,4]", 2),
        ("local[2, 4]", 2),
        ("local[ 12 ]", 12),
        ("local[*]", None),
        ("local[*,4]", None),
        ("local[*, 4]", None),
        ("local-cluster[2,3,1024]", 3),
        ("local-cluster[2, 3, 1024]", 3),
        ("spark://host:7077", None),
        ("yarn", None),
    ],
)
def test_a_local_master_says_its_cores(master: str, cores: int | None) -> None:
    """The first number of local[n, failures] is cores; of local-cluster it is the second."""
    assert local_cores(master) == cores


@pytest.mark.parametrize(
    ("master", "conf", "executors", "cores", "most"),
    [
        ("yarn", {}, 2, None, 2),
        ("yarn", {"spark.executor.instances": "4", "spark.executor.cores": "3"}, 4, None, 4),
        ("k8s://https://h", {"spark.executor.instances": "5"}, 5, None, 0),
        ("local-cluster[2, 4, 1024]", {}, 2, None, 4),
        ("spark://h:7077", {"spark.cores.max": "6"}, None, 6, 3),
        ("spark://h:7077", {}, None, None, None),
    ],
)
def test_what_was_asked_for_is_what_the_masters_own_settings_say(
    master: str, conf: dict[str, str], executors: int | None, cores: int | None, most: int | None
) -> None:
    """YARN and Kubernetes count executors, Standalone counts cores; tasks of one or two cpus."""
    demand = Demand.of(master, conf)

    assert (demand.executors, demand.cores) == (executors, cores)
    assert demand.most_slots(1 if master == "yarn" and not conf else 2) == most


def test_a_count_that_stands_still_is_not_final_while_executors_are_to_come() -> None:
    """Executors register more than ten seconds apart, and a lost one is replaced."""
    assert not is_final(YARN, Registered(6, 3, 6), 8, still_s=250)
    assert is_final(YARN, Registered(8, 4, 8), 8, still_s=0)


def test_when_all_that_was_asked_for_has_come_nobody_waits() -> None:
    """Too few is answered at once where no more can come."""
    assert is_final(YARN, Registered(8, 4, 8), 9, still_s=0)
    standalone = Demand.of("spark://h", {"spark.cores.max": "5", "spark.executor.cores": "2"})
    assert is_final(standalone, Registered(4, 2, 4), 8, still_s=0)
    assert not is_final(standalone, Registered(2, 1, 2), 8, still_s=250)


def test_where_nobody_says_what_will_come_the_count_must_stand_still() -> None:
    """Standalone without spark.cores.max; and no executor at all is never the end."""
    anything = Demand.of("spark://h", {})

    assert not is_final(anything, Registered(2, 1, 2), 4, still_s=15)
    assert is_final(anything, Registered(2, 1, 2), 4, still_s=31)
    assert not is_final(anything, Registered(0, 0, 0), 4, still_s=250)


@pytest.mark.parametrize(
    ("topology", "needed"), [(MultiWorker(2), "4,096"), (Independent(2), "3,072")]
)
def test_too_little_address_space_is_refused_before_launch(topology: Topology, needed: str) -> None:
    """A rank would abort in native code, and the setting looks like the remedy for that."""
    with pytest.raises(CapacityError) as caught:
        LaunchPlan(topology, Orders(), Capacity("yarn", slots=2, address_space_mib=2048))

    assert "spark.executor.pyspark.memory leaves each rank 2,048 MiB" in str(caught.value)
    assert f"needs {needed} MiB" in str(caught.value)
    assert "spark.executor.memoryOverhead" in str(caught.value)
    LaunchPlan(topology, Orders(), Capacity("yarn", slots=2, address_space_mib=4096))


@pytest.mark.parametrize(
    ("conf", "mib"),
    [
        ({"spark.executor.pyspark.memory": "2g"}, 2048),
        ({"spark.executor.pyspark.memory": "6000"}, 6000),
        ({"spark.executor.pyspark.memory": "8g", "spark.executor.cores": "4"}, 2048),
        ({}, 0),
    ],
)
def test_each_python_worker_gets_its_part_of_the_memory(conf: dict[str, str], mib: int) -> None:
    """As Spark applies the setting: MiB by default, divided by the executor's cores."""
    assert address_space_mib(conf.get) == mib
