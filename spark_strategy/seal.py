"""Seals what a rank says, so that nobody else can say it: both ends.

The theory. A run has a secret that only its driver and its ranks know: it travels inside Spark's
serialized task, and is never said over any other way. Whatever a rank tells the driver or its
peers carries an HMAC-SHA256 with that secret over the run, the attempt, the rank, the kind of
message, and the bytes. So text that looks like a report (Spark quotes a table's cells in its
errors) is not one, and a report of another run, attempt, rank or kind is not one either. Whoever
reads checks the size first, the seal second, and decodes and parses only what has passed.

Each field is preceded by its length: no two different messages have the same bytes under the HMAC.
"""

from __future__ import annotations

import hmac
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from spark_strategy.cluster import Fence
from spark_strategy.errors import RendezvousError

MARK_BYTES: Final = 32
_SCHEME: Final = b"spark_strategy seal 1"
_LENGTH: Final = struct.Struct(">Q")
_NUMBERS: Final = struct.Struct(">QQ")


class Kind(StrEnum):
    """What a sealed message is; one kind is never taken for another."""

    ROW = "row"
    ARRIVAL = "arrival"
    ABSENCE = "absence"


@dataclass(frozen=True, slots=True)
class Seal:
    """Seals and checks the messages of one attempt.

    Attributes:
        secret: the run's secret.
        fence: the run and attempt.
    """

    secret: bytes = field(repr=False)
    fence: Fence

    def mark(self, kind: Kind, rank: int, *parts: bytes | memoryview) -> bytes:
        """The HMAC under which ``rank`` says these parts."""
        numbers = _NUMBERS.pack(self.fence.attempt, rank)
        digest = hmac.new(self.secret, digestmod="sha256")
        for part in (_SCHEME, kind.encode(), self.fence.run_id.encode(), numbers, *parts):
            digest.update(_LENGTH.pack(len(part)))
            digest.update(part)
        return digest.digest()

    def fits(self, mark: bytes, kind: Kind, rank: int, *parts: bytes | memoryview) -> bool:
        """Whether ``mark`` is what :meth:`mark` gives."""
        return hmac.compare_digest(mark, self.mark(kind, rank, *parts))

    def sealed_text(self, kind: Kind, rank: int, text: str) -> str:
        """``text`` as one piece of ASCII that is found again in whatever surrounds it."""
        body = text.encode()
        mark = self.mark(kind, rank, body)
        return f"spark_strategy-{kind}:{rank}:{body.hex()}:{mark.hex()}:"

    def opened_texts(self, kind: Kind, text: str, *, max_bytes: int) -> Iterator[tuple[int, str]]:
        """Rank and text of everything in ``text`` that this attempt's ranks have sealed.

        What only looks so is passed over; nothing of it is decoded or parsed.

        Args:
            kind: of what is looked for.
            text: whatever it stands in.
            max_bytes: of one sealed text; a longer one is passed over.
        """
        shape = rf"spark_strategy-{kind}:([0-9]{{1,9}}):([0-9a-f]*):([0-9a-f]{{{2 * MARK_BYTES}}}):"
        for found in re.finditer(shape, text):
            start, end = found.span(2)
            if end - start > 2 * max_bytes or (end - start) % 2:
                continue
            rank, body = int(found[1]), bytes.fromhex(found[2])
            if self.fits(bytes.fromhex(found[3]), kind, rank, body):
                yield rank, body.decode()

    def open_text(self, kind: Kind, rank: int, text: str, *, max_bytes: int) -> str:
        """What ``rank`` sealed, of a message that is nothing else.

        Raises:
            RendezvousError: it is not sealed by that rank of this attempt, or is too long.
        """
        if len(text) <= 2 * max_bytes + 200:
            for found, body in self.opened_texts(kind, text, max_bytes=max_bytes):
                if found == rank and text == self.sealed_text(kind, rank, body):
                    return body
        raise self.broken(f"The {kind}", rank)

    def broken(self, what: str, rank: int) -> RendezvousError:
        """The error for a message of ``rank`` that does not bear this attempt's seal."""
        return RendezvousError(
            f"{what} that came as rank {rank}'s is not sealed by rank {rank} of {self.fence}: it "
            "was changed on its way, or it is of another run or attempt. Nothing of it was used."
        )
