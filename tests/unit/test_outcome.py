"""Which failure came first, and how it reads."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spark_strategy import errors
from spark_strategy.outcome import (
    Failure,
    Outcome,
    Reason,
    Success,
    Timings,
    from_record,
    in_order_of_blame,
    reason_of,
    to_error,
    to_record,
)

CAUSE = Failure(1, "worker:1", "host-b", 10.0, Reason.RAISED, "raised ValueError: x")
CONSEQUENCE = replace(CAUSE, rank=0, task="worker:0", at=10.2, secondary=True)
STOPPED = replace(CAUSE, rank=2, task="worker:2", at=10.5, reason=Reason.STOPPED)


@given(st.permutations([CAUSE, CONSEQUENCE, STOPPED]))
def test_first_failure_in_time_is_named(failures: list[Failure]) -> None:
    """In whatever order the ranks report."""
    assert in_order_of_blame(failures) == (CAUSE, CONSEQUENCE, STOPPED)


def test_a_host_whose_clock_is_an_hour_off_neither_takes_nor_gives_blame() -> None:
    """The hub's clock decides; it heard worker:1 first, whose host is an hour ahead."""
    ahead = replace(CAUSE, at=3610.0, hub_at=10.0)
    later = replace(CAUSE, rank=0, task="worker:0", at=10.2, hub_at=10.2)
    behind = replace(CAUSE, rank=2, task="worker:2", at=-3589.0, hub_at=11.0)
    assert in_order_of_blame([behind, later, ahead]) == (ahead, later, behind)
    assert from_record(*to_record(ahead)) == ahead


def test_what_the_hub_did_not_hear_of_comes_after_what_it_did() -> None:
    """A rank that could not reach a hub that had ended; among its like, by the hosts' clocks."""
    heard = replace(CAUSE, at=20.0, hub_at=20.0)
    unheard = replace(CAUSE, rank=0, at=5.0, reason=Reason.RENDEZVOUS)
    earlier = replace(unheard, rank=2, at=4.0)
    assert in_order_of_blame([unheard, heard, earlier]) == (heard, earlier, unheard)


def test_a_rank_that_lost_its_peers_is_not_the_cause_if_anything_else_happened() -> None:
    """Neither if it was heard first; TensorFlow's words about others say even less."""
    cut_off = replace(CAUSE, rank=0, reason=Reason.CUT_OFF, at=1.0, hub_at=1.0)
    could_not_come = replace(CAUSE, rank=2, reason=Reason.RENDEZVOUS, at=9.0)
    aborted = replace(CONSEQUENCE, at=0.5, hub_at=0.5)
    failures = [aborted, cut_off, could_not_come]
    assert in_order_of_blame(failures) == (could_not_come, cut_off, aborted)


def test_a_consequence_is_not_the_cause_even_if_its_clock_says_so() -> None:
    """Hosts' clocks differ; what TensorFlow says about its peers does not depend on them."""
    early = replace(CONSEQUENCE, at=1.0)
    stopped = replace(STOPPED, at=0.5)

    assert in_order_of_blame([stopped, early, CAUSE])[0] == CAUSE


