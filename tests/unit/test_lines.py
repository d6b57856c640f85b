"""Authenticated lines: the protocol without I/O, and one server for many of them."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spark_strategy.errors import RendezvousError
from spark_strategy.spark.line_peer import Nonsense, Peer
from spark_strategy.spark.line_protocol import (
    MAX_BODY_BYTES,
    BadFrame,
    Channel,
    Hosting,
    Joining,
    Message,
    Refused,
)
from spark_strategy.spark.line_server import LineServer
from spark_strategy.spark.rendezvous import reserve
from spark_strategy.spark.wire import Line, connect, new_secret

SECRET = new_secret()
BODIES = st.lists(st.binary(max_size=300), max_size=6)


def pair(secret: bytes = SECRET) -> tuple[Channel, Channel, bytes]:
    """Both ends after a handshake, and the first frame of the end that connects."""
    hosting, joining = Hosting(secret, most_bytes=1000), Joining(secret, "worker:1")
    found = hosting.receive(joining.answer(hosting.challenge))
    assert found is not None
    who, welcome, host = found
    assert who == "worker:1"
    welcomed = joining.welcome(welcome)
    assert welcomed is not None
    return host, *welcomed


def frames(channel: Channel, bodies: list[bytes]) -> list[bytes]:
    """Each body's frame."""
    return [channel.header(Message(body)) + body for body in bodies]


@given(BODIES, BODIES, st.integers(1, 50))
def test_what_one_end_sends_the_other_reads_in_whatever_pieces(
    there: list[bytes], back: list[bytes], piece: int
) -> None:
    """In both directions, bytes of any kind and length."""
    host, guest, first = pair()
    for sender, receiver, start, bodies in ((guest, host, first, there), (host, guest, b"", back)):
        data = start + b"".join(frames(sender, bodies))
        pieces = [data[place : place + piece] for place in range(0, len(data), piece)]
        read = [body for part in pieces for body in receiver.receive(part)]
        assert read == ([b""] if start else []) + bodies


@given(st.integers(0, 10**6), st.integers(1, 255))
def test_a_changed_byte_is_seen_before_the_body_is_used(place: int, change: int) -> None:
    """Wherever it is; a changed length may also mean that the frame never ends."""
    host, guest, first = pair()
    host.receive(first)
    data = bytearray(b"".join(frames(guest, [b"state", b"rows"])))
    data[place % len(data)] ^= change
    try:
        read = host.receive(bytes(data))
    except BadFrame:
        return
    assert read in ([], [b"state"])


def test_frames_that_are_repeated_moved_left_out_or_from_elsewhere_are_seen() -> None:
    """Each frame has one place on one connection in one direction."""
    for order in ([1, 0], [1], [0, 0]):
        host, guest, first = pair()
        host.receive(first)
        sent = frames(guest, [b"a", b"b"])
        with pytest.raises(BadFrame, match="does not carry the other end's code"):
            host.receive(b"".join(sent[place] for place in order))
    host, guest, _ = pair()
    _, _, first_of_another = pair()
    with pytest.raises(BadFrame):
        host.receive(first_of_another)
    with pytest.raises(BadFrame):
        guest.receive(guest.header(Message(b"mirrored")) + b"mirrored")


def test_a_frame_that_claims_too_much_is_turned_away_at_once() -> None:
    """Before memory is set aside for it."""
    host, guest, first = pair()
    host.receive(first)
    with pytest.raises(BadFrame, match=r"a frame claims 1,001 bytes; 1,000 are the most"):
        host.receive(guest.header(Message(bytes(1001))))
    with pytest.raises(BadFrame, match=f"{MAX_BODY_BYTES:,} are the most"):
        guest.receive(b"\xff" * 20)


def test_neither_end_believes_one_without_the_secret() -> None:
    """The listener refuses it; the one who connects sees a wrong proof."""
    hosting, joining = Hosting(SECRET, most_bytes=9), Joining(new_secret(), "0")
    with pytest.raises(Refused, match="does not know this run's secret"):
        hosting.receive(joining.answer(hosting.challenge))
    with pytest.raises(Refused, match="whoever listens there does not know"):
        joining.welcome(hosting.refusal)


