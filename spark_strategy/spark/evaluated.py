"""How an evaluator's task ended, as the run sees it."""

from __future__ import annotations

from dataclasses import replace

from spark_strategy.evaluator import EvaluatorReport
from spark_strategy.folder import ChildFolder
from spark_strategy.outcome import Failure, Outcome, Reason, Success, Timings


def evaluated(outcome: Outcome, folder: ChildFolder) -> Outcome:
    """An evaluator's own end is no failure of the run; what it evaluated before counts."""
    problem = ""
    if isinstance(outcome, Failure):
        if outcome.reason in (Reason.STOPPED, Reason.LOST, Reason.CUT_OFF):
            return outcome
        problem = outcome.message
        outcome = Success(
            outcome.rank, outcome.task, outcome.host, Timings(), outcome.peak_rss_bytes, b""
        )
    report = EvaluatorReport(folder.read_evaluations(), problem)
    return replace(outcome, value=report.to_json())
