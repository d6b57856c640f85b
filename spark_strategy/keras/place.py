"""What the adapter knows about the rank it runs in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """The rank's part in saving and reporting.

    Args:
        is_chief: whether this rank's files are the run's artifacts and its bar is shown.
        scratch: local folder for what the other ranks write; removed after the run.
    """

    is_chief: bool
    scratch: str
