"""How each task of a run ended, which failure came first, how to say so.

A failure is a value until the driver raises it. Ranks fail in bunches: one raises, and its
peers' collectives break a moment later. :func:`in_order_of_blame` puts the first cause
first, by three facts in this order: a rank that was stopped because of another one is never
the cause; an error that TensorFlow raises about *other* tasks is a consequence wherever
something else happened too, and so is that a rank no longer hears its peers; what is left goes
by time. That is the time of the hub's clock, which all ranks share, and a failure that the hub
did not hear of comes after those that it did.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Final

from spark_strategy import bounds, errors
from spark_strategy.data.feed import FeedStats
from spark_strategy.strict_json import build, parse_any


class Reason(StrEnum):
    """Why a task did not succeed."""

    RAISED = "raised"
    EXITED = "exited"
    KILLED = "killed"
    CRASHED = "crashed"
    FROZEN = "frozen"
    DEADLINE = "deadline"
    START_DEADLINE = "start deadline"
    UNPICKLABLE = "unpicklable value"
    ENVIRONMENT = "environment"
    KERAS = "unsupported Keras"
    RENDEZVOUS = "rendezvous"
    PLAN = "plan"
    DATA = "data"
    SPACE = "space"
    LOST = "lost"
    CUT_OFF = "cut off"
    STOPPED = "stopped"


_ERRORS: Final[dict[Reason, type[errors.SparkStrategyError]]] = {
    Reason.DEADLINE: errors.DeadlineError,
    Reason.START_DEADLINE: errors.DeadlineError,
    Reason.UNPICKLABLE: errors.ResultError,
    Reason.ENVIRONMENT: errors.ExecutorEnvironmentError,
    Reason.KERAS: errors.UnsupportedKerasError,
    Reason.RENDEZVOUS: errors.RendezvousError,
    Reason.PLAN: errors.PlanError,
    Reason.DATA: errors.DataError,
    Reason.SPACE: errors.CapacityError,
}

# The library's own errors that a rank may raise; a WorkerError among them is RAISED, as any other.
_REASONS: Final[dict[type[BaseException], Reason]] = {
    kind: reason for reason, kind in _ERRORS.items() if not issubclass(kind, errors.WorkerError)
}

# Failures whose message or traceback says all: what the child printed would only bury it.
_SAY_ALL: Final = frozenset({Reason.RAISED, Reason.PLAN, Reason.DATA})

# What is said of a cut: a text that was cut before is not cut again.
_CUT_NOTE_CHARS: Final = 100
# Failures of other ranks that an error's text names, and how much each of them says there.
_OTHERS: Final = 20
_OTHERS_CHARS: Final = 500

_ADVICE: Final[dict[Reason, str]] = {
    Reason.EXITED: "A train function returns its result; it does not end its process.",
    Reason.KILLED: (
        "Memory is the usual suspect: the kernel's or the resource manager's out-of-memory "
        "killer ends a process this way. Compare the peak memory below with what the executor "
        "leaves to Python (spark.executor.memoryOverhead). spark.executor.pyspark.memory does not "
        "help: it limits address space, of which TensorFlow takes much more than it uses."
    ),
    Reason.CRASHED: (
        "The native stack below shows where: a library's native code is at fault, or it got no "
        "memory."
    ),
    Reason.FROZEN: "Something sent it SIGSTOP (a debugger, a job controller), or the host hangs.",
    Reason.DEADLINE: "Raise timeout_s, or look at the stacks below for what the rank waited for.",
    Reason.START_DEADLINE: (
        "Raise start_timeout_s if TensorFlow imports slowly there (a cold network disk), or look "
        "at the stack below. A rank that waits there for the others may not reach them: "
        "port_range= fixes the ports that a firewall must let through, interface= chooses another "
        "network."
    ),
    Reason.UNPICKLABLE: "Return plain values, NumPy arrays or Keras models.",
    Reason.LOST: "A host, a Spark task or the network between them went away.",
    Reason.CUT_OFF: "A host, a Spark task or the network between them went away.",
}


@dataclass(frozen=True, slots=True)
class Timings:
    """Where a run's time went, in seconds.

    Attributes:
        schedule_s: from the call on the driver to the start of the Spark task.
        rendezvous_s: from the start of the task to a complete cluster.
        import_s: importing TensorFlow in the child (overlaps with the rendezvous).
        strategy_s: building the strategy, which connects the cluster.
        function_s: the user's function.
    """

    schedule_s: float = 0.0
    rendezvous_s: float = 0.0
    import_s: float = 0.0
    strategy_s: float = 0.0
    function_s: float = 0.0

    @classmethod
    def longest(cls, timings: Sequence[Timings]) -> Timings:
        """For each phase, the slowest rank's time."""
        rows = [asdict(timing) for timing in timings] or [{}]
        return cls(**{name: max(row[name] for row in rows) for name in rows[0]})


