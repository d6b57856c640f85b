"""Whose context get_context() gives, where several functions run in one process."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from spark_strategy import MultiWorker, distribute, get_context
from spark_strategy.errors import PlanError
from spark_strategy.worker.current import entered


def named(name: str) -> Callable[[], Any]:
    """A context that stands for a function."""
    return lambda: name


def ask() -> str:
    """What get_context() says here, or its error."""
    try:
        return str(get_context())
    except PlanError as error:
        return str(error)


def ask_in_a_thread() -> str:
    """The same from a thread that the function starts."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(ask).result(60)


def test_two_local_calls_in_two_threads_have_a_context_each() -> None:
    """Their scratch folders differ while both run, and each keeps its own when the other ends."""
    both, one_left = threading.Barrier(2), threading.Event()

    @distribute(MultiWorker(2))
    def train(name: str) -> tuple[str, str]:
        before = get_context().scratch
        both.wait(120)
        if name == "long":
            assert one_left.wait(120)
        return before, get_context().scratch

    def short() -> tuple[str, str]:
        scratch = train.local("short")
        one_left.set()
        return scratch

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.submit(train.local, "long"), pool.submit(short)
        (long_before, long_after), (short_before, short_after) = first.result(), second.result()

    assert long_before == long_after
    assert short_before == short_after
    assert long_before != short_before
    assert "none is running" in ask()


def test_a_call_inside_a_call_hides_the_outer_one_until_it_ends() -> None:
    """Also when it ends with an exception, and also for the threads that it starts."""
    with entered(named("outer")):
        assert (ask(), ask_in_a_thread()) == ("outer", "outer")
        with pytest.raises(ZeroDivisionError):
            _asked_and_failed()
        assert (ask(), ask_in_a_thread()) == ("outer", "outer")
    assert "none is running" in ask()
    assert "none is running" in ask_in_a_thread()


def _asked_and_failed() -> None:
    with entered(named("inner")):
        assert (ask(), ask_in_a_thread()) == ("inner", "inner")
        raise ZeroDivisionError


def test_a_thread_of_its_own_is_not_given_anybodys_context() -> None:
    """With two functions running, a thread that neither entered is told what to do."""
    entered_it, leave = threading.Event(), threading.Event()

    def other() -> str:
        with entered(named("other")):
            entered_it.set()
            assert leave.wait(60)
            return ask()

    with ThreadPoolExecutor(1) as pool, entered(named("this")):
        answer = pool.submit(other)
        assert entered_it.wait(60)
        assert ask() == "this"
        assert ask_in_a_thread().startswith("2 train functions are running in this process")
        leave.set()
        assert answer.result(60) == "other"
        assert ask_in_a_thread() == "this"


def test_tasks_of_asyncio_have_a_context_each() -> None:
    """Two that were entered in turns end in turns."""

    async def call(name: str, begun: asyncio.Event, other: asyncio.Event) -> str:
        with entered(named(name)):
            begun.set()
            await other.wait()
            return ask()

    async def both() -> list[str]:
        one, two = asyncio.Event(), asyncio.Event()
        return await asyncio.gather(call("one", one, two), call("two", two, one))

    with entered(named("outer")):
        assert asyncio.run(both()) == ["one", "two"]
        assert ask_in_a_thread() == "outer"


def test_a_context_that_has_ended_is_not_given_any_more() -> None:
    """A thread may have inherited it and live longer."""
    with entered(named("gone")):
        inherited = contextvars.copy_context()
        assert inherited.run(ask) == "gone"
    assert "none is running" in inherited.run(ask)
