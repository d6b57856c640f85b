"""How a rank's outcome reaches the driver: as a row, or in the text of an error; both ends.

The theory. A rank's row comes through Spark's own channel. Where some ranks do not answer, a rank
raises :class:`~spark_strategy.spark.absence.Absence` instead, and Spark gives the driver the text
of it, among others' text: a table's cells, the users' exceptions. Both bear the run's seal
(``seal.py``), which the driver checks before it looks at anything else. A row may carry a pickle,
the function's value; what stands in a text is JSON, and never carries one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from spark_strategy.errors import RendezvousError
from spark_strategy.outcome import Failure, Outcome, from_record, to_record
from spark_strategy.seal import Kind, Seal
from spark_strategy.strict_json import parse

if TYPE_CHECKING:
    import pyarrow as pa

# As ``mapInArrow`` takes it; ``schema()`` is the same for Arrow, which compares the two.
COLUMNS: Final = "rank long, report string, payload binary, seal binary"
_ROW: Final = "The report"
# A report holds a traceback and the last lines of output, which are cut where they are made.
_MOST_REPORT_BYTES: Final = 64 << 20
_MOST_TEXT_BYTES: Final = 1 << 20
_MOST_MESSAGE_CHARACTERS: Final = 2_000
_MOST_TRACE_CHARACTERS: Final = 8_000


@dataclass(frozen=True, slots=True)
class _Absence:
    reports: tuple[str, ...]


def schema() -> pa.Schema:
    """The columns of a row."""
    import pyarrow as pa

    return pa.schema(
        [
            ("rank", pa.int64()),
            ("report", pa.string()),
            ("payload", pa.binary()),
            ("seal", pa.binary()),
        ]
    )


def row_of(seal: Seal, outcome: Outcome) -> pa.RecordBatch:
    """Task: the outcome as one row."""
    import pyarrow as pa

    report, payload = to_record(outcome)
    mark = seal.mark(Kind.ROW, outcome.rank, report.encode(), payload)
    row = {"rank": outcome.rank, "report": report, "payload": payload, "seal": mark}
    return pa.RecordBatch.from_pylist([row], schema=schema())


def outcomes_of(
    seal: Seal, rows: Sequence[Mapping[str, Any]], ranks: Sequence[int]
) -> tuple[Outcome, ...]:
    """Driver: the outcomes in the rows, in rank order.

    Args:
        seal: the attempt's.
        rows: in any order.
        ranks: who has to have sent one.

    Raises:
        RendezvousError: a row is not sealed by its rank, or a rank's row is missing or doubled.
        ExecutorEnvironmentError: another version of the library wrote it.
    """
    outcomes = sorted((_outcome_of(seal, row) for row in rows), key=lambda one: one.rank)
    found = [one.rank for one in outcomes]
    if found != sorted(ranks):
        raise RendezvousError(
            f"Reports of ranks {sorted(ranks)} were expected once each, found {found}."
        )
    return tuple(outcomes)


def _outcome_of(seal: Seal, row: Mapping[str, Any]) -> Outcome:
    rank, report = row.get("rank"), row.get("report")
    payload, mark = row.get("payload"), row.get("seal")
    if (
        not isinstance(rank, int)
        or not 0 <= rank < 2**31
        or not isinstance(report, str)
        or len(report) > _MOST_REPORT_BYTES
        or not isinstance(payload, bytes)
        or not isinstance(mark, bytes)
        or not seal.fits(mark, Kind.ROW, rank, report.encode(), payload)
    ):
        raise seal.broken(_ROW, rank if isinstance(rank, int) else -1)
    outcome = from_record(report, payload)
    if outcome.rank != rank:
        raise seal.broken(_ROW, rank)
    return outcome


def absence_text(seal: Seal, outcomes: Sequence[Outcome]) -> str:
    """Task: outcomes as text that survives in whatever Spark makes of it.

    Args:
        seal: the attempt's.
        outcomes: of the ranks that are missed, and last of the rank that misses them.
    """
    *missed, own = outcomes
    reports = [to_record(_shortened(own))[0]]
    room = _MOST_TEXT_BYTES - len(reports[0])
    for one in missed:
        report = to_record(_shortened(one))[0]
        room -= len(report)
        if room < 0:
            break
        reports.insert(-1, report)
    return seal.sealed_text(Kind.ABSENCE, outcomes[-1].rank, json.dumps({"reports": reports}))


def absence_in(seal: Seal, text: str) -> tuple[Outcome, ...]:
    """Driver: the outcomes in the text of Spark's error, which others may have a part in.

    Returns:
        What a rank of this attempt has sealed, or nothing.

    Raises:
        ExecutorEnvironmentError: another version of the library wrote it.
    """
    # JSON in JSON escapes each quote and backslash.
    for _, body in seal.opened_texts(Kind.ABSENCE, text, max_bytes=4 * _MOST_TEXT_BYTES):
        return tuple(from_record(report, b"") for report in parse(_Absence, body).reports)
    return ()


def _shortened(outcome: Outcome) -> Outcome:
    if not isinstance(outcome, Failure):
        return replace(outcome, value=b"")
    return replace(
        outcome,
        message=outcome.message[:_MOST_MESSAGE_CHARACTERS],
        traceback=outcome.traceback[-_MOST_TRACE_CHARACTERS:],
        log_tail=outcome.log_tail[-_MOST_TRACE_CHARACTERS:],
        error=b"",
    )
