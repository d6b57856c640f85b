"""Errors of this library that TensorFlow has made errors of its own, back as what they were.

TensorFlow runs a dataset's Python, and raises what that raised as an error of its own, with the
class and the message in the text. An operation can say no more than a text either.
"""

from __future__ import annotations

import re
from typing import Final

from spark_strategy.errors import DataError, PlanError, SparkStrategyError

_KINDS: Final = {kind.__name__: kind for kind in (DataError, PlanError)}
# As Python prints it below a traceback; an empty line ends it.
_RAISED: Final = re.compile(r"spark_strategy\.errors\.(\w+): (.*?)\n\s*\n", re.DOTALL)
# As ``Assert`` prints what :func:`stated` gives: with escapes, as in C.
_STATED: Final = re.compile(r"assertion failed: \[spark_strategy\.errors\.(\w+): (.*?)\\n\\n\]")


def stated(message: str) -> str:
    """The text with which an operation fails, so that it becomes a DataError."""
    return f"{DataError.__module__}.{DataError.__qualname__}: {message}\n\n"


def own_error(error: BaseException) -> SparkStrategyError | None:
    """The error of this library that an error of TensorFlow's tells of; None if it is not one."""
    if not type(error).__module__.startswith("tensorflow."):
        return None
    text = str(error)
    asserted = _STATED.search(text)
    found = asserted or _RAISED.search(text)
    if found is None or found[1] not in _KINDS:
        return None
    return _KINDS[found[1]](_unescaped(found[2]) if asserted else found[2])


def _unescaped(text: str) -> str:
    """A text without C's escapes."""
    plain = text.encode().decode("unicode_escape")
    return plain.encode("latin-1", "replace").decode("utf-8", "replace")