@dataclass(frozen=True, slots=True)
class Success:
    """A task that did its part.

    Attributes:
        rank: its rank.
        task: its name in the cluster, such as ``worker:1``.
        host: where it ran.
        timings: where its time went.
        peak_rss_bytes: peak resident memory of its child process; 0 if unknown.
        value: what the function returned, pickled.
        feed: how it was fed; None where Spark fed nothing.
        restarts: how often its process was lost and started again.
    """

    rank: int
    task: str
    host: str
    timings: Timings
    peak_rss_bytes: int
    value: bytes
    feed: FeedStats | None = None
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class Failure:
    """A task that did not.

    Attributes:
        rank: its rank.
        task: its name in the cluster, such as ``worker:1``.
        host: where it ran.
        at: when it failed, in seconds since the epoch by its host's clock.
        reason: the kind of failure.
        message: the failure in one line.
        traceback: the Python traceback or native stack, empty if there is none.
        log_tail: the last lines the child printed.
        peak_rss_bytes: peak resident memory of its child process; 0 if unknown.
        secondary: TensorFlow itself says that another task is the cause.
        error: the user's exception, pickled; empty if there is none or it cannot be.
        hub_at: when it failed by the clock of the hub, which all ranks share; None where the hub
            did not hear of it.
    """

    rank: int
    task: str
    host: str
    at: float
    reason: Reason
    message: str
    traceback: str = ""
    log_tail: str = ""
    peak_rss_bytes: int = 0
    secondary: bool = False
    error: bytes = b""
    hub_at: float | None = None

    def __post_init__(self) -> None:
        # Where it is made, so that thousands of ranks that all fail fit in the driver's memory.
        for name, cut, most in (
            ("message", bounds.cut, bounds.MESSAGE_CHARS),
            ("traceback", bounds.cut_middle, bounds.TRACEBACK_CHARS),
            ("log_tail", bounds.cut_middle, bounds.LOG_CHARS),
        ):
            text = getattr(self, name)
            if len(text) > most + _CUT_NOTE_CHARS:
                object.__setattr__(self, name, cut(text, most))


Outcome = Success | Failure


def reason_of(error: BaseException) -> Reason:
    """The reason by which the driver raises an error of the class that a rank raised."""
    known = (_REASONS[kind] for kind in type(error).__mro__ if kind in _REASONS)
    return next(known, Reason.RAISED)


def to_record(outcome: Outcome) -> tuple[str, bytes]:
    """``(report, payload)``: JSON, and the bytes that JSON cannot hold."""
    fields = asdict(outcome)
    payload: bytes = fields.pop("value" if isinstance(outcome, Success) else "error")
    return json.dumps({"kind": type(outcome).__name__, **fields}), payload


def from_record(report: str, payload: bytes) -> Outcome:
    """The outcome that ``to_record`` wrote.

    Raises:
        ExecutorEnvironmentError: another version of the library wrote it.
    """
    fields = parse_any("A rank's outcome", report)
    if isinstance(fields, dict) and fields.pop("kind", None) == Success.__name__:
        return build(Success, fields, value=payload)
    return build(Failure, fields, error=payload)


def in_order_of_blame(failures: Sequence[Failure]) -> tuple[Failure, ...]:
    """The failures, first cause first."""
    return tuple(
        sorted(
            failures,
            key=lambda one: (
                one.reason is Reason.STOPPED,
                _consequence(one),
                one.hub_at is None,
                one.at if one.hub_at is None else one.hub_at,
                one.rank,
            ),
        )
    )


def _consequence(one: Failure) -> int:
    """How surely something else was the cause."""
    return 2 if one.secondary else int(one.reason is Reason.CUT_OFF)


def to_error(failures: Sequence[Failure]) -> errors.SparkStrategyError:
    """The error that names the first cause; its ``failures`` hold every rank's.

    Args:
        failures: at least one, in any order.
    """
    ordered = in_order_of_blame(failures)
    kind = _ERRORS.get(ordered[0].reason, errors.WorkerError)
    return kind(_describe(ordered[0], ordered[1:]), ordered)


def _describe(cause: Failure, others: Sequence[Failure]) -> str:
    parts = [f"{cause.task} (rank {cause.rank}) on {cause.host} {cause.message}"]
    if advice := _ADVICE.get(cause.reason):
        parts.append(advice)
    if cause.peak_rss_bytes and cause.reason in (Reason.KILLED, Reason.CRASHED):
        parts.append(f"Peak resident memory: {cause.peak_rss_bytes / 2**20:.0f} MiB.")
    if cause.traceback:
        parts.append(f"\n{cause.task}'s own traceback:\n{cause.traceback.rstrip()}")
    if cause.log_tail and cause.reason not in _SAY_ALL:
        parts.append(f"\n{cause.task}'s last output:\n{cause.log_tail.rstrip()}")
    failed = [other for other in others if other.reason is not Reason.STOPPED]
    if failed:
        parts.append("\nAlso failed, afterwards or because of it:")
        parts.extend(
            f"  {other.task} on {other.host} {bounds.cut(other.message, _OTHERS_CHARS)}"
            for other in failed[:_OTHERS]
        )
        if len(failed) > _OTHERS:
            parts.append(f"  and {len(failed) - _OTHERS:,} more; error.failures has them all")
    return "\n".join(parts)
