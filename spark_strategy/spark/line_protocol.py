"""What goes over an authenticated line, byte by byte: a handshake, then frames. Does no I/O.

The theory. Whoever listens sends a random challenge. Whoever connects answers with its name, a
random number of its own, and an HMAC-SHA256 over both numbers and the name, keyed with the run's
secret. The listener proves in turn, by another such HMAC, that it knows the secret. The secret is
made for one run and reaches the executors inside Spark's own serialized task, so it is as safe as
Spark's RPC (``spark.authenticate``, ``spark.network.crypto.enabled``). It never crosses this
connection, and an answer is worthless for another challenge.

What follows are frames: the length of the body, a code, the body. The code is an HMAC over the
frame's number, its length and the body's SHA-256, with a key for this connection and this direction
that only the two ends can derive. So a frame that somebody on the way changes, leaves out, repeats,
moves or takes from another connection is recognized before a byte of it is decoded, and ends the
line. Bodies are not encrypted. The code covers the body's hash, so a body that goes to a thousand
ranks is hashed once. Nothing that comes over a line is unpickled.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import struct
from dataclasses import dataclass, field
from typing import Final

# Above what any cluster sends (the final row counts of 100,000 ranks take 1 MB), and small enough
# for one that claims more to be turned away before memory is set aside for it.
MAX_BODY_BYTES: Final = 64 * 2**20
CHALLENGE_BYTES: Final = 32
PROOF_BYTES: Final = 32
_HEADER: Final = struct.Struct(">I16s")
_NUMBERED: Final = struct.Struct(">QI")
_LABEL: Final = b"spark_strategy line, "


class BadFrame(ConnectionError):  # noqa: N818 - it never leaves the threads of a line
    """What came over a line is not what the other end sent."""


class Refused(ConnectionError):  # noqa: N818 - as above
    """The two ends do not know the same secret."""


@dataclass(frozen=True, slots=True)
class Message:
    """A body and its hash, ready to be sent over any number of lines."""

    body: bytes
    digest: bytes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", hashlib.sha256(self.body).digest())


class Channel:
    """Turns messages into frames and frames into bodies; does no I/O.

    Args:
        sends: key of the frames that go out.
        receives: key of the frames that come in.
        most_bytes: longest body that is taken in.
    """

    def __init__(self, sends: bytes, receives: bytes, *, most_bytes: int = MAX_BODY_BYTES) -> None:
        self._sends, self._receives = sends, receives
        self._sent = self._received = 0
        self._most_bytes = most_bytes
        self._buffer = bytearray()

    def header(self, message: Message) -> bytes:
        """What goes out before the message's body. Each call counts as one frame sent."""
        length = len(message.body)
        code = _code(self._sends, self._sent, length, message.digest)
        self._sent += 1
        return _HEADER.pack(length, code)

    def receive(self, data: bytes) -> list[bytes]:
        """The bodies that ``data`` completes, in order.

        Raises:
            BadFrame: a frame is too long, or its code is wrong.
        """
        self._buffer += data
        bodies = []
        while (body := self._next()) is not None:
            bodies.append(body)
        return bodies

    def _next(self) -> bytes | None:
        if len(self._buffer) < _HEADER.size:
            return None
        length, code = _HEADER.unpack_from(self._buffer)
        if length > self._most_bytes:
            raise BadFrame(f"a frame claims {length:,} bytes; {self._most_bytes:,} are the most")
        end = _HEADER.size + length
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[_HEADER.size : end])
        digest = hashlib.sha256(body).digest()
        if not hmac.compare_digest(code, _code(self._receives, self._received, length, digest)):
            raise BadFrame("a frame does not carry the other end's code")
        del self._buffer[:end]
        self._received += 1
        return body


def _code(key: bytes, number: int, length: int, digest: bytes) -> bytes:
    return hmac.digest(key, _NUMBERED.pack(number, length) + digest, "sha256")[:16]


def _derived(secret: bytes, label: bytes, *numbers: bytes) -> bytes:
    return hmac.digest(secret, _LABEL + label + b"\0" + b"".join(numbers), "sha256")


class Hosting:
    """The listener's half of a handshake; does no I/O.

    Args:
        secret: the run's secret.
        most_bytes: longest body that is taken in afterwards.
    """

    def __init__(self, secret: bytes, *, most_bytes: int) -> None:
        self._secret = secret
        self._most_bytes = most_bytes
        self._received = b""
        self.challenge = secrets.token_bytes(CHALLENGE_BYTES)
        """The first bytes to send."""

    def receive(self, data: bytes) -> tuple[str, bytes, Channel] | None:
        """Who connects, what to answer it, and the frames after that; None until all has come.

        Raises:
            Refused: it does not know the secret; :attr:`refusal` says so to it.
        """
        self._received += data
        rest = self._received[PROOF_BYTES + CHALLENGE_BYTES :]
        if not rest or len(rest) < 1 + rest[0]:
            return None
        proof, nonce = self._received[:PROOF_BYTES], self._received[PROOF_BYTES : -len(rest)]
        who = rest[1:]
        numbers = (self.challenge, nonce, who)
        is_known = hmac.compare_digest(proof, _derived(self._secret, b"connects", *numbers))
        if len(who) != rest[0] or not is_known:
            raise Refused("it does not know this run's secret")
        channel = Channel(
            _derived(self._secret, b"from the listener", *numbers),
            _derived(self._secret, b"to the listener", *numbers),
            most_bytes=self._most_bytes,
        )
        return who.decode(), _derived(self._secret, b"listens", *numbers), channel

    @property
    def refusal(self) -> bytes:
        """What is answered to one that does not know the secret: that it need not try again."""
        return bytes(PROOF_BYTES)


class Joining:
    """The half of a handshake that connects; does no I/O.

    Args:
        secret: the run's secret.
        who: what to introduce oneself as, at most 255 bytes.
    """

    def __init__(self, secret: bytes, who: str) -> None:
        self._secret = secret
        self._who = who.encode()
        self._nonce = secrets.token_bytes(CHALLENGE_BYTES)
        self._numbers: tuple[bytes, ...] = ()
        self._received = b""

    def answer(self, data: bytes) -> bytes:
        """What to send; empty as long as the challenge has not come in full."""
        self._received += data
        if len(self._received) < CHALLENGE_BYTES:
            return b""
        self._numbers = (self._received[:CHALLENGE_BYTES], self._nonce, self._who)
        self._received = self._received[CHALLENGE_BYTES:]
        proof = _derived(self._secret, b"connects", *self._numbers)
        return proof + self._nonce + bytes([len(self._who)]) + self._who

    def welcome(self, data: bytes) -> tuple[Channel, bytes] | None:
        """The frames that follow, and the first one to send; None until the welcome has come.

        The listener counts this end in when it has that frame. Until then either may give up
        without a word.

        Raises:
            Refused: the other end does not know the secret, or says that this one does not.
        """
        self._received += data
        if len(self._received) < PROOF_BYTES:
            return None
        proof, rest = self._received[:PROOF_BYTES], self._received[PROOF_BYTES:]
        if not hmac.compare_digest(proof, _derived(self._secret, b"listens", *self._numbers)):
            raise Refused("whoever listens there does not know this run's secret")
        if rest:
            raise BadFrame("the listener spoke before it could know who connects")
        channel = Channel(
            _derived(self._secret, b"to the listener", *self._numbers),
            _derived(self._secret, b"from the listener", *self._numbers),
        )
        return channel, channel.header(Message(b""))
