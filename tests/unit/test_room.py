"""Of too many model servers the one ends that has been unused for longest, and no other."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from spark_strategy.serving import ServerFolder
from spark_strategy.worker.room import Holder, around, gives_way, half_of_memory, told

ROOMY = 1 << 40


def idle(name: str, since: float, *, device: str = "", nbytes: int = 1) -> Holder:
    """A server without a client."""
    return Holder(name, device, since, nbytes)


def busy(name: str, *, device: str = "", nbytes: int = 1) -> Holder:
    """A server with one."""
    return Holder(name, device, None, nbytes)


def ending(holders: list[Holder], *, max_models: int = 2, max_bytes: int = ROOMY) -> list[str]:
    """Those that give way."""
    limits = {"max_models": max_models, "max_bytes": max_bytes}
    return [one.name for one in holders if gives_way(one.name, holders, **limits)]


@pytest.mark.parametrize(
    ("holders", "expected"),
    [
        ([idle("a", 1), idle("b", 2)], []),
        ([idle("a", 2), idle("b", 1), idle("c", 3)], ["b"]),
        ([idle("a", 1), idle("b", 1), idle("c", 1)], ["a"]),
        ([busy("a"), busy("b"), idle("c", 9)], ["c"]),
        ([busy("a"), busy("b"), busy("c")], []),
        ([idle("a", 1, device="0"), idle("b", 1, device="1"), busy("c", device="2")], []),
        ([idle("a", 1, device="0"), idle("b", 2, device="1"), busy("c"), busy("d"), busy("e")], []),
    ],
)
def test_the_number_is_kept_for_each_device(holders: list[Holder], expected: list[str]) -> None:
    """One at a time, and none that has a client."""
    assert ending(holders) == expected


@pytest.mark.parametrize(
    ("holders", "expected"),
    [
        ([idle("a", 1, nbytes=99)], []),
        ([idle("a", 1, nbytes=6), idle("b", 2, nbytes=4)], []),
        ([idle("a", 2, nbytes=1), idle("b", 1, nbytes=1, device="0"), busy("c", nbytes=9)], ["b"]),
        ([busy("a", nbytes=20), idle("b", 1)], ["b"]),
    ],
)
def test_the_memory_is_kept_for_all(holders: list[Holder], expected: list[str]) -> None:
    """One model alone may be as large as it is."""
    assert ending(holders, max_models=9, max_bytes=10) == expected


def test_servers_read_what_they_tell_each_other(tmp_path: Path) -> None:
    """Those that live; not those that have ended, nor other folders, nor half a word."""
    states = {
        "spark_strategy_model-a": told("", None),
        "spark_strategy_model-b": told("0,1", 12.5),
        "spark_strategy_model-dead": f"{os.getpid()} 1\n\n",
        "spark_strategy_model-young": "",
        "spark_strategy-other": told("", None),
    }
    for name, text in states.items():
        (tmp_path / name).mkdir()
        ServerFolder(tmp_path / name).tell_state(text)
    found = around(ServerFolder(tmp_path / "spark_strategy_model-a"))
    assert [(one.name[-1], one.device, one.idle_since) for one in found] == [
        ("a", "", None),
        ("b", "0,1", 12.5),
    ]
    assert all(1 << 20 < one.nbytes < 1 << 40 for one in found)
    assert 1 << 20 < half_of_memory() <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
