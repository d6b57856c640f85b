"""The folder that the Spark task and its child process share: both ends of their protocol.

The two processes on an executor share this folder and an environment, nothing else. Every
file appears whole (written beside itself, then renamed), so its presence is the message:

=============== ========== =====================================================
file            written by means
=============== ========== =====================================================
order.pkl       task       who the child is (``child_order.py``)
function.pkl    task       the user's function and its arguments
cluster.json    task       the rendezvous is complete
rows.json       task       what rows the ranks have so far (``data/row_ledger.py``)
spool/          task       this rank's rows (``data/spool.py``), unless they are kept in memory
worker          child      the index of a worker of parameter-server training
started         child      the user's function is about to run
returned        child      the user's function has returned
value.pkl       child      the function's value; the child now waits for ``released``
failing.json    child      the function failed, and this is known so far
failure.json    child      the function failed
error.pkl       child      ... with this exception
timings.json    child      seconds per phase
waited.json     child      seconds it waited for rows
stacks.txt      child      native and Python stacks, on a crash or when asked (SIGUSR1)
training-ended  task       the evaluator's peers have finished
evaluations.json child     what the evaluator has evaluated so far
released        task       all ranks have finished: leave
child.pid       guard      the child's process id
exit.json       guard      how the child's process ended (:class:`Exit`)
again           task       a process that was lost is to be started again; the guard takes it away
=============== ========== =====================================================
"""

from __future__ import annotations

import json
import pickle
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from spark_strategy.bounds import TRACEBACK_CHARS, cut_middle
from spark_strategy.child_order import ChildOrder
from spark_strategy.cluster import Cluster
from spark_strategy.data.row_ledger import Arrived, to_json
from spark_strategy.errors import RendezvousError
from spark_strategy.evaluator import Evaluation, evaluations_of
from spark_strategy.outcome import Reason

# A process's own folder, under a name that is the same in all: Linux resolves it in whichever
# process opens the path, so one graph reads on each worker what is that worker's. The number is
# far above those of the files that a young process opens.
OWN_DESCRIPTOR: Final = 900
OWN_FOLDER: Final = f"/proc/self/fd/{OWN_DESCRIPTOR}"
WORKER_FILE: Final = f"{OWN_FOLDER}/worker"
OWN_SPOOL: Final = f"{OWN_FOLDER}/spool"

_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class ChildFailure:
    """What a child says of its own failure; fields as in ``outcome.Failure``."""

    reason: Reason
    message: str
    traceback: str
    secondary: bool
    at: float


@dataclass(frozen=True, slots=True)
class Exit:
    """How a child's process ended.

    Attributes:
        code: exit code, or minus the signal number.
        peak_rss_bytes: its peak resident memory.
        at: when, in seconds since the epoch.
    """

    code: int
    peak_rss_bytes: int
    at: float


