"""Watches one child and decides how its task ended."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, replace
from typing import Final

from spark_strategy.data.feed import FeedStats
from spark_strategy.errors import CapacityError, DataError
from spark_strategy.folder import Exit
from spark_strategy.outcome import Failure, Outcome, Reason, Success, Timings
from spark_strategy.plan import Orders
from spark_strategy.spark.alone import OwnSeat
from spark_strategy.spark.child import Child, address_space_note, explain_exit
from spark_strategy.spark.child_deadlines import ChildDeadlines
from spark_strategy.spark.feeder import Feeder, RowCounts
from spark_strategy.spark.last_words import last_words
from spark_strategy.spark.output import Relay
from spark_strategy.spark.seat import Seat
from spark_strategy.spark.verdicts import State, Verdict

FROZEN_S: Final = 10.0
_POLL_S: Final = 0.02
_FREEZE_POLL_S: Final = 0.5
# A child that fails makes its peers fail within 0.2 s (measured); on an abort, its own end is
# given this long to show, so that the cause is not reported as "stopped".
_OWN_END_S: Final = 0.5
# How it ended is known only when the processes that it leaves behind have ended as well.
_REPORT_S: Final = 5.0
# Exit handlers and TensorFlow's own tear-down.
_LEAVE_S: Final = 10.0
# The same in a child that has failed, with the driver waiting for the news.
_FAILED_LEAVE_S: Final = 1.0
_DRAIN_S: Final = 0.3
# What Python, C++ and TensorFlow raise where they get no memory.
_OUT_OF_MEMORY: Final = re.compile(
    r"MemoryError|bad_alloc|ResourceExhausted|[Cc]annot allocate memory"
)
# What a new process may be spared; an error that Python raised comes again.
_LOST: Final = frozenset({Reason.KILLED, Reason.CRASHED, Reason.EXITED, Reason.FROZEN})


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of the task apart from its child.

    Attributes:
        rank: its rank.
        task: its name in the cluster.
        host: where it runs.
        schedule_s: from the call on the driver to the start of the task.
        rendezvous_s: from the start of the task to a complete cluster.
        began: start of the task, in monotonic seconds.
        serves: whether the child serves others instead of calling the function.
        restarts: how often its process may be started again.
        evaluation_s: of an evaluator, seconds that one evaluation may take after training.
    """

    rank: int
    task: str
    host: str
    schedule_s: float
    rendezvous_s: float
    began: float
    serves: bool = False
    restarts: int = 0
    evaluation_s: float = 0.0