def test_among_consequences_alone_the_first_is_named() -> None:
    """A network that was cut leaves nothing but consequences."""
    later = replace(CONSEQUENCE, rank=5, at=11.0)

    assert in_order_of_blame([later, CONSEQUENCE])[0] == CONSEQUENCE


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        (Reason.RAISED, errors.WorkerError),
        (Reason.KILLED, errors.WorkerError),
        (Reason.FROZEN, errors.WorkerError),
        (Reason.DEADLINE, errors.DeadlineError),
        (Reason.UNPICKLABLE, errors.ResultError),
        (Reason.ENVIRONMENT, errors.ExecutorEnvironmentError),
        (Reason.RENDEZVOUS, errors.RendezvousError),
        (Reason.PLAN, errors.PlanError),
    ],
)
def test_the_class_of_the_error_says_whose_move_it_is(
    reason: Reason, kind: type[errors.SparkStrategyError]
) -> None:
    """By the cause's reason, and every failure is kept."""
    error = to_error([STOPPED, replace(CAUSE, reason=reason)])

    assert type(error) is kind
    assert [failure.rank for failure in error.failures] == [1, 2]


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (errors.PlanError("x"), errors.PlanError),
        (errors.CapacityError("x"), errors.CapacityError),
        (errors.DataError("x", column="c"), errors.DataError),
        (errors.UnsupportedKerasError("x"), errors.UnsupportedKerasError),
        (errors.ExecutorEnvironmentError("x"), errors.ExecutorEnvironmentError),
        (errors.ResultError("x"), errors.ResultError),
        (errors.RendezvousError("x"), errors.RendezvousError),
        (errors.WorkerError("x"), errors.WorkerError),
        (ValueError("x"), errors.WorkerError),
    ],
)
def test_the_librarys_own_errors_keep_their_class(
    raised: Exception, kind: type[errors.SparkStrategyError]
) -> None:
    """The driver raises the class that the rank raised; the user's own become WorkerError."""
    assert type(to_error([replace(CAUSE, reason=reason_of(raised))])) is kind


def test_the_message_has_rank_host_traceback_and_the_others() -> None:
    """All that is needed to find the fault, the cause first."""
    cause = replace(CAUSE, traceback="Traceback: here", log_tail="chatter")
    text = str(to_error([CONSEQUENCE, cause, STOPPED]))

    assert text.startswith("worker:1 (rank 1) on host-b raised ValueError: x")
    assert "Traceback: here" in text
    assert "worker:0 on host-b" in text
    assert "worker:2" not in text
    assert "chatter" not in text


def test_a_killed_rank_shows_its_memory_and_last_output() -> None:
    """Where there is no traceback, the last lines take its place."""
    killed = replace(CAUSE, reason=Reason.KILLED, peak_rss_bytes=3 * 2**30, log_tail="the last")

    text = str(to_error([killed]))

    assert "3072 MiB" in text
    assert "the last" in text
    assert "Memory is the usual suspect" in text
    assert "spark.executor.pyspark.memory does not help" in text


@pytest.mark.parametrize(
    "outcome",
    [
        Success(0, "worker:0", "h", Timings(1, 2, 3, 4, 5), 7, b"\x00value"),
        replace(CAUSE, error=b"\x80pickled", traceback="é\n"),
    ],
)
def test_an_outcome_reads_back_from_its_record(outcome: Outcome) -> None:
    """Both ends of the protocol between task and driver."""
    assert from_record(*to_record(outcome)) == outcome


def test_timings_of_a_run_are_those_of_its_slowest_rank() -> None:
    """Phase by phase."""
    assert Timings.longest([Timings(1, 5), Timings(2, 3)]) == Timings(2, 5)
    assert Timings.longest([]) == Timings()


def test_a_thousand_failures_are_told_in_few_words() -> None:
    """The cause in full, some others in brief, the rest by their number."""
    others = [replace(CAUSE, rank=rank, at=20.0, message="x" * 3000) for rank in range(2, 1002)]
    text = str(to_error([CAUSE, *others]))

    assert text.startswith("worker:1 (rank 1) on host-b raised ValueError: x")
    assert "and 980 more; error.failures has them all" in text
    assert len(text) < 15_000


def test_what_a_rank_says_is_bounded_where_the_failure_is_made() -> None:
    """Also by whoever reads a report: message, traceback and output, each with what is missing."""
    long = replace(CAUSE, message="m" * 10_000, traceback="t" * 100_000, log_tail="l" * 100_000)

    assert "... cut, 6,000 characters more" in long.message
    assert "... cut, 68,000 characters here ..." in long.traceback
    assert "... cut, 84,000 characters here ..." in long.log_tail
    assert from_record(*to_record(long)) == long
    assert len(to_record(long)[0]) < 60_000
