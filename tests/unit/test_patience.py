"""Times that make sense, and what stands for no limit."""

from __future__ import annotations

import math

import pytest

from spark_strategy import Launcher, MultiWorker, Patience
from spark_strategy.errors import PlanError

NAMES = ("silence_s", "grace_s", "connect_s")


def test_infinity_and_none_mean_no_limit_where_there_may_be_none() -> None:
    """A silence, a grace, a run; all else ends."""
    assert Patience(silence_s=math.inf, grace_s=math.inf) == Patience(silence_s=None, grace_s=None)
    assert Launcher(MultiWorker(2), timeout_s=math.inf)._orders().timeout_s is None


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [0, -1, True, math.nan, -math.inf, "10", 10**9, [1]])
def test_times_that_make_no_sense_are_refused(name: str, value: object) -> None:
    """With the name of the option and what was found."""
    with pytest.raises(PlanError, match=f"{name} is a number of seconds .* at most 86400"):
        Patience(**{name: value})  # type: ignore[arg-type]


def test_a_silence_is_longer_than_the_beats_that_break_it() -> None:
    """Else every rank would be lost at once."""
    with pytest.raises(PlanError, match="silence_s is a number of seconds of at least 2"):
        Patience(silence_s=1.9)


def test_the_driver_waits_as_long_as_the_ranks_do() -> None:
    """For one that misses a peer to say so: a silence, and two graces."""
    assert Patience().until_missed_s == 40
    assert Patience(silence_s=600, grace_s=100).until_missed_s == 800
    assert Patience(silence_s=None, grace_s=None).until_missed_s == 20


def test_connecting_has_a_deadline() -> None:
    """A rank that cannot reach the others must say so."""
    for value in (None, math.inf):
        with pytest.raises(PlanError, match="connect_s"):
            Patience(connect_s=value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("start_timeout_s", math.inf),
        ("start_timeout_s", None),
        ("start_timeout_s", True),
        ("start_timeout_s", 8 * 86_400),
        ("timeout_s", False),
        ("timeout_s", 1e12),
        ("timeout_s", -math.inf),
        ("patience", 20),
        ("patience", None),
    ],
)
def test_a_launcher_refuses_them_before_spark_is_touched(option: str, value: object) -> None:
    """With the name of the option and what was found."""
    with pytest.raises(PlanError, match=f"{option} is a .*found {value}"):
        Launcher(MultiWorker(2), **{option: value})  # type: ignore[arg-type]
