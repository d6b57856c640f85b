"""Makes calls in threads, so many at a time, and hands over what each returned when it ends."""

from __future__ import annotations

import functools
import queue
import threading
from collections.abc import Callable, Generator, Iterable
from typing import Final, TypeVar

T = TypeVar("T")
E = TypeVar("E")

# How soon another answer of ``at_once`` counts while no call ends.
LOOK_S: Final = 2.0


def in_turn(
    items: Iterable[T],
    call: Callable[[int, T], E],
    *,
    wrap: Callable[[Callable[[], None]], Callable[[], None]],
    at_once: Callable[[], int],
    halt: threading.Event,
) -> Generator[tuple[int, E], None, None]:
    """What ``call`` returns for each item, with the item's number, as the calls end.

    Args:
        items: taken in this thread, each when its call can begin.
        call: called with number and item, in a thread of its own.
        wrap: prepares what a thread is to run, in this thread.
        at_once: how many calls may run at the same time; asked before each, and now and then.
        halt: set where this generator ends early; it then waits for the calls that run.

    Raises:
        BaseException: whatever ``items`` or ``call`` raised.
    """
    ends: queue.SimpleQueue[tuple[int, E] | BaseException] = queue.SimpleQueue()
    waiting, is_last, is_complete, running = enumerate(items), False, False, 0

    def make(index: int, item: T) -> None:
        try:
            ends.put((index, call(index, item)))
        # Raised again by the generator.
        except BaseException as error:  # noqa: BLE001
            ends.put(error)

    try:
        while running or not is_last:
            while not is_last and running < max(1, at_once()):
                if (taken := next(waiting, None)) is None:
                    is_last = True
                else:
                    threading.Thread(target=wrap(functools.partial(make, *taken))).start()
                    running += 1
            if running and (ended := _next_end(ends)) is not None:
                running -= 1
                if isinstance(ended, BaseException):
                    raise ended
                yield ended
        is_complete = True
    finally:
        # Also with none running: an interrupt may come when one has begun and is not counted yet.
        if not is_complete:
            halt.set()
        for _ in range(running):
            ends.get()


def _next_end(ends: queue.SimpleQueue[T]) -> T | None:
    try:
        return ends.get(timeout=LOOK_S)
    except queue.Empty:
        return None
