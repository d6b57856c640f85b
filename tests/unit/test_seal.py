"""What a rank says is believed only under the run's seal, and nothing else is decoded."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spark_strategy.cluster import Fence
from spark_strategy.errors import RendezvousError
from spark_strategy.seal import MARK_BYTES, Kind, Seal

SEAL = Seal(b"s" * 32, Fence("run", 1))
OTHERS = (
    Seal(b"t" * 32, SEAL.fence),
    Seal(SEAL.secret, Fence("other", 1)),
    Seal(SEAL.secret, Fence("run", 2)),
)


@given(st.text(max_size=200), st.text(max_size=200), st.text(max_size=200))
def test_a_sealed_text_is_found_in_whatever_surrounds_it(
    before: str, said: str, after: str
) -> None:
    """Both ends of it."""
    text = before + SEAL.sealed_text(Kind.ABSENCE, 3, said) + after

    assert list(SEAL.opened_texts(Kind.ABSENCE, text, max_bytes=1000)) == [(3, said)]


@pytest.mark.parametrize("other", OTHERS)
def test_a_text_of_another_run_or_attempt_is_not_opened(other: Seal) -> None:
    """Though it was sealed by a rank of that one."""
    text = other.sealed_text(Kind.ABSENCE, 3, "said")

    assert list(SEAL.opened_texts(Kind.ABSENCE, text, max_bytes=1000)) == []
    with pytest.raises(RendezvousError, match="not sealed by rank 3 of run run attempt 1"):
        SEAL.open_text(Kind.ABSENCE, 3, text, max_bytes=1000)


def test_a_message_is_nobody_elses_and_of_no_other_kind() -> None:
    """The rank and the kind are under the seal as well."""
    text = SEAL.sealed_text(Kind.ARRIVAL, 3, "said")

    assert SEAL.open_text(Kind.ARRIVAL, 3, text, max_bytes=1000) == "said"
    with pytest.raises(RendezvousError, match="rank 4"):
        SEAL.open_text(Kind.ARRIVAL, 4, text, max_bytes=1000)
    for forged in (text.replace(":3:", ":4:"), text.replace("arrival", "absence")):
        for kind in (Kind.ARRIVAL, Kind.ABSENCE):
            assert list(SEAL.opened_texts(kind, forged, max_bytes=1000)) == []


def test_every_changed_or_missing_character_breaks_a_seal() -> None:
    """Truncated, extended or altered anywhere."""
    text = SEAL.sealed_text(Kind.ARRIVAL, 3, "said")

    for place in range(len(text)):
        altered = text[:place] + ("0" if text[place] != "0" else "1") + text[place + 1 :]
        for wrong in (altered, text[:place]):
            with pytest.raises(RendezvousError):
                SEAL.open_text(Kind.ARRIVAL, 3, wrong, max_bytes=1000)
    with pytest.raises(RendezvousError):
        SEAL.open_text(Kind.ARRIVAL, 3, text + " ", max_bytes=1000)


def test_lookalikes_before_the_real_one_do_not_hide_it() -> None:
    """Whoever writes a cell may write any number of them, whole or cut off."""
    real = SEAL.sealed_text(Kind.ABSENCE, 0, "real")
    whole = OTHERS[0].sealed_text(Kind.ABSENCE, 0, "forged")
    beginnings = "".join(whole[:length] for length in range(0, len(whole), 7))

    text = f"{whole}{beginnings}spark_strategy-absence:0:{real}{whole}"

    assert list(SEAL.opened_texts(Kind.ABSENCE, text, max_bytes=1000)) == [(0, "real")]


def test_what_is_too_long_is_passed_over() -> None:
    """Before it is looked at; a real one after it is still found."""
    long, real = (SEAL.sealed_text(Kind.ABSENCE, 0, said) for said in ("x" * 1001, "real"))

    assert list(SEAL.opened_texts(Kind.ABSENCE, long + real, max_bytes=1000)) == [(0, "real")]
    with pytest.raises(RendezvousError):
        SEAL.open_text(Kind.ABSENCE, 0, long, max_bytes=1000)


def test_a_large_text_full_of_markers_is_searched_in_seconds() -> None:
    """The time grows with the text, and not with its square."""
    text = "spark_strategy-absence:1:" * 100_000 + "a" * 3_000_000
    began = time.monotonic()

    assert list(SEAL.opened_texts(Kind.ABSENCE, text, max_bytes=1000)) == []
    assert time.monotonic() - began < 10


def test_parts_that_are_divided_elsewhere_are_another_message() -> None:
    """Each is under the seal with its length."""
    mark = SEAL.mark(Kind.ROW, 0, b"ab", b"c")

    assert len(mark) == MARK_BYTES
    assert SEAL.fits(mark, Kind.ROW, 0, b"ab", b"c")
    assert not SEAL.fits(mark, Kind.ROW, 0, b"a", b"bc")
    assert not SEAL.fits(mark, Kind.ROW, 0, b"abc")
    assert not SEAL.fits(mark[:-1], Kind.ROW, 0, b"ab", b"c")


def test_a_seal_does_not_show_its_secret() -> None:
    """In its repr, which a log may hold."""
    assert "ssss" not in repr(replace(SEAL))
