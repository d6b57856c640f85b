"""Saves and callbacks end in one complete artifact at the path the user named."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest

import saving_cases
from agreement import assert_equal, assert_parity

pytestmark = [pytest.mark.parity, pytest.mark.timeout(300)]


@pytest.mark.parametrize("who", ["all", "chief"])
@pytest.mark.parametrize("name", ["model.keras", "some.weights.h5", "exported"])
def test_save_leaves_one_artifact(pools: Any, flavour: str, name: str, who: str) -> None:
    """Called by all ranks or by the chief alone: no hang, one artifact, equal to one process's."""
    assert_parity(pools.run(flavour, saving_cases.save, name, who))
    outcome = pools.run(flavour, saving_cases.load, name)
    single, ranks = outcome.single
    assert_equal(single, ranks)
    left = [file for file in outcome.ranks[0] if not file.startswith(f"{name}/")]
    assert left == ([] if name == "exported" else [name])


@pytest.mark.parametrize("who", ["all", "chief"])
@pytest.mark.parametrize("name", ["model.keras", "folder"])
def test_context_save_replaces_what_was_there(
    pools: Any, flavour: str, name: str, who: str
) -> None:
    """get_context().save, with BatchNormalization's statistics, over a previous artifact."""
    outcome = pools.run(flavour, saving_cases.save_by_context, name, who)
    assert_equal(outcome.ranks[0], outcome.ranks[1], 0.0)
    left = pools.run(flavour, saving_cases.load_files).ranks[0]
    assert [file for file in left if not file.startswith("folder/")] == (
        [] if name == "folder" else [name]
    )


CHECKPOINTS = {
    "every epoch": ("at-{epoch:02d}.keras", {}),
    "the best": ("best.keras", {"save_best_only": True}),
    "named by a metric": ("{epoch}-{val_loss:.3f}.keras", {}),
    "weights": ("{epoch}.weights.h5", {"save_weights_only": True}),
    "every three batches": ("{epoch}-{batch}.keras", {"save_freq": 3}),
}


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_model_checkpoint_unmodified(pools: Any, flavour: str, kind: str) -> None:
    """The same files as in one process, and the same training, with the callback on all ranks."""
    assert_parity(pools.run(flavour, saving_cases.checkpoint, *CHECKPOINTS[kind]))
    outcome = pools.run(flavour, saving_cases.load_files)
    assert outcome.ranks[0] == outcome.single
    assert outcome.single


def test_callbacks_that_steer_training(pools: Any, flavour: str) -> None:
    """EarlyStopping, ReduceLROnPlateau and LearningRateScheduler act as in one process."""
    assert_parity(pools.run(flavour, saving_cases.schedules))


def test_csv_logger_writes_once(pools: Any, flavour: str) -> None:
    """One log, with the numbers of one process."""
    pools.run(flavour, saving_cases.logged, "CSVLogger")
    outcome = pools.run(flavour, saving_cases.read_log)
    assert_equal(outcome.single, outcome.ranks[0])


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="needs tensorboard")
def test_tensorboard_writes_once(pools: Any, flavour: str) -> None:
    """The chief's event files only, in the folders of one process."""
    pools.run(flavour, saving_cases.logged, "TensorBoard")
    outcome = pools.run(flavour, saving_cases.event_folders)
    assert outcome.single == outcome.ranks[0]


@pytest.mark.parametrize("save_freq", ["epoch", 2])
def test_backup_seen_by_the_chief_resumes_all(pools: Any, flavour: str, save_freq: Any) -> None:
    """Cut off and resumed, with the backup on the chief's host only: as in one process."""
    assert_parity(pools.run(flavour, saving_cases.interrupted, save_freq))
    assert pools.run(flavour, saving_cases.load_files).ranks[0] == []


def test_failed_save_keeps_the_old_artifact(pools: Any, keras3: str) -> None:
    """A save that raises leaves the previous file as it was, and nothing beside it."""
    pools.run(keras3, saving_cases.failing_save)
    assert pools.run(keras3, saving_cases.load_files).ranks[0] == ["kept.txt"]


def test_models_travel_to_a_process_without_a_strategy(pools: Any, flavour: str) -> None:
    """Closure-defined classes, lambdas, compile and optimizer state arrive; training goes on."""
    sent = pools.run(flavour, saving_cases.travelling)
    pickled, predicted, steps = sent.ranks[0]
    outcome = pools.run(flavour, saving_cases.arrived, pickled)
    assert_equal((predicted, steps, (128, 1)), outcome.single[:3])
    assert outcome.single[3] == "both"
