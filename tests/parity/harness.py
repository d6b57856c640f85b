"""Runs one function on two TensorFlow workers and, apart from them, in a single process.

TensorFlow's distributed runtime can be configured once per process and importing it costs
seconds, so the three processes are started once and are sent one case after another. Every wait
has a deadline; a pool in which anything went wrong is killed, and the next case gets a new one.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import cloudpickle

import rank_process

WORKERS = 2
START_S = 120.0
CASE_S = 120.0


class CaseFailedError(AssertionError):
    """A rank raised, died or did not answer in time; carries what it said."""


@dataclass(frozen=True)
class Outcome:
    """What a case returned in the single process and on each rank."""

    single: Any
    ranks: tuple[Any, ...]


def reserve_ports(count: int) -> list[socket.socket]:
    """Sockets that hold a port without listening, so that only TensorFlow can bind it again."""
    reserved = []
    for _ in range(count):
        held = socket.socket()
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(("127.0.0.1", 0))
        reserved.append(held)
    return reserved


class Pool:
    """Two workers of one cluster and a process outside it, all with the same Keras."""

    def __init__(self, flavour: str, folder: Path, *, repaired: bool = True) -> None:
        """Starts the processes; they import TensorFlow while the caller goes on."""
        self.flavour = flavour
        self._ports = reserve_ports(WORKERS)
        addresses = [f"127.0.0.1:{held.getsockname()[1]}" for held in self._ports]
        context = multiprocessing.get_context("spawn")
        self._processes = []
        self._pipes: list[Connection] = []
        for rank in [None, *range(WORKERS)]:
            ours, theirs = context.Pipe()
            start = rank_process.Start(
                flavour, rank, tf_config(addresses, rank), str(folder), repaired
            )
            process = context.Process(target=rank_process.serve, args=(theirs, start), daemon=True)
            process.start()
            theirs.close()
            self._processes.append(process)
            self._pipes.append(ours)
        self._ready = False

    def run(self, case: Any, *args: Any, deadline_s: float = CASE_S) -> Outcome:
        """Sends the case to every process and waits for every answer.

        Args:
            case: called as ``case(env, *args)`` in each process, inside the strategy's scope.
            args: passed on.
            deadline_s: seconds for the whole case.

        Raises:
            CaseFailedError: with the first traceback, or the ranks that gave no answer.
        """
        if not self._ready:
            self._collect(START_S, "start")
            self._ready = True
        message = cloudpickle.dumps((case, args))
        for pipe in self._pipes:
            pipe.send_bytes(message)
        single, *ranks = self._collect(deadline_s, getattr(case, "__name__", "case"))
        return Outcome(single, tuple(ranks))

    def _collect(self, deadline_s: float, what: str) -> list[Any]:
        answers: dict[int, Any] = {}
        end = time.monotonic() + deadline_s
        while len(answers) < len(self._pipes):
            waiting = {id(p): n for n, p in enumerate(self._pipes) if n not in answers}
            ready = wait([self._pipes[n] for n in waiting.values()], timeout=end - time.monotonic())
            if not ready or time.monotonic() > end:
                names = [name_of(n) for n in waiting.values()]
                raise CaseFailedError(f"{what}: no answer from {names} within {deadline_s:.0f} s")
            for pipe in ready:
                number = waiting[id(pipe)]
                answers[number] = receive(pipe, name_of(number))  # type: ignore[arg-type]
        return [answers[n] for n in range(len(self._pipes))]

    def close(self) -> None:
        """Kills the processes and gives the ports back; nothing is left behind."""
        for process in self._processes:
            process.kill()
            process.join(10)
        for pipe in self._pipes:
            pipe.close()
        for held in self._ports:
            held.close()


def name_of(number: int) -> str:
    """The process in words: 0 is the single one, the others are ranks."""
    return "single process" if number == 0 else f"rank {number - 1}"


def tf_config(addresses: list[str], rank: int | None) -> str | None:
    """TF_CONFIG of a worker; None for the process outside the cluster."""
    if rank is None:
        return None
    task = {"type": "worker", "index": rank}
    return json.dumps({"cluster": {"worker": addresses}, "task": task})


def receive(pipe: Connection, name: str) -> Any:
    """The value a process answered with; its traceback as CaseFailedError."""
    try:
        kind, value = cloudpickle.loads(pipe.recv_bytes())
    except EOFError:
        raise CaseFailedError(f"{name} died") from None
    if kind == "error":
        raise CaseFailedError(f"{name} raised\n{value}")
    return value


class Pools:
    """One pool at a time, replaced when it failed or when another kind is asked for."""

    def __init__(self, folder: Path) -> None:
        """No process is started before the first case."""
        self._folder = folder
        self._key: tuple[str, bool] | None = None
        self._pool: Pool | None = None

    def run(self, flavour: str, case: Any, *args: Any, repaired: bool = True, **kw: Any) -> Outcome:
        """As Pool.run, on a live pool of this kind."""
        if self._pool is None or self._key != (flavour, repaired):
            self.close()
            self._folder.mkdir(parents=True, exist_ok=True)
            self._key = (flavour, repaired)
            self._pool = Pool(flavour, self._folder, repaired=repaired)
        try:
            return self._pool.run(case, *args, **kw)
        except BaseException:  # pytest's own timeout leaves answers unread, too
            self.close()
            raise

    def close(self) -> None:
        """Ends the pool, if there is one."""
        if self._pool is not None:
            self._pool.close()
        self._pool = None


def cores() -> int:
    """Cores this machine lets us use; the suite asks for two."""
    return len(os.sched_getaffinity(0))
