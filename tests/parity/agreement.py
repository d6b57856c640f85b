"""Compares nested results number by number, and says where they differ."""

from __future__ import annotations

from typing import Any

import numpy as np

TOLERANCE = 1e-5


def differences(expected: Any, found: Any, tolerance: float, where: str = "") -> list[str]:
    """One line per number (or array of numbers) that is off by more than the tolerance."""
    if isinstance(expected, dict):
        if set(expected) != set(found):
            return [f"{where}: {sorted(expected)} against {sorted(found)}"]
        pairs = [(f"{where}.{key}", expected[key], found[key]) for key in expected]
    elif isinstance(expected, list | tuple):
        if len(expected) != len(found):
            return [f"{where}: {len(expected)} against {len(found)} values"]
        pairs = [
            (f"{where}[{n}]", a, b) for n, (a, b) in enumerate(zip(expected, found, strict=True))
        ]
    else:
        close = np.allclose(expected, found, rtol=tolerance, atol=tolerance, equal_nan=True)
        return [] if close else [f"{where}: {expected!r} against {found!r}"]
    return [line for name, a, b in pairs for line in differences(a, b, tolerance, name)]


def assert_equal(expected: Any, found: Any, tolerance: float = TOLERANCE) -> None:
    """Fails with every difference."""
    lines = differences(expected, found, tolerance)
    assert not lines, "\n".join(lines[:10])


def assert_parity(outcome: Any, tolerance: float = TOLERANCE) -> None:
    """Every rank found what the single process found."""
    for rank in outcome.ranks:
        assert_equal(outcome.single, rank, tolerance)
