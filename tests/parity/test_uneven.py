"""Ranks with different numbers of rows, and none, train like one process on the same steps."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

import models
import uneven_cases
from agreement import assert_equal, assert_parity
from uneven_cases import Cut

pytestmark = [pytest.mark.parity, pytest.mark.timeout(300)]

# Rank 1 has no row in most steps, and rank 0 in those of the validation data.
LOPSIDED = Cut((50, 3), 8)
LOPSIDED_AND_KNOWN = Cut((50, 3), 8, known=True)

MODELS: dict[str, tuple[Any, ...]] = {
    "class weights": (
        *(LOPSIDED_AND_KNOWN, models.classifier),
        *({"class_weight": {0: 1.0, 1: 2.0, 2: 0.5}}, {"steps_per_execution": 3}),
    ),
    "AUC and top-k": (LOPSIDED, models.many_metrics),
    "a loss function's own mean": (LOPSIDED, uneven_cases.own_mean),
    "a train_step of its own": (LOPSIDED, uneven_cases.own_step),
    "convolution, synchronized batch norm": (LOPSIDED, uneven_cases.convolution),
    "steps_per_epoch": (
        *(LOPSIDED, models.classifier),
        {"steps_per_epoch": 3, "validation_steps": 2, "epochs": 3},
    ),
}


# Shrinking a failure would take many runs of three processes.
@settings(max_examples=6, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
@given(
    cut=st.builds(
        Cut,
        st.tuples(st.integers(0, 60), st.integers(0, 60)).filter(any),
        st.integers(2, 32),
        st.booleans(),
    ),
    epochs=st.integers(1, 3),
)
@example(cut=Cut((0, 9), 8), epochs=2)
@pytest.mark.timeout(600)
def test_any_cut_equals_one_process(pools: Any, flavour: str, cut: Cut, epochs: int) -> None:
    """History, validation, evaluation, weights and iterations, to 1e-5, with every kind of loss."""
    outcome = pools.run(
        flavour, uneven_cases.train, cut, uneven_cases.everything, {"epochs": epochs}
    )
    assert outcome.single["iterations"] == cut.steps * epochs
    assert_parity(outcome)


@pytest.mark.parametrize("name", MODELS)
def test_lopsided_training_equals_one_process(pools: Any, flavour: str, name: str) -> None:
    """A rank that mostly has no rows changes nothing, whatever the model is made of."""
    assert_parity(pools.run(flavour, uneven_cases.train, *MODELS[name]))


def test_sum_over_rows_equals_one_process(pools: Any, flavour: str) -> None:
    """A loss with reduction="sum"; what tf_keras reports of it assumes equal batches."""
    outcome = pools.run(flavour, uneven_cases.train, LOPSIDED, uneven_cases.summed)
    compared = ("weights", "iterations") if flavour == "tf_keras" else tuple(outcome.single)
    for rank in outcome.ranks:
        assert_equal({k: outcome.single[k] for k in compared}, {k: rank[k] for k in compared})


def test_several_steps_per_execution_stop_at_the_end(pools: Any, keras3: str) -> None:
    """7 steps, 3 at a time, of data that does not say how long it is. tf_keras refuses that."""
    assert_parity(
        pools.run(
            keras3,
            *(uneven_cases.train, LOPSIDED, models.classifier, None, {"steps_per_execution": 3}),
        )
    )


def test_batch_norm_passes_over_a_rank_without_rows(pools: Any, flavour: str) -> None:
    """Statistics per replica, of which one never has rows: those of the other, on both."""
    assert_parity(pools.run(flavour, uneven_cases.batch_norm, Cut((50, 0), 8)))


def test_batch_norm_stays_finite_and_equal_on_ranks(pools: Any, flavour: str) -> None:
    """Statistics per replica, of which one has rows now and then."""
    first, second = pools.run(flavour, uneven_cases.batch_norm, LOPSIDED).ranks
    assert_equal(first, second, 0.0)
    assert all(np.isfinite(value).all() for value in first["weights"])


def test_predict_gives_every_rank_the_union_of_each_step(pools: Any, flavour: str) -> None:
    """In the order of steps, and in a step of ranks; uneven and empty parts do not hang."""
    assert_parity(pools.run(flavour, uneven_cases.predict, LOPSIDED))


def test_custom_loop_equals_one_process(pools: Any, flavour: str) -> None:
    """strategy.run over the dataset, with compute_average_loss by the rows of the step."""
    assert_parity(pools.run(flavour, uneven_cases.custom_loop, LOPSIDED))


SEVERAL_LOCAL_REPLICAS = """
import tensorflow as tf
from spark_strategy.worker.sharded import keep_shards, sharded

(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
keep_shards()
keep_shards()
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
batches = sharded(tf.data.Dataset.range(6).batch(2)).map(lambda batch: batch)
for step in strategy.experimental_distribute_dataset(batches.take(2)):
    print(*(part.numpy().tolist() for part in strategy.experimental_local_results(step)))
for step in strategy.experimental_distribute_dataset(tf.data.Dataset.range(4).batch(4)):
    print(*(part.numpy().tolist() for part in strategy.experimental_local_results(step)))
"""


def test_several_local_replicas_take_an_element_each() -> None:
    """A marked dataset is not split; one without a mark is, as ever."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", SEVERAL_LOCAL_REPLICAS]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.splitlines() == ["[0, 1] [2, 3]", "[0, 1] [2, 3]"], done.stderr