@dataclass(frozen=True, slots=True)
class ChildFolder:
    """Reads and writes the files above."""

    path: Path

    @property
    def stacks_path(self) -> Path:
        """Where the child's fault handler writes."""
        return self.path / "stacks.txt"

    @property
    def spool_path(self) -> Path:
        """This rank's rows, unless they are kept elsewhere."""
        return self.path / "spool"

    @property
    def scratch_path(self) -> Path:
        """The child's own temporary space."""
        return self.path / "scratch"

    def prepare(self, order: ChildOrder, function: bytes) -> None:
        """Task: everything the child needs before the rendezvous."""
        self.scratch_path.mkdir()
        self._write("function.pkl", function)
        self._write("order.pkl", pickle.dumps(order))

    def read_order(self) -> tuple[ChildOrder, bytes]:
        """Child: who it is, and the pickled function."""
        order = pickle.loads(self._read("order.pkl") or b"")
        return order, self._read("function.pkl") or b""

    def read_restarts(self) -> int:
        """Guard: how often it may be asked to start the process again."""
        order: ChildOrder = pickle.loads(self._read("order.pkl") or b"")
        return order.restarts

    def announce(self, cluster: Cluster) -> None:
        """Task: the rendezvous is complete."""
        self._write("cluster.json", cluster.to_json().encode())

    def wait_for_cluster(self, timeout_s: float) -> Cluster:
        """Child: the cluster, once it is known.

        Raises:
            RendezvousError: not within ``timeout_s``.
        """
        deadline = time.monotonic() + timeout_s
        while (text := self._read("cluster.json")) is None:
            if time.monotonic() > deadline:
                raise RendezvousError(f"waited {timeout_s:g} s for the other ranks.")
            time.sleep(_POLL_S)
        return Cluster.from_json(text.decode())

    def write_rows(self, rows: Mapping[str, Arrived]) -> None:
        """Task: what is known of the rows of all ranks, by the DataFrame's name."""
        self._write("rows.json", to_json(rows))

    def read_rows(self) -> bytes:
        """Child: the same, for ``row_ledger.from_json``; nothing is known at first."""
        return self._read("rows.json") or b"{}"

    def write_waited(self, seconds: float) -> None:
        """Child: how long it has waited for rows."""
        self._write("waited.json", json.dumps(seconds).encode())

    def read_waited(self) -> float:
        """Task: how long the child has waited for rows, in seconds."""
        return float(json.loads(self._read("waited.json") or b"0"))

    def mark_started(self) -> None:
        """Child: the user's function is about to run."""
        self._write("started", b"")

    @property
    def started(self) -> bool:
        """Whether the user's function has begun."""
        return (self.path / "started").exists()

    def mark_returned(self) -> None:
        """Child: the user's function has returned; its value is about to be pickled."""
        self._write("returned", b"")

    @property
    def returned(self) -> bool:
        """Whether it has."""
        return (self.path / "returned").exists()

    def write_timings(self, timings: dict[str, float]) -> None:
        """Child: seconds per phase, so far."""
        self._write("timings.json", json.dumps(timings).encode())

    def read_timings(self) -> dict[str, float]:
        """Task: seconds per phase, as far as the child got."""
        timings: dict[str, float] = json.loads(self._read("timings.json") or b"{}")
        return timings

    def end_training(self) -> None:
        """Task: the evaluator's peers have finished. Safe to say again."""
        if not self.training_ended:
            self._write("training-ended", b"")

    @property
    def training_ended(self) -> bool:
        """Whether they have."""
        return (self.path / "training-ended").exists()

    def write_evaluations(self, evaluations: Sequence[Evaluation]) -> None:
        """Child: all evaluations so far."""
        self._write("evaluations.json", json.dumps(list(map(asdict, evaluations))).encode())

    def read_evaluations(self) -> tuple[Evaluation, ...]:
        """Task: all evaluations so far."""
        return evaluations_of(json.loads(self._read("evaluations.json") or b"[]"))

    def succeed(self, value: bytes) -> None:
        """Child: the function's pickled value."""
        self._write("value.pkl", value)

    @property
    def succeeded(self) -> bool:
        """Whether the value is there."""
        return (self.path / "value.pkl").exists()

    def read_value(self) -> bytes:
        """Task: the function's pickled value."""
        return (self.path / "value.pkl").read_bytes()

    def fail_soon(self, failure: ChildFailure) -> None:
        """Child: what is known of its failure so far, in case no more can be said."""
        self._write("failing.json", json.dumps(asdict(failure)).encode())

    def read_failing(self) -> ChildFailure | None:
        """Task: the last of these; None if the child is not failing."""
        text = self._read("failing.json")
        return None if text is None else _failure_from(text)

    def fail(self, failure: ChildFailure, error: bytes) -> None:
        """Child: its failure, and the exception pickled (empty if it cannot be)."""
        self._write("error.pkl", error)
        self._write("failure.json", json.dumps(asdict(failure)).encode())

    def read_failure(self) -> tuple[ChildFailure, bytes] | None:
        """Task: the child's failure, if it named one."""
        text = self._read("failure.json")
        if text is None:
            return None
        return _failure_from(text), self._read("error.pkl") or b""

    def release(self) -> None:
        """Task: every rank has finished."""
        self._write("released", b"")

    def wait_for_release(self) -> None:
        """Child: until the task says so. The guard ends a child whose task is gone."""
        while not (self.path / "released").exists():
            time.sleep(_POLL_S)

    def read_stacks(self) -> str:
        """Task: what the fault handler wrote."""
        text = (self._read("stacks.txt") or b"").decode(errors="replace")
        return cut_middle(text, TRACEBACK_CHARS)

    def write_pid(self, pid: int) -> None:
        """Guard: the child's process id."""
        self._write("child.pid", str(pid).encode())

    def read_pid(self) -> int | None:
        """Task: the child's process id, once it has one."""
        text = self._read("child.pid")
        return None if text is None else int(text)

    def write_exit(self, end: Exit) -> None:
        """Guard: how the child's process ended."""
        self._write("exit.json", json.dumps(asdict(end)).encode())

    def read_exit(self) -> Exit | None:
        """Task: how the child's process ended, once it has."""
        text = self._read("exit.json")
        return None if text is None else Exit(**json.loads(text))

    def start_again(self) -> None:
        """Task: start the process that was lost once more; what it left is forgotten."""
        for name in ("exit.json", "started", "returned", "value.pkl", "stacks.txt", "child.pid"):
            (self.path / name).unlink(missing_ok=True)
        self._write("again", b"")

    def take_again(self) -> bool:
        """Guard: whether the task asked for that since the last time."""
        try:
            (self.path / "again").unlink()
        except FileNotFoundError:
            return False
        return True

    def _write(self, name: str, content: bytes) -> None:
        beside = self.path / f".{name}"
        beside.write_bytes(content)
        beside.replace(self.path / name)

    def _read(self, name: str) -> bytes | None:
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            return None


def _failure_from(text: bytes) -> ChildFailure:
    fields = json.loads(text)
    return ChildFailure(**{**fields, "reason": Reason(fields["reason"])})
