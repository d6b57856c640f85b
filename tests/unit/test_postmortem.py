"""What a child says of the exception that ended it."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from spark_strategy import bounds
from spark_strategy.folder import ChildFailure, ChildFolder, Exit
from spark_strategy.outcome import Reason
from spark_strategy.spark.last_words import last_words
from spark_strategy.worker import postmortem

_SOON_S = 20.0


class HoldsItsBatchError(ValueError):
    """As users write them."""

    def __init__(self, text: str, batch: bytes) -> None:
        super().__init__(text, batch)

    def __str__(self) -> str:
        return str(self.args[0])


class OddError(Exception):
    """Does with each of its methods what it was told."""

    def __init__(self, act: Any = None) -> None:
        super().__init__()
        self.act = act

    def __str__(self) -> str:
        return self.act()  # type: ignore[no-any-return]

    def __reduce__(self) -> Any:
        return self.act()


def raises(error: BaseException) -> None:
    """As a train function."""
    raise error


def said(folder: Path, error: BaseException, **given: Any) -> tuple[ChildFailure, bytes]:
    """What the task reads of an exception that was raised."""
    child = ChildFolder(folder)
    with pytest.raises(type(error)) as raised:
        raises(error)
    postmortem.record(child, raised.value, **given)
    found = last_words(child, lambda: None)
    assert found is not None
    return found


def test_an_exception_that_is_its_own_cause_is_told(tmp_path: Path) -> None:
    """And so is one whose causes are a circle."""
    error = ValueError("the learning rate is negative")
    error.__cause__ = KeyError("other")
    error.__cause__.__cause__ = error
    failure, pickled = said(tmp_path, error)

    assert failure.message == "raised ValueError: the learning rate is negative"
    assert "KeyError: 'other'" in failure.traceback
    assert failure.traceback.rstrip().endswith("ValueError: the learning rate is negative")
    assert not failure.secondary
    assert type(pickle.loads(pickled)) is ValueError


def test_python_prints_what_it_can_print(tmp_path: Path) -> None:
    """Causes, notes and groups look as everywhere."""
    error = ExceptionGroup("many", [ValueError("one"), KeyError("two")])
    error.add_note("look here")
    failure, _ = said(tmp_path, error)

    assert failure.traceback.startswith("  + Exception Group Traceback (most recent call last):")
    assert "| ValueError: one" in failure.traceback
    assert "| look here" in failure.traceback


def test_an_exception_that_holds_its_batch_travels_as_text(tmp_path: Path) -> None:
    """48 MB stay with the rank; what it says arrives, and that it stays."""
    failure, pickled = said(
        tmp_path, HoldsItsBatchError("label 12 is out of range", b"x" * 48_000_000)
    )

    assert failure.message == "raised HoldsItsBatchError: label 12 is out of range"
    assert "stays with the rank: pickled it is more than 1,048,576 bytes" in failure.traceback
    assert pickled == b""


def test_thousands_of_ranks_that_fail_fit_in_the_driver(tmp_path: Path) -> None:
    """The more ranks, the less each of them may send."""
    _, two = said(tmp_path, HoldsItsBatchError("x", b"x" * 100_000), ranks=2)
    _, many = said(tmp_path, HoldsItsBatchError("x", b"x" * 100_000), ranks=4000)

    assert len(two) > 100_000
    assert many == b""


@pytest.mark.parametrize(
    "act",
    [lambda: 1 / 0, lambda: sys.exit(3), lambda: OddError().act, lambda: [].append],
    ids=["raises", "exits", "is no text", "is a method"],
)
def test_methods_that_fail_cost_their_own_part_only(tmp_path: Path, act: Any) -> None:
    """The class and the frames are told in any case."""
    failure, pickled = said(tmp_path, OddError(act))

    assert failure.reason is Reason.RAISED
    assert failure.message.startswith("raised OddError: <OddError: str() raised ")
    assert "in raises\n    raise error" in failure.traceback
    assert pickled == b""


def test_texts_are_cut_where_they_are_made(tmp_path: Path) -> None:
    """In messages and tracebacks, of the exception, its notes and its causes."""
    error = ValueError("a" * 100_000_000)
    error.add_note("b" * 1_000_000)
    error.__cause__ = KeyError("c" * 1_000_000)
    failure, pickled = said(tmp_path, error)

    assert len(failure.message) < bounds.MESSAGE_CHARS + 100
    assert len(failure.traceback) < bounds.TRACEBACK_CHARS + 500
    assert "... cut, 99,996,500 characters more" in failure.message
    assert "KeyError: 'ccc" in failure.traceback
    assert "... cut, 999,800 characters more" in failure.traceback
    assert pickled == b""


def test_a_chain_without_an_end_is_told_by_its_last_links(tmp_path: Path) -> None:
    """Ten of them, and that there was more."""
    last = ValueError("0")
    for number in range(1, 1000):
        before, last = last, ValueError(str(number))
        last.__cause__ = before
    failure, _ = said(tmp_path, last)

    assert failure.traceback.startswith("(What came before is left out")
    assert failure.traceback.count("ValueError: 99") == 10
    assert failure.traceback.rstrip().endswith("ValueError: 999")


def test_a_method_that_blocks_costs_its_own_part_only(tmp_path: Path) -> None:
    """The task takes what was said so far when its patience is at an end."""
    goes_on = threading.Event()
    child = ChildFolder(tmp_path)
    told: list[bool] = []

    def record() -> None:
        with pytest.raises(OddError) as raised:
            raises(OddError(goes_on.wait))
        postmortem.record(child, raised.value)

    thread = threading.Thread(target=record)
    thread.start()
    try:
        deadline = time.monotonic() + _SOON_S
        found = None
        while found is None and time.monotonic() < deadline:
            found = last_words(child, lambda: told.append(True), patience_s=0.0)
    finally:
        goes_on.set()
        thread.join()
    assert found is not None
    failure, pickled = found
    assert failure.message.startswith("raised OddError (its own text could not be had")
    assert "raise error" in failure.traceback
    assert pickled == b""
    assert told


def test_a_method_that_crashes_the_process_does_not_hide_the_failure(tmp_path: Path) -> None:
    """As a native ``__str__`` can; the process's own end is not waited for in vain."""
    program = f"""
import os, signal
from pathlib import Path
from spark_strategy.folder import ChildFolder
from spark_strategy.worker import postmortem
class Crashes(Exception):
    def __str__(self):
        os.kill(os.getpid(), signal.SIGSEGV)
try:
    raise Crashes
except Crashes as error:
    postmortem.record(ChildFolder(Path({str(tmp_path)!r})), error)
"""
    code = subprocess.run([sys.executable, "-c", program], check=False).returncode
    assert code == -signal.SIGSEGV
    task = ChildFolder(tmp_path)
    task.write_exit(Exit(code, 0, time.time()))

    found = last_words(task, lambda: None, patience_s=_SOON_S)

    assert found is not None
    assert found[0].message.startswith("raised Crashes ")


def test_a_child_that_says_nothing_of_a_failure_is_not_waited_for(tmp_path: Path) -> None:
    """Nobody is told of one either."""
    told: list[bool] = []

    assert last_words(ChildFolder(tmp_path), lambda: told.append(True)) is None
    assert not told


def test_sys_exit_with_an_odd_code(tmp_path: Path) -> None:
    """Its representation is the user's code as well."""
    failure, _ = said(tmp_path, SystemExit(OddError(os.getpid)))

    assert failure.reason is Reason.EXITED
    assert failure.message.startswith("called sys.exit(OddError(")
