"""Turns the exception that ended a child into a failure in the folder.

The theory. To say what an exception says, its own code must run, and that may take for ever, crash
the process or use up its memory. So a failure is written three times: first what the interpreter
itself knows (the class, the frames), then with the exception's text, last with the exception. Only
the last is final. The task, which watches from outside, takes what there is when the process has
ended or the next step is not taken in time (``supervisor.py``).
"""

from __future__ import annotations

import re
import time
import traceback
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Final

import cloudpickle

from spark_strategy import bounds, errors
from spark_strategy.filesystem.status import STORAGE
from spark_strategy.folder import ChildFailure, ChildFolder
from spark_strategy.outcome import Reason, reason_of

_OURS: Final = str(Path(__file__).parent)
# Pickled exceptions of all ranks together; the driver takes no more than
# spark.driver.maxResultSize, 1 GiB by default.
_ERRORS_BYTES: Final = 64 * 2**20
_MOST_ERROR_BYTES: Final = 2**20
_LEAST_ERROR_BYTES: Final = 8 * 2**10
# Links of a chain that is too odd to be left to Python's own printing.
_LINKS: Final = 10
_FRAMES: Final = 50
# With room for what is said about them.
_MESSAGE_CHARS: Final = bounds.MESSAGE_CHARS - 500
_TRACEBACK_CHARS: Final = bounds.TRACEBACK_CHARS - 500
_NO_TEXT: Final = "(its own text could not be had: str() of it did not return)"

# tf.errors classes by name (this module is also reached when TensorFlow is not there), as its
# distributed runtime raises them where *another* task is gone, and nothing else does but storage.
_PEER_ERRORS: Final = frozenset({"UnavailableError", "AbortedError", "CancelledError"})
# What gRPC and the collective executor say in errors of other classes:
# tensorflow/core/distributed_runtime/collective_rma_distributed.cc. Asked of those classes alone
# that no operation on data raises, for its text would quote the data.
_RUNTIME_ERRORS: Final = frozenset({"InternalError", "FailedPreconditionError", "UnknownError"})
_PEER_TEXT: Final = re.compile(
    r"Collective ops is aborted|Connection reset by peer|Socket closed|recvmsg:|"
    r"failed to connect to all addresses|coordination service|Broken pipe|GOAWAY",
    re.IGNORECASE,
)
# common_runtime/base_collective_executor.cc puts this before an error of any class.
_ABORTED: Final = re.compile(r"\s*(?:\{\{[^}]*\}\}\s*)*Collective ops is aborted by: ")
_GRAPH: Final = "Graph execution error:"
_NODE: Final = re.compile(r"\nNode: '[^'\n]*'\n")
# tf.py_function and Dataset.from_generator make an UnknownError of a Python exception, with its
# traceback; what it says of connections is about the user's own.
_PYTHON_TEXT: Final = "Traceback (most recent call last)"


