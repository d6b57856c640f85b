"""Live output on its way to the driver, over real sockets."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack

from spark_strategy.errors import RendezvousError
from spark_strategy.spark.listener import OutputListener
from spark_strategy.spark.output import DriverOutput
from spark_strategy.spark.wire import Line, connect, new_secret

SECRET = new_secret()


def listening(show: Callable[[str], None]) -> OutputListener:
    """A listener on this host."""
    return OutputListener("127.0.0.1", SECRET, show, port_range=None, lines=300)


def line_of(listener: OutputListener, task: str) -> Line:
    """A rank's line."""
    return connect(listener.address, SECRET, f"{task}@host", timeout_s=15)


def until(condition: Callable[[], bool]) -> bool:
    """Whether it becomes true within a generous deadline."""
    deadline = time.monotonic() + 15
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def test_three_hundred_ranks_need_two_threads_and_lose_no_line() -> None:
    """Each line is shown once, with its task in front, in the order of its rank."""
    shown: list[str] = []
    before = threading.active_count()
    listener = listening(shown.append)
    lines = [line_of(listener, f"worker:{rank}") for rank in range(300)]
    for number in range(0, 20, 2):
        for line in lines:
            line.send(b"line %d\nline %d" % (number, number + 1))
    assert threading.active_count() <= before + 2
    for line in lines:
        line.close()
    listener.close(15)
    assert Counter(text.partition(" | ")[0] for text in shown) == {
        f"worker:{rank}": 20 for rank in range(300)
    }
    own = [text for text in shown if text.startswith("worker:7 |")]
    assert own == [f"worker:7 | line {number}" for number in range(20)]
    assert len(listener.hosts) == 300


def test_a_function_that_blocks_delays_only_the_output_and_loses_none_of_it() -> None:
    """Who arrives is still known; the ranks are not read for a while."""
    shown: list[int] = []
    goes_on = threading.Event()

    def show(text: str) -> None:
        goes_on.wait(60)
        shown.append(len(text))

    with ExitStack() as held:
        listener = listening(show)
        first = line_of(listener, "worker:0")
        held.callback(first.close)
        chunks = 500

        def send() -> None:
            for _ in range(chunks):
                first.send(bytes(64 * 1024))
            first.close()

        sender = threading.Thread(target=send)
        sender.start()
        sender.join(1.0)
        assert sender.is_alive()  # 32 MiB are more than is read ahead
        second = line_of(listener, "worker:1")
        assert until(lambda: "worker:1" in listener.hosts)
        second.close()
        goes_on.set()
        sender.join(60)
        listener.close(60)
        assert len(shown) == chunks


def test_output_before_the_line_is_open_waits_for_it() -> None:
    """A driver that is slow to answer delays nothing, and one that is not there neither."""
    shown: list[str] = []
    listener = listening(shown.append)
    opens = threading.Event()

    def late() -> Line:
        opens.wait(15)
        return line_of(listener, "worker:0")

    output = DriverOutput(late, has_log=True)
    for text in (b"one", b"", b"two"):
        output.put(text)
    opens.set()
    output.close(15)
    listener.close(15)
    assert shown == ["worker:0 | one", "worker:0 | ", "worker:0 | two"]

    def never() -> Line:
        raise RendezvousError("nobody there")

    unheard = DriverOutput(never, has_log=True)
    unheard.put(b"one")
    unheard.close(15)
    DriverOutput(None, has_log=True).close(15)


def test_a_function_that_raises_ends_the_output_and_nothing_else() -> None:
    """A notebook's stream that is closed."""
    shown: list[str] = []

    def show(text: str) -> None:
        shown.append(text)
        raise ValueError(text)

    listener = listening(show)
    line = line_of(listener, "worker:0")
    line.send(b"one\ntwo")
    line.close()
    listener.close(15)
    assert shown == ["worker:0 | one"]
