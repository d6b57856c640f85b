"""A rank's seat at the hub: says how the rank is, hears what all do next; see ``control.py``."""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from spark_strategy.data.row_ledger import Arrived, Counts, with_news
from spark_strategy.patience import USUAL, Patience
from spark_strategy.spark.control import LEFT, SILENT, Gone
from spark_strategy.spark.verdicts import State, Verdict
from spark_strategy.spark.wire import connect

_log = logging.getLogger(__name__)

# Until the hub says how often.
_BEAT_S: Final = 1.0
_PACE_S: Final = 0.05
# The verdict is asked for at least so often, unless the whole process stood still.
_ASKED_S: Final = 2.0
# A hub whose host has stopped takes nothing; who reports to it must not stop as well.
_SEND_S: Final = 5


class Seat:
    """A rank's side: reports its state, knows the verdict.

    Args:
        address: the hub's ``host:port``.
        secret: the run's secret.
        rank: this rank.
        patience: with how long to try, and how long a hub may be silent.
        clock: this host's, in seconds since the epoch.

    Raises:
        RendezvousError: the hub cannot be reached.
    """

    def __init__(
        self,
        address: str,
        secret: bytes,
        rank: int,
        *,
        patience: Patience = USUAL,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._silence_s = math.inf if patience.silence_s is None else patience.silence_s
        self._line = connect(
            address, secret, str(rank), timeout_s=patience.connect_s, send_timeout_s=_SEND_S
        )
        self._state = State.RUNNING
        self._lock = threading.Lock()
        self._verdict = Verdict.GO_ON
        self._why = ""
        self._hub_gone: Gone | None = None
        self._training_ended = False
        self._ahead_s: float | None = None
        self._has_answer = threading.Event()
        self._ranks = 0
        self._pace_s, self._beat_s = _PACE_S, _BEAT_S
        self._rows: dict[str, Arrived] = {}
        self._heard = self._spoke = self._asked = time.monotonic()
        self._closed = threading.Event()
        for target in (self._listen, self._beat):
            threading.Thread(target=target, daemon=True).start()

    def report(self, state: State) -> None:
        """Say it now."""
        with self._lock:
            if state is self._state:
                return
            self._state = state
        self._say({"state": state, "clock": self._clock()})

    @property
    def verdict(self) -> Verdict:
        """The hub's word; ABORT when it has been silent for ``silence_s``. Ask often."""
        now = time.monotonic()
        # Where this process itself stood still, what came meanwhile has not been read yet.
        stood_still_s = now - self._asked - _ASKED_S
        self._asked = now
        if stood_still_s > 0:
            self._heard = min(now, self._heard + stood_still_s)
        if self._verdict is Verdict.GO_ON and now - self._heard > self._silence_s:
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

    def ahead_s(self, timeout_s: float) -> float | None:
        """How far the hub's clock is ahead of this host's, once this rank has failed.

        Args:
            timeout_s: seconds to wait for the hub's answer; None is returned without one.
        """
        self._has_answer.wait(timeout_s)
        return self._ahead_s

    @property
    def pace_s(self) -> float:
        """How often the hub wants to hear row counts at most, in seconds."""
        return self._pace_s

    def report_rows(self, counts: Counts) -> None:
        """Say how many rows have arrived here; what is known of all ranks is in :attr:`rows`."""
        self._say({"rows": {name: [one.rows, one.complete] for name, one in counts.items()}})

    @property
    def rows(self) -> Mapping[str, Arrived]:
        """What the hub last said of all ranks' rows, by name of the DataFrame.

        It is another object whenever that changes.
        """
        return self._rows

    def close(self) -> None:
        """Leave."""
        self._closed.set()
        self._line.close()

    def _listen(self) -> None:
        why = ""
        try:
            for body in self._line:
                self._heard, self._hub_gone = time.monotonic(), None
                if body:
                    self._hear(body)
        # Whatever a hub of another version says: this rank must not wait for it without a word.
        except Exception as error:  # noqa: BLE001
            why = f"the hub said what cannot be read: {error!r}"
            _log.warning("Rank 0 is not heard any more: %s", why)
        self._has_answer.set()
        why = why or self._line.ended
        if self._verdict is Verdict.GO_ON:
            self._cut_off(f"{LEFT} ({why})" if why else LEFT)

    def _hear(self, body: bytes) -> None:
        if not body.startswith(b"{"):
            self._rows = with_news(self._rows, body, self._ranks)
            return
        fields = json.loads(body)
        if "ahead_s" in fields:
            self._ahead_s = float(fields["ahead_s"])
            self._has_answer.set()
        elif "ranks" in fields:
            self._ranks = int(fields["ranks"])
            self._pace_s, self._beat_s = float(fields["pace_s"]), float(fields["beat_s"])
        elif (verdict := Verdict(fields["verdict"])) is Verdict.CLOSE:
            self._training_ended = True
        elif self._verdict is Verdict.GO_ON:
            self._why, self._verdict = str(fields["why"]), verdict

    def _cut_off(self, why: str) -> None:
        gone = Gone.since(self._heard, why)
        self._hub_gone = gone
        self._why, self._verdict = f"rank 0 {gone.why}", Verdict.ABORT

    def _beat(self) -> None:
        """Show that this task lives, where nothing else has for a while."""
        while not self._closed.wait(self._beat_s):
            if time.monotonic() - self._spoke >= self._beat_s / 2:
                self._send(b"")

    def _say(self, fields: dict[str, Any]) -> None:
        self._send(json.dumps(fields).encode())

    def _send(self, body: bytes) -> None:
        self._spoke = time.monotonic()
        with suppress(OSError):  # the hub is gone, and whoever reads the line sees it
            self._line.send(body)
