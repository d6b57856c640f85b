"""JSON of another shape is refused with one clear error, whatever it is."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spark_strategy.cluster import Arrival, Fence
from spark_strategy.errors import ExecutorEnvironmentError
from spark_strategy.evaluator import Evaluation, EvaluatorReport
from spark_strategy.outcome import Failure, Reason, Success, Timings, from_record, to_record
from spark_strategy.strict_json import parse

FAILURE = Failure(1, "worker:1", "h", 1.5, Reason.RAISED, "raised", error=b"x")
SUCCESS = Success(0, "worker:0", "h", Timings(1.0), 7, b"value")
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(st.text() | ANY_JSON.map(json.dumps))
def test_nonsense_is_refused_by_the_librarys_own_error(text: str) -> None:
    """Whatever the text is: no KeyError, no ValueError."""
    for read in (
        lambda: from_record(text, b""),
        lambda: Arrival.from_json(text),
        lambda: EvaluatorReport.from_json(text.encode()),
    ):
        with contextlib.suppress(ExecutorEnvironmentError):  # and nothing else
            read()


@given(st.sampled_from([FAILURE, SUCCESS]), st.data())
def test_one_wrong_field_is_named(outcome: Any, data: st.DataObject) -> None:
    """Another type, a missing field, an unknown one."""
    fields = json.loads(to_record(outcome)[0])
    name = data.draw(st.sampled_from(sorted(set(fields) - {"kind", "feed"})))

    wrong = [{**fields, name: [None]}, {**fields, "unknown": 1}]
    for given_fields in wrong:
        with pytest.raises(ExecutorEnvironmentError, match=r"same version of spark_strategy\.$"):
            from_record(json.dumps(given_fields), b"")
    with pytest.raises(ExecutorEnvironmentError, match="lacks rank"):
        from_record(json.dumps({k: v for k, v in fields.items() if k != "rank"}), b"")


def test_deep_json_is_refused() -> None:
    """It exhausts the parser's stack and nothing else."""
    with pytest.raises(ExecutorEnvironmentError, match="not JSON"):
        parse(Arrival, "[" * 100_000)


def test_what_fits_is_read() -> None:
    """Nested values, numbers that lost their point, optional fields."""
    came = Arrival(3, Fence("r", 2), "h:1")
    report = EvaluatorReport((Evaluation("c", 1, {"loss": 1}, 2),), "")

    assert Arrival.from_json(came.to_json()) == came
    assert EvaluatorReport.from_json(report.to_json()) == report
    assert from_record(*to_record(FAILURE)) == FAILURE
    assert from_record(*to_record(SUCCESS)) == SUCCESS
