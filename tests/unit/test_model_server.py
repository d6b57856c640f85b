"""A model server ends when it is of no use any more, says why, and leaves nothing.

The server and its clients are the real ones; the model is a function without TensorFlow.
"""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from spark_strategy.errors import WorkerError
from spark_strategy.serving import Output, ServerFolder, ServerOrder, started_at
from spark_strategy.spark.channel import Channel

WAIT_S = 30.0
NUMBER = struct.Struct("<d")
HANGS = -1.0
SERVER = """
import struct, sys, time
from pathlib import Path
from spark_strategy.serving import ServerFolder
from spark_strategy.worker import serve

serve._DROPPED_S = 0.5  # so that nobody waits for ten seconds

def model(block):
    if struct.unpack("<d", block)[0] == -1.0:
        time.sleep(3600)
    return [bytes(block)]

path, parent, started, loads = sys.argv[1:]
server = serve._Server(ServerFolder(Path(path)), int(parent), started)
if not loads:
    time.sleep(3600)
server.answer(model)
"""


class Executor:
    """What the tasks of an executor share."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._servers: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, *, loads: bool = True, **limits: Any) -> subprocess.Popen[bytes]:
        """A server, which may still be starting."""
        given: dict[str, Any] = {"idle_s": 600.0, "start_timeout_s": 60.0, "max_models": 9}
        order = ServerOrder(
            b"", (Output("y", "float64", ()),), 1, **given | {"max_bytes": 0} | limits
        )
        folder = self.folder(name)
        alive = folder.prepare(order)
        own = os.getpid()
        arguments = [str(folder.path), str(own), started_at(own), "yes" if loads else ""]
        server = subprocess.Popen([sys.executable, "-c", SERVER, *arguments], pass_fds=[alive])
        os.close(alive)
        self._servers.append(server)
        return server

    def channel(self, name: str, *, timeout_s: float = 60.0) -> Channel:
        """A line to a server, once it is ready."""
        folder = self.folder(name)
        assert eventually(folder.was_ready)
        return Channel(folder.connect(), folder, model="The model 'trap'", timeout_s=timeout_s)

    def folder(self, name: str) -> ServerFolder:
        """A server's."""
        return ServerFolder(self._root / f"spark_strategy_model-{name}")

    def used(self, name: str) -> None:
        """Have a client come and go, and wait until the server knows."""
        self.channel(name).close()
        assert eventually(lambda: self.folder(name).read_state().split("\n")[1] != "")

    def left(self) -> list[str]:
        """What is in the folder where they all are."""
        return sorted(path.name for path in self._root.iterdir())

    def close(self) -> None:
        """End all that are left."""
        for server in self._servers:
            server.kill()
            server.wait()


@pytest.fixture
def executor(tmp_path: Path) -> Iterator[Executor]:
    """An executor, whose servers end with it."""
    one = Executor(tmp_path)
    yield one
    one.close()


def eventually(holds: Callable[[], bool]) -> bool:
    """Whether it holds soon."""
    deadline = time.monotonic() + WAIT_S
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.02)
    return holds()


def send(channel: Channel, value: float) -> None:
    """Ask the model for a number."""
    channel.send(NUMBER.size, [memoryview(NUMBER.pack(value))])


def answer(channel: Channel, value: float) -> float:
    """What the model gives for a number."""
    send(channel, value)
    (given,) = NUMBER.unpack(channel.take())
    return float(given)


def test_a_batch_that_does_not_come_back_ends_the_server(executor: Executor) -> None:
    """The client that gives up names model and limit; nobody with a longer limit is cut off."""
    server = executor.start("a")
    with executor.channel("a") as patient:
        with executor.channel("a", timeout_s=0.5) as hasty:
            assert answer(hasty, 3.0) == 3.0
            send(hasty, HANGS)
            with pytest.raises(WorkerError, match=r"The model 'trap' on .*timeout_s=0\.5 seconds"):
                hasty.take()
        assert answer(patient, 4.0) == 4.0
    assert server.wait(WAIT_S) == 0
    assert executor.left() == []


def test_whoever_waits_behind_it_hears_why(executor: Executor) -> None:
    """Two compute at once, so that the third has not even begun; it is not told of memory."""
    server = executor.start("a")
    channels = [executor.channel("a", timeout_s=2.5) for _ in range(3)]
    for channel in channels[:2]:
        send(channel, HANGS)
    begun = time.monotonic()
    # Its own time begins when it waits, and theirs is over before.
    assert eventually(lambda: time.monotonic() - begun > 0.7)
    with pytest.raises(WorkerError, match=r"had not come back after timeout_s=2\.5 s.* another"):
        answer(channels[2], 1.0)
    for channel in channels:
        channel.close()
    assert server.wait(WAIT_S) == 0
    assert executor.left() == []


def test_a_model_that_does_not_load_in_time_ends_its_server(executor: Executor) -> None:
    """Its clients have given up, and the next one must not wait for it again."""
    server = executor.start("a", loads=False, start_timeout_s=0.5)
    assert server.wait(WAIT_S) == 0
    assert executor.left() == []


def test_the_server_unused_for_longest_gives_way(executor: Executor) -> None:
    """To one that is being started; and one with a client never does."""
    servers = {name: executor.start(name, max_models=2) for name in ("a", "b")}
    executor.used("b")
    executor.used("a")
    with executor.channel("a"):
        servers["c"] = executor.start("c", max_models=2)
        assert servers["b"].wait(WAIT_S) == 0
        assert executor.left() == ["spark_strategy_model-a", "spark_strategy_model-c"]
    assert servers["a"].poll() is None
    assert servers["c"].poll() is None


def test_servers_end_when_they_take_too_much_memory(executor: Executor) -> None:
    """All but the last one that was used."""
    first, second = executor.start("a", max_bytes=1), executor.start("b", max_bytes=1)
    assert eventually(lambda: first.poll() is not None or second.poll() is not None)
    assert len(executor.left()) == 1
    assert (first.poll(), second.poll()) in [(0, None), (None, 0)]


def test_a_server_ends_with_what_its_last_client_named(executor: Executor, tmp_path: Path) -> None:
    """The file that Spark removes when the driver has dropped the model."""
    first, second = tmp_path / "broadcast_1", tmp_path / "broadcast_2"
    folder, server = executor.folder("a"), executor.start("a")
    for one in (first, second):
        one.write_bytes(b"the model")
        folder.lease(str(one))
    first.unlink()
    executor.used("a")
    assert folder.is_wanted()
    second.unlink()
    assert not folder.is_wanted()
    assert server.wait(WAIT_S) == 0
    assert executor.left() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("loads", [True, False])
def test_a_signal_leaves_nothing(executor: Executor, number: int, *, loads: bool) -> None:
    """Also while the model is loaded, when the main thread looks at no signal."""
    server = executor.start("a", loads=loads)
    assert eventually(lambda: executor.folder("a").read_state() != "")
    server.send_signal(number)
    assert server.wait(WAIT_S) == 0
    assert executor.left() == []
