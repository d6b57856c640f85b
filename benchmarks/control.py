"""Control plane: what rank 0's hub costs for each rank, with 16 to 4,000 of them over loopback.

The hub runs in a process of its own, so that its CPU time is its own. All ranks are sockets of
this process, served by one selector: they speak the real protocol, but have no threads and no
child. They connect all at once, are fed for some seconds, show that they live for some more, and
then one fails and all others follow. One in a hundred never reads what it is sent.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import selectors
import socket
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import psutil
import report

from spark_strategy.data.row_ledger import Arrived, with_news
from spark_strategy.spark.control import Hub
from spark_strategy.spark.line_protocol import Channel, Joining, Message
from spark_strategy.spark.line_server import LineServer
from spark_strategy.spark.rendezvous import reserve
from spark_strategy.spark.wire import new_secret

RANKS = (16, 1000, 4000)
DEAF = 100
# A rank that follows all news; the others only check the codes of what they hear.
LISTENERS = 5
WAIT_S = 60.0
TARGET = 1.0


def keep_hub(ranks: int, secret: bytes, pipe: Connection) -> None:
    """The hub's process: its port first, then what it has used whenever it is asked."""
    server = LineServer(reserve(None), secret, Hub(ranks), lines=ranks)
    pipe.send(server.port)
    began = time.process_time()
    while pipe.recv():
        rss = psutil.Process().memory_info().rss
        pipe.send((time.process_time() - began, rss, threading.active_count()))
    server.close()


class Rank:
    """One rank: a socket, and what it has heard."""

    def __init__(self, number: int, secret: bytes, port: int) -> None:
        self.number = number
        self.joining: Joining | None = Joining(secret, str(number))
        self.channel: Channel | None = None
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)
        self.socket.settimeout(0)
        self.answered = False
        self.heard: dict[str, Any] = {}
        self.rows: dict[str, Arrived] = {}
        self.messages = 0

    def ready(self) -> None:
        """Something has come."""
        data = self.socket.recv(1 << 16)
        if not data:
            raise ConnectionError(f"the hub has ended the line of rank {self.number}")
        if self.channel is not None:
            self._take(self.channel.receive(data))
        elif not self.answered:
            assert self.joining is not None
            self.socket.sendall(self.joining.answer(data))
            self.answered = True
        else:
            assert self.joining is not None
            found = self.joining.welcome(data)
            if found is not None:
                self.channel, first = found
                self.socket.sendall(first)

    def say(self, fields: dict[str, Any] | None) -> None:
        """A message; None is a sign of life."""
        assert self.channel is not None
        body = b"" if fields is None else json.dumps(fields).encode()
        self.socket.sendall(self.channel.header(Message(body)) + body)

    def _take(self, bodies: list[bytes]) -> None:
        self.messages += len(bodies)
        for body in bodies:
            if body.startswith(b"{"):
                self.heard |= json.loads(body)
            elif body and self.number < LISTENERS:
                self.rows = with_news(self.rows, body, self.heard["ranks"])


class Crowd:
    """All ranks of a run."""

    def __init__(self, ranks: int, secret: bytes, port: int) -> None:
        self._selector = selectors.DefaultSelector()
        self.ranks = []
        for number in range(ranks):
            rank = Rank(number, secret, port)
            self.ranks.append(rank)
            self._selector.register(rank.socket, selectors.EVENT_READ, rank)
            self.listen(0.0)
        self.until(lambda: all("ranks" in rank.heard for rank in self.ranks))
        for rank in self.ranks[LISTENERS::DEAF] if ranks >= DEAF else ():
            self._selector.unregister(rank.socket)
        self.reading = [rank for rank in self.ranks if rank.socket in self._selector.get_map()]

    def until(self, condition: Callable[[], bool]) -> float:
        """Listen until it holds; seconds that took."""
        began = looked = time.monotonic()
        while not condition():
            # With thousands of ranks the question takes longer than hearing one of them.
            while time.monotonic() - looked < 0.01:
                self.listen(0.002)
            looked = time.monotonic()
            if looked - began > WAIT_S:
                raise TimeoutError(f"not within {WAIT_S:g} s")
        return time.monotonic() - began

    def listen(self, seconds: float) -> None:
        """Hear what comes now."""
        for key, _ in self._selector.select(seconds):
            key.data.ready()

    def each(self, period_s: float, seconds: float, say: Callable[[Rank], None]) -> None:
        """Let every rank say something once in each period, spread over it."""
        began, said = time.monotonic(), 0
        total = int(len(self.ranks) * seconds / period_s)
        while said < total:
            due = min(total, int(len(self.ranks) * (time.monotonic() - began) / period_s))
            for turn in range(said, due):
                say(self.ranks[turn % len(self.ranks)])
            said = due
            self.listen(0.002)

    def close(self) -> None:
        """Hang up."""
        for rank in self.ranks:
            rank.socket.close()
        self._selector.close()


