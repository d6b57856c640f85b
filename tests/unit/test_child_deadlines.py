"""Which of a child's deadlines has passed, by a clock that the test turns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from spark_strategy.evaluator import Evaluation
from spark_strategy.folder import ChildFolder
from spark_strategy.outcome import Reason
from spark_strategy.plan import Orders
from spark_strategy.spark.child_deadlines import VALUE_S, ChildDeadlines


@dataclass
class Clock:
    """Seconds, as the test says."""

    now: float = 0.0

    def __call__(self) -> float:
        """Them."""
        return self.now


@pytest.fixture
def folder(tmp_path: Path) -> ChildFolder:
    """A child's folder."""
    return ChildFolder(tmp_path)


def deadlines(folder: ChildFolder, clock: Clock, **orders: float) -> ChildDeadlines:
    """Of a task that begins at 0, with half a minute for an evaluation."""
    return ChildDeadlines(folder, Orders(**orders), began=0.0, evaluation_s=30.0, clock=clock)  # type: ignore[arg-type]


def test_the_start_and_the_run_have_their_deadlines(folder: ChildFolder) -> None:
    """Each by its own option, and the start again for a process that was lost."""
    clock = Clock()
    of = deadlines(folder, clock, start_timeout_s=10.0, timeout_s=100.0)

    assert of.passed(training_ended=False) is None
    clock.now = 11.0
    found = of.passed(training_ended=False)
    assert found is not None
    assert found[0] is Reason.START_DEADLINE
    assert "start_timeout_s=10" in found[1]
    of.start_again()
    assert of.passed(training_ended=False) is None
    folder.mark_started()
    clock.now = 99.0
    assert of.passed(training_ended=False) is None
    clock.now = 101.0
    found = of.passed(training_ended=False)
    assert found == (Reason.DEADLINE, "still ran when timeout_s=100 had passed")


def test_a_function_may_run_for_ever_but_not_the_pickling_of_its_value(
    folder: ChildFolder,
) -> None:
    """A ``__reduce__`` that blocks, with ``timeout_s=None``."""
    clock = Clock()
    of = deadlines(folder, clock)
    folder.mark_started()
    clock.now = 1e6
    assert of.passed(training_ended=False) is None
    folder.mark_returned()
    assert of.passed(training_ended=False) is None
    clock.now += VALUE_S + 1
    found = of.passed(training_ended=False)

    assert found is not None
    assert found[0] is Reason.UNPICKLABLE
    assert "could not be pickled within 600 s" in found[1]


def test_an_evaluator_has_its_time_for_each_evaluation_once_training_has_ended(
    folder: ChildFolder,
) -> None:
    """Before that nothing waits for it; each evaluation that ends begins the time anew."""
    clock = Clock()
    of = deadlines(folder, clock)
    folder.mark_started()
    clock.now = 1e6
    assert of.passed(training_ended=False) is None
    assert of.passed(training_ended=True) is None
    clock.now += 29.0
    assert of.passed(training_ended=True) is None
    folder.write_evaluations([Evaluation("a", 1, {}, 1.0)])
    assert of.passed(training_ended=True) is None
    clock.now += 29.0
    assert of.passed(training_ended=True) is None
    clock.now += 2.0
    found = of.passed(training_ended=True)

    assert found is not None
    assert found[0] is Reason.DEADLINE
    assert "within the 30 s that Evaluator(timeout_s=...) allows after training" in found[1]
