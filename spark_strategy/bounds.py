"""Keeps what objects of others say and weigh within bounds, whatever code of their own runs.

The theory. An exception, an argument or a value of the user's has methods of its own. ``__str__``
may raise, recurse or give a gigabyte; a property may stand where an attribute is expected; a cause
may be its own cause. So attributes of exceptions are read by the interpreter's own slots, walks
remember where they were and end after a number of steps, and text is cut before it is copied.
What blocks cannot be helped from inside: whoever calls this leaves word first (``postmortem.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

MESSAGE_CHARS: Final = 4_000
TRACEBACK_CHARS: Final = 32_000
LOG_CHARS: Final = 16_000
SHOWN_CHARS: Final = 200
# Exceptions that are looked at for the sake of one.
MOST_EXCEPTIONS: Final = 50


def cut(text: str, most: int) -> str:
    """The beginning of a text that is too long, with how much is missing."""
    if len(text) <= most:
        return text
    return f"{text[:most]}... cut, {len(text) - most:,} characters more"


def cut_middle(text: str, most: int) -> str:
    """Beginning and end of a text that is too long, with how much is missing between them.

    The end gets three quarters: a traceback's last lines say what happened.
    """
    if len(text) <= most:
        return text
    head, tail = most // 4, most - most // 4
    return f"{text[:head]}\n... cut, {len(text) - most:,} characters here ...\n{text[-tail:]}"


def text_of(value: object, most: int = MESSAGE_CHARS) -> str:
    """``str(value)``, cut; a substitute where the value's own code fails."""
    return _told(str, value, most)


def shown(value: object, most: int = SHOWN_CHARS) -> str:
    """``repr(value)``, cut; a substitute where the value's own code fails."""
    return _told(repr, value, most)


def name_of(value: object) -> str:
    """The qualified name of the value's class, which no metaclass can bend."""
    return str(type.__dict__["__qualname__"].__get__(type(value)))


def module_of(value: object) -> str:
    """The module of the value's class; empty if it names none."""
    module = type.__dict__["__module__"].__get__(type(value))
    return module if type(module) is str else ""


def cause_of(error: BaseException) -> BaseException | None:
    """What Python would print before ``error``: its cause, or what was being handled."""
    cause = _slot(error, "__cause__")
    if cause is None and not _slot(error, "__suppress_context__"):
        cause = _slot(error, "__context__")
    return cause if isinstance(cause, BaseException) else None


def members_of(error: BaseException) -> tuple[BaseException, ...]:
    """The exceptions of an exception group; empty for any other."""
    if not issubclass(type(error), BaseExceptionGroup):
        return ()
    members: tuple[BaseException, ...] = BaseExceptionGroup.__dict__["exceptions"].__get__(error)
    return members


def frames_of(error: BaseException) -> Any:
    """The traceback that the interpreter has attached."""
    return _slot(error, "__traceback__")


def notes_of(error: BaseException) -> list[str]:
    """The notes that are text."""
    try:
        notes = object.__getattribute__(error, "__dict__").get("__notes__")
    except Exception:  # noqa: BLE001 - a class that hides its attributes
        return []
    return [note for note in notes if type(note) is str] if type(notes) is list else []


def exceptions_behind(error: BaseException, most: int = MOST_EXCEPTIONS) -> Iterator[BaseException]:
    """``error``, its causes and contexts and the members of groups, each once, ``most`` at most."""
    seen: set[int] = set()
    waiting = [error]
    while waiting and len(seen) < most:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        before = (_slot(one, "__cause__"), _slot(one, "__context__"))
        found = [*(other for other in before if other is not None), *members_of(one)[:most]]
        waiting.extend(other for other in found if id(other) not in seen)


class TooLargeError(Exception):
    """More was written than was allowed."""


class BoundedBuffer:
    """A file in memory that refuses what goes beyond a size, before it is kept.

    Args:
        most: bytes that it takes.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._pieces: list[bytes] = []
        self._size = 0

    def write(self, piece: Any) -> int:
        """Keep a piece.

        Raises:
            TooLargeError: it would be too much.
        """
        size = memoryview(piece).nbytes
        if self._size + size > self._most:
            raise TooLargeError(f"more than {self._most:,} bytes")
        self._size += size
        self._pieces.append(bytes(piece))
        return size

    def getvalue(self) -> bytes:
        """All that was written."""
        return b"".join(self._pieces)


def _slot(error: BaseException, name: str) -> Any:
    return BaseException.__dict__[name].__get__(error)


def _told(tell: Callable[[object], str], value: object, most: int) -> str:
    try:
        text = tell(value)
        size = str.__len__(text)
        # A subclass of str has methods of its own as well; these two are str's.
        return str.__str__(text) if size <= most else _cut_known(text, most, size)
    # The value's own code: a sys.exit() in it is no reason to stop either.
    except BaseException as error:  # noqa: BLE001
        return f"<{name_of(value)}: {tell.__name__}() raised {name_of(error)}>"


def _cut_known(text: str, most: int, size: int) -> str:
    head = str.__getitem__(text, slice(most))
    return f"{head}... cut, {size - most:,} characters more"
