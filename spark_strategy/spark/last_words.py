"""Reads what a child says of its own failure, whatever becomes of it while it speaks."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from spark_strategy.folder import ChildFailure, ChildFolder

# To say what an exception says, its own code must run (``postmortem.py``).
_PATIENCE_S: Final = 10.0
_POLL_S: Final = 0.02


def last_words(
    folder: ChildFolder, failing: Callable[[], None], *, patience_s: float = _PATIENCE_S
) -> tuple[ChildFailure, bytes] | None:
    """The child's failure and its exception, pickled; None if it says nothing of one.

    Args:
        folder: the child's.
        failing: called once it is clear that it fails, before its last word is waited for.
        patience_s: how long that may take; then what has been said so far counts.
    """
    said = folder.read_failure()
    if said is not None or folder.read_failing() is None:
        return said
    failing()
    deadline = time.monotonic() + patience_s
    while (said := folder.read_failure()) is None and time.monotonic() < deadline:
        if folder.read_exit() is not None:
            said = folder.read_failure()  # its last act, perhaps
            break
        time.sleep(_POLL_S)
    failure = folder.read_failing()
    return said or (None if failure is None else (failure, b""))
