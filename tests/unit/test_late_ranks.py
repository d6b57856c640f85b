"""Ranks that a run waits for in vain are noticed and named."""

from __future__ import annotations

from dataclasses import replace

from spark_strategy.errors import DeadlineError
from spark_strategy.late_ranks import LAST_S, TaskEnds, none_came, with_unheard
from spark_strategy.outcome import Failure, Reason, Success, Timings, to_error

TASKS = ("worker:0", "worker:1", "worker:2")
WAITED = Failure(0, "worker:0", "host-a", 100.0, Reason.RENDEZVOUS, "waited 40 s for the others")


def test_tasks_that_end_one_after_the_other_are_waited_for() -> None:
    """Each that ends begins the time anew; without any, or with all, there is none."""
    ends = TaskEnds(3)

    assert not ends.stand_still(tasks=3, ended=0, now=1e6)
    assert not ends.stand_still(tasks=3, ended=1, now=1e6)
    assert not ends.stand_still(tasks=3, ended=1, now=1e6 + LAST_S)
    assert not ends.stand_still(tasks=3, ended=2, now=1e6 + LAST_S + 1)
    assert not ends.stand_still(tasks=3, ended=2, now=1e6 + 2 * LAST_S)
    assert ends.stand_still(tasks=3, ended=2, now=1e6 + 2 * LAST_S + 2)
    assert not ends.stand_still(tasks=3, ended=3, now=1e9)


def test_the_tasks_of_another_stage_are_not_the_ranks() -> None:
    """A shuffle before the ranks' stage has a number of its own."""
    ends = TaskEnds(3)

    assert not ends.stand_still(tasks=200, ended=1, now=0.0)
    assert not ends.stand_still(tasks=200, ended=1, now=1e6)


def test_ranks_have_their_own_deadline_and_a_minute_more() -> None:
    """Before the driver says that none will come."""
    assert not none_came(100.0, 40.0)
    assert none_came(101.0, 40.0)


def test_whoever_did_not_come_is_the_cause() -> None:
    """Not the rank that waited for it, nor one that came."""
    found = with_unheard([WAITED], TASKS, {"worker:0", "worker:2"}, 40.0)
    error = to_error([one for one in found if isinstance(one, Failure)])

    assert isinstance(error, DeadlineError)
    assert str(error).startswith("worker:1 (rank 1) on an executor that did not say which had not")
    assert "start_timeout_s=40" in str(error)
    assert "worker:0 on host-a waited 40 s" in str(error)
    assert "worker:2" not in str(error)


def test_nobody_is_named_where_the_driver_hears_nobody() -> None:
    """Nor where every rank has spoken, or failed for another reason."""
    success = Success(1, "worker:1", "host-b", Timings(), 0, b"")
    raised = replace(WAITED, reason=Reason.RAISED)

    assert with_unheard([WAITED], TASKS, {}, 40.0) == (WAITED,)
    assert with_unheard([raised], TASKS, {"worker:0"}, 40.0) == (raised,)
    assert with_unheard([WAITED, success], TASKS[:2], {"worker:0"}, 40.0) == (WAITED, success)
