"""A rank's seat at the hub: says how the rank is, hears what all do next; see ``control.py``."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from typing import Final

from spark_strategy.data.steps import Shard
from spark_strategy.spark.control import (
    LEFT,
    ROWS,
    SILENCE_S,
    SILENT,
    Counts,
    Gone,
    State,
    Verdict,
    send,
)
from spark_strategy.spark.wire import connect

_BEAT_S: Final = 1.0


class Seat:
    """A rank's side: reports its state, knows the verdict.

    Args:
        address: the hub's ``host:port``.
        secret: the run's secret.
        rank: this rank.
        timeout_s: seconds to connect.
        silence_s: seconds after which a hub that is not heard of counts as gone.

    Raises:
        RendezvousError: the hub cannot be reached.
    """

    def __init__(
        self,
        address: str,
        secret: bytes,
        rank: int,
        *,
        timeout_s: float,
        silence_s: float = SILENCE_S,
    ) -> None:
        self._silence_s = silence_s
        self._line = connect(address, secret, str(rank), timeout_s=timeout_s)
        self._state = State.RUNNING
        self._lock = threading.Lock()
        self._verdict = Verdict.GO_ON
        self._why = ""
        self._hub_gone: Gone | None = None
        self._training_ended = False
        self._rows: tuple[Counts, ...] = ()
        self._heard = time.monotonic()
        self._closed = threading.Event()
        for target in (self._listen, self._beat):
            threading.Thread(target=target, daemon=True).start()

    def report(self, state: State) -> None:
        """Say it now."""
        self._state = state
        self._send()

    @property
    def verdict(self) -> Verdict:
        """The hub's word; ABORT when it has been silent for ``silence_s``."""
        silence = time.monotonic() - self._heard
        if self._verdict is Verdict.GO_ON and silence > self._silence_s:
            self._cut_off(SILENT.format(self._silence_s))
        return self._verdict

    @property
    def why(self) -> str:
        """What broke between the ranks; empty when a rank failed and said so."""
        return self._why

    @property
    def hub_gone(self) -> Gone | None:
        """What is known where the hub itself does not answer; None again if it does after all."""
        return self._hub_gone

    @property
    def training_ended(self) -> bool:
        """Whether all ranks but the evaluators have finished."""
        return self._training_ended

    def report_rows(self, counts: Counts) -> None:
        """Say how many rows have arrived here; the answer is in :attr:`rows` soon."""
        fields = {name: [shard.rows, shard.complete] for name, shard in counts.items()}
        send(self._line, ROWS + json.dumps(fields).encode())

    @property
    def rows(self) -> tuple[Counts, ...]:
        """What the hub last knew of every rank's rows, in rank order; empty before its answer."""
        return self._rows

    def close(self) -> None:
        """Leave."""
        self._closed.set()
        self._line.close()

    def _listen(self) -> None:
        for text in self._line:
            self._heard, self._hub_gone = time.monotonic(), None
            if text.startswith(ROWS):
                self._rows = tuple(map(_counts, json.loads(text.removeprefix(ROWS))))
                continue
            verdict, _, why = text.decode().partition(": ")
            if verdict == Verdict.CLOSE:
                self._training_ended = True
            elif self._verdict is Verdict.GO_ON:
                self._why, self._verdict = why, Verdict(verdict)
        if self._verdict is Verdict.GO_ON:
            self._cut_off(LEFT)

    def _cut_off(self, why: str) -> None:
        gone = Gone.since(self._heard, why)
        self._hub_gone = gone
        self._why, self._verdict = f"rank 0 {gone.why}", Verdict.ABORT

    def _beat(self) -> None:
        self._send()
        while not self._closed.wait(_BEAT_S):
            self._send()

    def _send(self) -> None:
        with self._lock:  # else a beat could bring an older state after a newer one
            send(self._line, self._state.encode())


def _counts(fields: Mapping[str, tuple[int, bool]]) -> Counts:
    return {name: Shard(*shard) for name, shard in fields.items()}