def test_an_answer_is_worthless_for_another_challenge() -> None:
    """What somebody overheard cannot be used again."""
    first, second = (Hosting(SECRET, most_bytes=9) for _ in range(2))
    with pytest.raises(Refused):
        second.receive(Joining(SECRET, "0").answer(first.challenge))


class Log:
    """An owner that notes what it is told."""

    def __init__(self) -> None:
        self.peers: list[Peer] = []
        self.heard_bodies: list[bytes] = []
        self.gone: list[tuple[str, str]] = []

    def arrived(self, peer: Peer) -> None:
        """One more."""
        self.peers.append(peer)

    def heard(self, peer: Peer, body: bytes) -> None:
        """Answer in capitals; numbers make no sense."""
        if body.isdigit():
            raise Nonsense("a number")
        self.heard_bodies.append(body)
        peer.send(Message(body.upper()))

    def left(self, peer: Peer, why: str) -> None:
        """One less."""
        self.gone.append((peer.who, why))

    def look(self) -> float:
        """Nothing."""
        return 1.0


@contextmanager
def served(**options: float) -> Iterator[tuple[str, Log]]:
    """A server's address, and what its owner notes."""
    log = Log()
    server = LineServer(reserve(None), SECRET, log, **options)  # type: ignore[arg-type]
    try:
        yield f"127.0.0.1:{server.port}", log
    finally:
        server.close()


def until(condition: Callable[[], bool]) -> bool:
    """Whether it becomes true within a generous deadline."""
    deadline = time.monotonic() + 15
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def stranger(address: str) -> socket.socket:
    """A connection that says nothing."""
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=15)


def test_a_wrong_secret_is_turned_away_at_once() -> None:
    """And not tried again until the deadline."""
    with served() as (address, log):
        began = time.monotonic()
        with pytest.raises(RendezvousError, match="does not know this run's secret"):
            connect(address, new_secret(), "0", timeout_s=60)
        assert time.monotonic() - began < 30
        assert log.peers == []


def test_a_listener_that_does_not_know_the_secret_is_not_trusted() -> None:
    """The listener proves itself too: a stolen port cannot give orders."""
    with ExitStack() as held:
        impostor = Log()
        server = LineServer(reserve(None), new_secret(), impostor)
        held.callback(server.close)
        with pytest.raises(RendezvousError, match=r"127.0.0.1:\d+: whoever listens there does"):
            connect(f"127.0.0.1:{server.port}", SECRET, "0", timeout_s=5)
        assert impostor.peers == []


def test_strangers_who_say_nothing_keep_nobody_out() -> None:
    """The oldest of them make way after a second, long before their time is up."""
    with served(strangers=20, handshake_s=600) as (address, log), ExitStack() as held:
        silent = [held.enter_context(stranger(address)) for _ in range(30)]
        line = connect(address, SECRET, "0", timeout_s=15)
        held.callback(line.close)
        line.send(b"here")
        assert next(iter(line)) == b"HERE"
        assert [peer.who for peer in log.peers] == ["0"]
        assert len(silent[0].recv(100)) == 32
        assert silent[0].recv(100) == b""  # sent away
        assert log.gone == []


def test_a_stranger_has_only_so_much_time() -> None:
    """However slowly it drips."""
    with served(handshake_s=0.2) as (address, _), stranger(address) as slow:
        slow.send(b"x")
        assert len(slow.recv(100)) == 32
        assert slow.recv(100) == b""


def test_connecting_is_tried_again_until_somebody_listens() -> None:
    """The other end may be late, or its host may be busy with a thousand others."""
    with reserve(None) as door, ExitStack() as held:
        address = f"127.0.0.1:{door.getsockname()[1]}"
        log = Log()

        def listen() -> None:
            held.callback(LineServer(door, SECRET, log).close)

        late = threading.Timer(0.5, listen)
        late.start()
        line = connect(address, SECRET, "0", timeout_s=60)
        line.close()
        late.join()
        assert until(lambda: log.gone == [("0", "")])


