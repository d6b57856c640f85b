"""How long a run waits for a peer, a host or a deadline before it draws a conclusion."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from spark_strategy.errors import PlanError

# Ranks show that they live once a second at least as often as five times in this.
_SHORTEST_SILENCE_S: Final = 2.0
# What TensorFlow's coordination service waits by itself.
_TENSORFLOWS_S: Final = 10.0
_DAY_S: Final = 86_400.0
# Where Spark alone is to say who is gone, rank 0 still keeps its hub for those about to end.
LINGER_S: Final = 10.0
_WEEK_S: Final = 7 * _DAY_S
_YEAR_S: Final = 366 * _DAY_S


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the ranks' tasks wait for each other; ``Launcher(patience=Patience(...))``.

    Args:
        silence_s: seconds without a sign of life after which a rank's task, or the network to it,
            counts as lost. At least 2. The tasks send one every few seconds from threads of their
            own, so 20 s are a pause of the whole process or host, or a cut network. A longer
            time rides out longer outages; a shorter one finds a lost host sooner. None (or
            infinity): only a connection that breaks counts, and a cut network is left to TCP.
        grace_s: seconds that Spark then has to say why, before the run fails without its word.
            Spark sees at once that an executor's process has ended, and says more of it; of a
            host that is gone it learns after one or two minutes. None (or infinity): the run
            waits for Spark.
        connect_s: seconds in which a rank must reach rank 0's hub, or with a chief on the driver
            the driver. It tries again during that time, because thousands of ranks come at once.

    Raises:
        PlanError: a value makes no sense.
    """

    silence_s: float | None = 20.0
    grace_s: float | None = 10.0
    connect_s: float = 10.0

    def __post_init__(self) -> None:
        for name, least in (("silence_s", _SHORTEST_SILENCE_S), ("grace_s", 0.0)):
            object.__setattr__(
                self, name, seconds_or_none(name, getattr(self, name), least=least, most=_DAY_S)
            )
        seconds("connect_s", self.connect_s, most=_DAY_S)

    @property
    def until_missed_s(self) -> float:
        """Seconds in which a rank that has failed says which peers it misses; 40 by default."""
        return (self.silence_s or 0.0) + 2 * (self.grace_s or LINGER_S)

    @property
    def heartbeat_s(self) -> int:
        """For how long TensorFlow's own heartbeat may be missing: the library is to speak first."""
        if self.silence_s is None or self.grace_s is None:
            return int(_DAY_S)
        return math.ceil(max(_TENSORFLOWS_S, self.silence_s + 2 * self.grace_s))


def start_deadline(value: object) -> float:
    """``start_timeout_s``, at most a week.

    Raises:
        PlanError: it is something else.
    """
    return seconds("start_timeout_s", value, most=_WEEK_S)


def run_deadline(value: object) -> float | None:
    """``timeout_s``, at most a year; infinity is none.

    Raises:
        PlanError: it is something else.
    """
    return seconds_or_none("timeout_s", value, least=0.0, most=_YEAR_S)


def seconds_or_none(name: str, value: object, *, least: float, most: float) -> float | None:
    """A finite time, or None for no limit, which infinity means as well.

    Raises:
        PlanError: it is something else.
    """
    if value is None or (isinstance(value, float) and value == math.inf):
        return None
    return seconds(name, value, least=least, most=most, otherwise=", or None for no limit")


def seconds(
    name: str, value: object, *, least: float = 0.0, most: float, otherwise: str = ""
) -> float:
    """A finite time above 0.

    Raises:
        PlanError: it is something else.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not max(least, 1e-9) <= value <= most:  # type: ignore[operator] # a number
        at_least = f"of at least {least:g}" if least else "above 0"
        raise PlanError(
            f"{name} is a number of seconds {at_least} and at most {most:g}{otherwise}; "
            f"found {value!r}."
        )
    return float(value)  # type: ignore[arg-type] # a number


USUAL: Final = Patience()
"""What is used where nothing is said."""
