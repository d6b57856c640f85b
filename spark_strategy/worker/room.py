"""Which of an executor's model servers gives way when there are too many of them.

Each server decides for itself, by what all of them say of themselves in their folders: it ends if
there are more than it was told to tolerate and if, of those without a client, it has been without
one for longest. No two servers are that one at the same time, so that no more end than must.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from spark_strategy.serving import ServerFolder, started_at

_FOLDERS: Final = "spark_strategy_model-*"
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
# Of the container: version 2 and 1 of Linux's control groups.
_LIMITS: Final = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


@dataclass(frozen=True, slots=True)
class Holder:
    """A server that holds a model.

    Attributes:
        name: of its folder.
        device: the GPUs that it sees; empty for none.
        idle_since: since when it has had no client, in the machine's monotonic seconds; None while
            it has one, or is not ready.
        nbytes: its resident memory.
    """

    name: str
    device: str
    idle_since: float | None
    nbytes: int


def gives_way(own: str, holders: Sequence[Holder], *, max_models: int, max_bytes: int) -> bool:
    """Whether the server of this name has to end.

    Args:
        own: its name.
        holders: all servers of the executor, itself included.
        max_models: how many may hold a model for one device.
        max_bytes: how much memory all may take; one alone may take more.
    """
    devices = {one.name: one.device for one in holders}
    beside = [one for one in holders if one.device == devices.get(own)]
    too_many = len(beside) > max_models and _longest_idle(beside) == own
    too_large = len(holders) > 1 and sum(one.nbytes for one in holders) > max_bytes
    return too_many or (too_large and _longest_idle(holders) == own)


def _longest_idle(holders: Sequence[Holder]) -> str | None:
    idle = [(one.idle_since, one.name) for one in holders if one.idle_since is not None]
    return min(idle)[1] if idle else None


def told(device: str, idle_since: float | None) -> str:
    """What this process tells the others of itself; :func:`around` reads it."""
    pid = os.getpid()
    since = "" if idle_since is None else repr(idle_since)
    return f"{pid} {started_at(pid)}\n{since}\n{device}"


def around(folder: ServerFolder) -> list[Holder]:
    """All servers of this executor that live."""
    found = []
    for path in sorted(folder.path.parent.glob(_FOLDERS)):
        lines = ServerFolder(path).read_state().split("\n")
        if len(lines) != 3:
            continue
        pid, started = lines[0].split(" ")
        if started_at(int(pid)) == started:
            since = float(lines[1]) if lines[1] else None
            found.append(Holder(path.name, lines[2], since, _resident(int(pid))))
    return found


def half_of_memory() -> int:
    """Half of the bytes that the container may use, or the machine has."""
    found = [os.sysconf("SC_PHYS_PAGES") * _PAGE]
    for path in _LIMITS:
        try:
            found.append(int(path.read_text(encoding="ascii")))
        except (OSError, ValueError):  # the other version, or "max"
            continue
    return min(found) // 2


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * _PAGE
    except (OSError, IndexError):  # it has ended
        return 0