def test_connecting_ends_at_its_deadline() -> None:
    """With what the last try said."""
    with reserve(None) as held:
        address = f"127.0.0.1:{held.getsockname()[1]}"
        with pytest.raises(RendezvousError, match=f"could not reach {address}: .*refused"):
            connect(address, SECRET, "0", timeout_s=0.3)


def test_a_message_that_makes_no_sense_is_ignored() -> None:
    """The line goes on."""
    with served() as (address, log):
        line = connect(address, SECRET, "0", timeout_s=15)
        for body in (b"7", b"8", b"word"):
            line.send(body)
        assert next(iter(line)) == b"WORD"
        line.close()
        assert until(lambda: log.gone == [("0", "")])


def test_a_spliced_line_ends_with_a_reason_at_both_ends_and_no_other_line_does() -> None:
    """Somebody between the two ends changes a byte of each direction in turn."""
    for direction in ("there", "back"):
        with served() as (address, log), ExitStack() as held:
            honest = connect(address, SECRET, "1", timeout_s=15)
            held.callback(honest.close)
            splice = Splice(address, direction)
            held.callback(splice.close)
            line = connect(splice.address, SECRET, "0", timeout_s=15)
            held.callback(line.close)
            line.send(b"before")
            assert next(iter(line)) == b"BEFORE"
            splice.changes.set()
            line.send(b"hello")
            assert list(line) == []
            if direction == "there":
                assert until(lambda: bool(log.gone))
                assert log.gone == [("0", "a frame does not carry the other end's code")]
                assert log.heard_bodies == [b"before"]
            else:
                assert line.ended == "a frame does not carry the other end's code"
            honest.send(b"still")
            assert next(iter(honest)) == b"STILL"


class Splice:
    """One who sits between two ends, and changes what goes one way once it is asked to."""

    def __init__(self, address: str, direction: str) -> None:
        self._door = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._door.getsockname()[1]}"
        self.changes = threading.Event()
        self._ends = [self._door]
        self._target, self._direction = address, direction
        threading.Thread(target=self._run, daemon=True).start()

    def close(self) -> None:
        """Hang up."""
        for end in self._ends:
            end.close()

    def _run(self) -> None:
        near, _ = self._door.accept()
        far = stranger(self._target)
        self._ends += [near, far]
        for here, there, name in ((near, far, "there"), (far, near, "back")):
            threading.Thread(target=self._pass_on, args=(here, there, name), daemon=True).start()

    def _pass_on(self, here: socket.socket, there: socket.socket, name: str) -> None:
        try:
            while data := here.recv(4096):
                if self.changes.is_set() and name == self._direction:
                    data = data[:-1] + bytes([data[-1] ^ 1])
                there.sendall(data)
            there.shutdown(socket.SHUT_RDWR)
        except OSError:
            return


def test_four_hundred_lines_come_at_once_and_one_thread_serves_them() -> None:
    """Eight threads connect them as fast as they can; each is heard and answered."""
    each, threads = 50, 8
    with served() as (address, log), ExitStack() as held:
        before = threading.active_count()
        lines: list[Line] = []

        def come(first: int) -> None:
            for number in range(first, first + each):
                line = connect(address, SECRET, str(number), timeout_s=30)
                line.send(json.dumps({"number": number}).encode())
                lines.append(line)

        comers = [threading.Thread(target=come, args=(place * each,)) for place in range(threads)]
        for comer in comers:
            comer.start()
        for comer in comers:
            comer.join()
        for line in lines:
            held.callback(line.close)
        assert threading.active_count() <= before
        answers = {json.loads(next(iter(line)))["NUMBER"] for line in lines}
        assert answers == set(range(each * threads))
        assert {peer.who for peer in log.peers} == {str(number) for number in answers}
