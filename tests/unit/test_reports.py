"""Outcomes reach the driver under the run's seal, as rows and in the text of errors."""

from __future__ import annotations

import base64
import json
import os
import pickle
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spark_strategy.cluster import Fence
from spark_strategy.errors import ExecutorEnvironmentError, RendezvousError
from spark_strategy.outcome import Failure, Outcome, Reason, Success, Timings, to_record
from spark_strategy.seal import Kind, Seal
from spark_strategy.spark.absence import Absence
from spark_strategy.spark.reports import absence_in, outcomes_of, row_of

SEAL = Seal(b"s" * 32, Fence("run", 0))
FORGER = Seal(b"t" * 32, Fence("run", 0))
SUCCESS = Success(0, "worker:0", "h", Timings(1.0, 2.0), 7, b"\x00value")
FAILURE = Failure(1, "worker:1", "h", 1.5, Reason.RAISED, "raised\n'é", error=b"\x80pickled")


def row(outcome: Outcome, seal: Seal = SEAL) -> dict[str, Any]:
    """A rank's row, as Spark brings it."""
    (found,) = row_of(seal, outcome).to_pylist()
    return dict(found)


def missed(rank: int) -> Failure:
    """A rank that does not answer."""
    return Failure(rank, f"worker:{rank}", "host", 1.5, Reason.LOST, "left without a word")


class Runs:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.proof}",)


def test_rows_are_read_in_rank_order() -> None:
    """Both ends of them."""
    assert outcomes_of(SEAL, [row(FAILURE), row(SUCCESS)], [0, 1]) == (SUCCESS, FAILURE)


@pytest.mark.parametrize(
    "change",
    [
        {"seal": b""},
        {"seal": None},
        {"seal": bytes(32)},
        {"payload": b"other"},
        {"payload": None},
        {"report": ""},
        {"report": None},
        {"rank": 1},
        {"rank": None},
        {"rank": -1},
        {"rank": 2**70},
    ],
)
def test_a_row_that_was_changed_is_refused(change: dict[str, Any]) -> None:
    """By one clear error, before its report is parsed."""
    with pytest.raises(RendezvousError, match="is not sealed by rank"):
        outcomes_of(SEAL, [{**row(SUCCESS), **change}], [0])


@pytest.mark.parametrize(
    "other", [FORGER, Seal(SEAL.secret, Fence("run", 1)), Seal(SEAL.secret, Fence("other", 0))]
)
def test_a_row_of_another_run_or_attempt_is_refused(other: Seal) -> None:
    """Also a success that somebody forged."""
    with pytest.raises(RendezvousError, match="another run or attempt"):
        outcomes_of(SEAL, [row(SUCCESS, other)], [0])


def test_every_rank_reports_once() -> None:
    """A missing or doubled row is no result."""
    for rows in ([], [row(SUCCESS)] * 2, [row(FAILURE)]):
        with pytest.raises(RendezvousError, match=r"ranks \[0\] were expected once each"):
            outcomes_of(SEAL, rows, [0])


def test_a_rank_speaks_for_itself_only() -> None:
    """A sealed row whose report names another rank is refused."""
    report, payload = to_record(FAILURE)
    mark = SEAL.mark(Kind.ROW, 0, report.encode(), payload)
    forged = {"rank": 0, "report": report, "payload": payload, "seal": mark}

    with pytest.raises(RendezvousError, match="rank 0"):
        outcomes_of(SEAL, [forged], [0])


def test_a_sealed_row_of_another_shape_is_another_version_of_the_library() -> None:
    """The message says what to do."""
    mark = SEAL.mark(Kind.ROW, 0, b"{}", b"")

    with pytest.raises(ExecutorEnvironmentError, match="same version of spark_strategy"):
        outcomes_of(SEAL, [{"rank": 0, "report": "{}", "payload": b"", "seal": mark}], [0])


def test_an_absence_is_read_from_whatever_text_spark_makes_of_it() -> None:
    """Without the exception of the rank that misses the others: a text never carries a pickle."""
    text = f"Job aborted: Traceback\n  Absence: {Absence([missed(0), FAILURE], SEAL)}\n\tat java(x)"

    assert absence_in(SEAL, text) == (missed(0), replace(FAILURE, error=b""))
    assert absence_in(SEAL, "ExecutorLostFailure (executor 1 exited)") == ()
    assert FAILURE.error.hex() not in text


def test_an_absence_that_others_wrote_is_no_absence(tmp_path: Path) -> None:
    """Nothing of it is unpickled, inflated or parsed, and the real one after it is found."""
    proof = tmp_path / "ran"
    packed = base64.b64encode(pickle.dumps(Runs(proof))).decode()
    report = to_record(FAILURE)[0]
    old = base64.b64encode(zlib.compress(json.dumps([[report, packed]]).encode())).decode()
    bomb = base64.b64encode(zlib.compress(bytes(10**7))).decode()
    cells = [
        f"spark_strategy_outcomes:{old}:",
        f"spark_strategy_outcomes:{bomb}:",
        str(Absence([missed(0), FAILURE], FORGER)),
        str(Absence([missed(0), FAILURE], replace(SEAL, fence=Fence("run", 1)))),
        FORGER.sealed_text(Kind.ABSENCE, 0, "nonsense"),
        SEAL.sealed_text(Kind.ROW, 0, "nonsense"),
    ]
    text = "\n".join(cells)

    assert absence_in(SEAL, text) == ()
    found = absence_in(SEAL, text + str(Absence([missed(2), missed(3)], SEAL)))
    assert found == (missed(2), missed(3))
    assert not proof.exists()


def test_an_absence_is_of_a_bounded_size() -> None:
    """However many are missed and whatever they said; who misses them is always in it."""
    own = replace(FAILURE, rank=6_000, traceback="é" * 10**6, log_tail="x" * 10**6)
    text = str(Absence([*map(missed, range(6_000)), own], SEAL))

    found = absence_in(SEAL, text)
    assert len(text) < 4 << 20
    assert len(found) > 1_000
    assert found[:2] == (missed(0), missed(1))
    assert found[-1].rank == 6_000


def test_a_sealed_absence_of_another_shape_is_another_version_of_the_library() -> None:
    """No raw error of a parser."""
    for body in ("nonsense", "7", "[]", "{}", '{"reports": [7]}', '{"reports": ["{}"]}'):
        text = SEAL.sealed_text(Kind.ABSENCE, 0, body)
        with pytest.raises(ExecutorEnvironmentError, match="same version"):
            absence_in(SEAL, text)