def fed(crowd: Crowd, seconds: float) -> float:
    """Feed the ranks; seconds from the last row until all have heard of it."""
    arrived = dict.fromkeys(range(len(crowd.ranks)), 0)

    def say(rank: Rank) -> None:
        arrived[rank.number] += 1000 + rank.number % 7
        rank.say({"rows": {"train": [arrived[rank.number], False]}})

    crowd.each(crowd.ranks[0].heard["pace_s"], seconds, say)
    for rank in crowd.ranks:
        rank.say({"rows": {"train": [arrived[rank.number], True]}})
    listeners = crowd.ranks[:LISTENERS]
    return crowd.until(
        lambda: all(
            "train" in rank.rows and rank.rows["train"].final == arrived for rank in listeners
        )
    )


def failed(crowd: Crowd) -> tuple[float, float]:
    """One fails, and then all do; seconds to the last verdict, and to the last answer."""
    failure = {"state": "failed", "clock": time.time()}
    crowd.ranks[-1].say(failure)
    verdict = crowd.until(lambda: all("verdict" in rank.heard for rank in crowd.reading))
    for rank in crowd.ranks[:-1]:
        rank.say(failure)
    answer = crowd.until(lambda: all("ahead_s" in rank.heard for rank in crowd.reading))
    return verdict, answer


def measured(ranks: int, seconds: int) -> dict[str, float]:
    """A run of so many ranks."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    secret = new_secret()
    process = context.Process(target=keep_hub, args=(ranks, secret, theirs), daemon=True)
    process.start()
    port = ours.recv()

    def used() -> tuple[float, float, int]:
        ours.send("used")
        found: tuple[float, float, int] = ours.recv()
        return found

    rss_before, began = used()[1], time.monotonic()
    crowd = Crowd(ranks, secret, port)
    arrival_s, arrival_cpu = time.monotonic() - began, used()[0]
    news_s = fed(crowd, seconds)
    fed_cpu, _, threads = used()
    crowd.each(crowd.ranks[0].heard["beat_s"], seconds, lambda rank: rank.say(None))
    idle_cpu = used()[0]
    verdict_s, answer_s = failed(crowd)
    cpu, rss, _ = used()
    ours.send("")
    crowd.close()
    process.join(WAIT_S)
    parts = {
        "arrival": arrival_cpu,
        "feeding": fed_cpu - arrival_cpu,
        "idle": idle_cpu - fed_cpu,
        "failure": cpu - idle_cpu,
    }
    return {
        **{f"{name}_cpu_ms_per_rank": round(1e3 * one / ranks, 3) for name, one in parts.items()},
        "cpu_ms_per_rank": round(1e3 * cpu / ranks, 3),
        "kib_per_rank": round((rss - rss_before) / 1024 / ranks, 1),
        "threads": threads,
        "arrival_s": round(arrival_s, 3),
        "news_s": round(news_s, 3),
        "verdict_s": round(verdict_s, 3),
        "answer_s": round(answer_s, 3),
    }


def main() -> None:
    """Measure, print, judge."""
    asked = report.arguments(__doc__ or "", seconds=10, most=RANKS[-1])
    sizes = [ranks for ranks in RANKS if ranks <= asked.most]
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = sizes[-1] + 1024
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    figures = {}
    for ranks in sizes:
        figures[ranks] = measured(ranks, asked.seconds)
        report.progress(f"{ranks} ranks: {figures[ranks]}")
    costs = {ranks: one["cpu_ms_per_rank"] for ranks, one in figures.items()}
    ratio = costs[sizes[-1]] / costs[sizes[0]]
    report.finish(
        "control",
        ratio=ratio,
        target=f"CPU of the hub per rank at {sizes[-1]} no more than at {sizes[0]}",
        met=ratio <= TARGET,
        check=asked.check,
        ranks=figures,
    )


if __name__ == "__main__":
    main()