class Supervisor:
    """One child, one seat at the hub, one relay, one feeder if Spark feeds it, one outcome."""

    def __init__(
        self,
        child: Child,
        seat: Seat | OwnSeat,
        relay: Relay,
        *,
        seen: Seen,
        orders: Orders,
        feeder: Feeder | None,
    ) -> None:
        self._child = child
        self._folder = child.folder
        self._seat = seat
        self._relay = relay
        self._seen = seen
        self._feeder = feeder
        self._counts = RowCounts(feeder, seat, child.folder) if feeder else None
        self._deadlines = ChildDeadlines(
            child.folder, orders, began=seen.began, evaluation_s=seen.evaluation_s
        )
        self._next_look = 0.0
        self._restarts, self._cause = 0, ""

    def outcome(self) -> Outcome:
        """Wait for the end of this rank, whatever it is; the child may still be alive.

        Raises:
            Exception: whatever Spark's iterator of rows raised; Spark says more of it.
        """
        finished = False
        while True:
            if self._seat.training_ended:
                self._folder.end_training()
            if not finished and self._folder.succeeded:
                finished = True
                self._seat.report(State.FINISHED)
            if self._counts:
                self._counts.exchange()
            failure = self._failed(finished)
            if failure and self._starts_again(failure):
                finished = False
            elif failure:
                self._seat.report(State.FAILED)
                return failure
            match self._seat.verdict:
                case Verdict.RELEASE:
                    return self._success()
                case Verdict.ABORT:
                    self._seat.report(State.FAILED)  # else the others would miss this rank
                    # The chief may say sooner that a server is gone than the server's task sees it.
                    is_harmless = finished and not self._seen.serves
                    return self._stopped() if is_harmless else self._aborted()
                case Verdict.GO_ON:
                    time.sleep(_POLL_S)

    def _failed(self, finished: bool) -> Failure | None:  # noqa: FBT001 - what was just seen
        """The failure of this rank, if there is one."""
        # A child that ends before it is released is a failure, also after its value.
        # And its peers may still read what its feed counts.
        failure = self._own_end() or self._underfed() or (None if finished else self._overdue())
        # A rank that has finished harms nobody by standing still, unless it serves others.
        if failure or (finished and not self._seen.serves) or time.monotonic() < self._next_look:
            return failure
        self._next_look = time.monotonic() + _FREEZE_POLL_S
        return self._frozen(FROZEN_S)

    def _starts_again(self, failure: Failure) -> bool:
        """Whether a process that was lost is replaced; the others can do without it meanwhile."""
        if (
            failure.reason not in _LOST
            or self._restarts == self._seen.restarts
            or self._child.guard_code is not None
            or self._seat.verdict is not Verdict.GO_ON
        ):
            return False
        if failure.reason is Reason.FROZEN:
            self._cause = failure.message
            self._child.kill()  # its end shows in a moment
            return True
        cause, self._cause = self._cause or failure.message, ""
        self._restarts += 1
        self._deadlines.start_again()
        self._seat.report(State.RUNNING)
        self._relay.say(
            f"{cause}; it is started again "
            f"({self._restarts} of at most {self._seen.restarts} times)"
        )
        self._folder.start_again()
        return True

    def _success(self) -> Success:
        self._folder.release()
        end = self._exit_within(_LEAVE_S)
        self._relay.join(1.0)
        timings = Timings(
            schedule_s=self._seen.schedule_s,
            rendezvous_s=self._seen.rendezvous_s,
            **self._folder.read_timings(),
        )
        return Success(
            self._seen.rank,
            self._seen.task,
            self._seen.host,
            timings,
            end.peak_rss_bytes if end else 0,
            b"" if self._seen.serves else self._folder.read_value(),
            self._feed_stats(),
            self._restarts,
        )

    def _feed_stats(self) -> FeedStats | None:
        if self._feeder is None:
            return None
        return replace(self._feeder.stats, train_wait_s=self._folder.read_waited())

    def _exit_within(self, timeout_s: float) -> Exit | None:
        deadline = time.monotonic() + timeout_s
        while (end := self._folder.read_exit()) is None and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        return end

    def _own_end(self) -> Failure | None:
        """The failure behind the end of the child's process, if it has ended."""
        end = self._folder.read_exit()
        said = last_words(self._folder, lambda: self._seat.report(State.FAILED))
        if end is None and said:
            # The peers need not wait for TensorFlow's tear-down and exit handlers.
            self._seat.report(State.FAILED)
            end = self._exit_within(_FAILED_LEAVE_S) or Exit(1, 0, said[0].at)
        if end is None:
            if (guard := self._child.guard_code) is None:
                return None
            likely = "a full disk?" if guard >= 0 else "something stopped it by a signal"
            what = f"lost the guard of its process, which ended with code {guard} ({likely})"
            return self._failure(Reason.EXITED if guard >= 0 else Reason.KILLED, what)
        self._relay.join(_DRAIN_S)
        if said:
            failure, error = said
            note = address_space_note() if _OUT_OF_MEMORY.search(failure.message) else ""
            return self._failure(
                failure.reason,
                f"{failure.message}{note}",
                at=failure.at,
                traceback=failure.traceback,
                secondary=failure.secondary,
                error=error,
                peak_rss_bytes=end.peak_rss_bytes,
            )
        return self._failure(
            *explain_exit(end.code, address_space_note()),
            at=end.at,
            traceback=self._folder.read_stacks(),
            peak_rss_bytes=end.peak_rss_bytes,
        )

    def _underfed(self) -> Failure | None:
        """The failure behind the end of the feed, if it ended early."""
        error = self._feeder.error if self._feeder else None
        if error is None:
            return None
        if isinstance(error, DataError):
            return self._failure(Reason.DATA, f"cannot use its rows: {error}")
        if isinstance(error, CapacityError):
            return self._failure(Reason.SPACE, str(error))
        raise error

    def _overdue(self) -> Failure | None:
        passed = self._deadlines.passed(training_ended=self._seat.training_ended)
        if passed is None:
            return None
        return self._failure(*passed, traceback=self._child.stacks())

    def _frozen(self, after_s: float) -> Failure | None:
        since = self._child.frozen_since()
        if since is None or time.time() - since < after_s:
            return None
        what = f"is frozen: stopped by a signal for {time.time() - since:.0f} s"
        return self._failure(Reason.FROZEN, what, at=since)

    def _aborted(self) -> Failure:
        """Another rank failed, unless this one is about to turn out to be the cause."""
        began = time.monotonic()
        while time.monotonic() - began < (_REPORT_S if self._child.has_died else _OWN_END_S):
            if failure := self._own_end() or self._frozen(0.0):
                return failure
            time.sleep(_POLL_S)
        return self._stopped()

    def _stopped(self) -> Failure:
        if self._seat.why:
            return self._failure(Reason.CUT_OFF, f"lost its peers: {self._seat.why}")
        return self._failure(Reason.STOPPED, "was stopped because another rank failed")

    def _failure(
        self,
        reason: Reason,
        message: str,
        *,
        at: float | None = None,
        traceback: str = "",
        secondary: bool = False,
        error: bytes = b"",
        peak_rss_bytes: int = 0,
    ) -> Failure:
        return Failure(
            rank=self._seen.rank,
            task=self._seen.task,
            host=self._seen.host,
            at=time.time() if at is None else at,
            reason=reason,
            message=message,
            traceback=traceback,
            log_tail=self._relay.tail,
            peak_rss_bytes=peak_rss_bytes,
            secondary=secondary,
            error=error,
        )