def record(folder: ChildFolder, error: BaseException, *, ranks: int = 1) -> None:
    """Leave ``error`` in ``folder`` for the Spark task.

    Args:
        folder: the child's.
        error: what ended it.
        ranks: how many there are, which may all fail at once.
    """
    frames = _users(bounds.frames_of(error))
    failure = ChildFailure(
        reason=_reason(error),
        message=f"raised {bounds.name_of(error)} {_NO_TEXT}",
        traceback=f"{_stack(frames)}{bounds.name_of(error)} {_NO_TEXT}\n",
        secondary=False,
        at=time.time(),
    )
    folder.fail_soon(failure)
    failure = replace(
        failure,
        message=_message(error),
        traceback=bounds.cut_middle(_traceback(error, frames), _TRACEBACK_CHARS),
        secondary=_is_secondary(error),
    )
    folder.fail_soon(failure)
    most = min(_MOST_ERROR_BYTES, max(_LEAST_ERROR_BYTES, _ERRORS_BYTES // ranks))
    pickled, problem = _pickled(error, most)
    if problem:
        note = f"(The exception itself stays with the rank: {problem}.)\n"
        failure = replace(failure, traceback=f"{failure.traceback.rstrip()}\n{note}")
    folder.fail(failure, pickled)


def _reason(error: BaseException) -> Reason:
    return Reason.EXITED if issubclass(type(error), SystemExit) else reason_of(error)


def _message(error: BaseException) -> str:
    if issubclass(type(error), SystemExit):
        code = SystemExit.__dict__["code"].__get__(error)
        return f"called sys.exit({bounds.shown(code)}) inside the train function"
    text = bounds.text_of(error, _MESSAGE_CHARS)
    if issubclass(type(error), errors.SparkStrategyError):
        return text
    lines = text.strip().splitlines()
    return f"raised {bounds.name_of(error)}{f': {lines[0]}' if lines else ''}"


def _users(frames: TracebackType | None) -> TracebackType | None:
    """The traceback from the first frame that is not this package's child code."""
    first = frames
    while first is not None and first.tb_frame.f_code.co_filename.startswith(_OURS):
        first = first.tb_next
    return first or frames


def _traceback(error: BaseException, frames: TracebackType | None) -> str:
    if _is_plain(error):
        # Attributes of the user's may be properties that raise; what follows does without them.
        with suppress(BaseException):
            return "".join(traceback.format_exception(type(error), error, frames))
    return _own_traceback(error, frames)


def _is_plain(error: BaseException) -> bool:
    """Whether Python's own printing of an exception, and of all behind it, comes to an end soon."""
    behind = list(bounds.exceptions_behind(error))
    if len(behind) == bounds.MOST_EXCEPTIONS:
        return False
    most = bounds.TRACEBACK_CHARS
    said = sum(len(bounds.text_of(one, most)) for one in behind)
    noted = sum(len(note) for one in behind for note in bounds.notes_of(one))
    return said + noted <= most


def _own_traceback(error: BaseException, frames: TracebackType | None) -> str:
    """As Python prints it, without whatever the exceptions themselves could add to it."""
    chain = [error]
    while (before := bounds.cause_of(chain[-1])) is not None and len(chain) < _LINKS:
        if any(before is one for one in chain):
            break
        chain.append(before)
    cut_off = "" if before is None else "(What came before is left out: a circle, or too much.)\n\n"
    links = [
        f"{_stack(frames if one is error else bounds.frames_of(one))}{_last_line(one)}\n"
        for one in reversed(chain)
    ]
    return cut_off + "\nThe above exception came before the next one:\n\n".join(links)


def _last_line(error: BaseException) -> str:
    module = bounds.module_of(error)
    name = bounds.name_of(error)
    full = name if module in ("builtins", "__main__", "") else f"{module}.{name}"
    notes = [bounds.cut(note, bounds.SHOWN_CHARS) for note in bounds.notes_of(error)[:_LINKS]]
    members = [
        f"  - {bounds.name_of(one)}: {bounds.text_of(one, bounds.SHOWN_CHARS)}"
        for one in bounds.members_of(error)[:_LINKS]
    ]
    return "\n".join([f"{full}: {bounds.text_of(error)}", *notes, *members])


def _stack(frames: TracebackType | None) -> str:
    """The frames of one exception; the last ones, if there are many."""
    lines = traceback.format_list(traceback.extract_tb(frames, limit=-_FRAMES))
    return f"Traceback (most recent call last):\n{''.join(lines)}"


def _is_secondary(error: BaseException) -> bool:
    for one in bounds.exceptions_behind(error):
        if bounds.module_of(one).startswith("tensorflow."):
            text = bounds.text_of(one, bounds.TRACEBACK_CHARS)
            return _is_about_peers(bounds.name_of(one), text)
    return False


def _is_about_peers(kind: str, text: str) -> bool:
    """Whether an error of TensorFlow's is about another task, whatever data says in it."""
    if kind in _PEER_ERRORS:
        return STORAGE not in text
    if kind in _RUNTIME_ERRORS and _PYTHON_TEXT not in text and _PEER_TEXT.search(text):
        return True
    # The first node is named before anything that its operation says.
    node = _NODE.search(text) if text.startswith(_GRAPH) else None
    return bool(_ABORTED.match(text, node.end() if node else 0))


def _pickled(error: BaseException, most: int) -> tuple[bytes, str]:
    """The exception, or why it does not travel; its text does in any case."""
    buffer = bounds.BoundedBuffer(most)
    try:
        cloudpickle.Pickler(buffer).dump(error)
    except bounds.TooLargeError as problem:
        return b"", f"pickled it is {problem}"
    # An exception's own pickling code may raise anything.
    except BaseException as problem:  # noqa: BLE001
        return b"", f"it cannot be pickled, {bounds.name_of(problem)}"
    return buffer.getvalue(), ""
