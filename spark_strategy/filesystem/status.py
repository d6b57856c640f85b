"""A Python exception -> TensorFlow's error code and message."""

from __future__ import annotations

import errno
import re
from typing import Final

# TF_Code (xla/tsl/c/tsl_status.h), which tf.errors has as its classes.
UNKNOWN: Final = 2
INVALID_ARGUMENT: Final = 3
DEADLINE_EXCEEDED: Final = 4
NOT_FOUND: Final = 5
ALREADY_EXISTS: Final = 6
PERMISSION_DENIED: Final = 7
RESOURCE_EXHAUSTED: Final = 8
FAILED_PRECONDITION: Final = 9
UNIMPLEMENTED: Final = 12
UNAVAILABLE: Final = 14

# The first class that fits counts.
_CLASSES: Final[tuple[tuple[type[BaseException], int], ...]] = (
    (FileNotFoundError, NOT_FOUND),
    (FileExistsError, ALREADY_EXISTS),
    (IsADirectoryError, FAILED_PRECONDITION),
    (NotADirectoryError, FAILED_PRECONDITION),
    (PermissionError, PERMISSION_DENIED),
    (TimeoutError, DEADLINE_EXCEEDED),
    (ConnectionError, UNAVAILABLE),
    (NotImplementedError, UNIMPLEMENTED),
    (ImportError, FAILED_PRECONDITION),
    (MemoryError, RESOURCE_EXHAUSTED),
    (ValueError, INVALID_ARGUMENT),
    (TypeError, INVALID_ARGUMENT),
)

_NUMBERS: Final = {
    errno.ENOTEMPTY: FAILED_PRECONDITION,
    errno.EBUSY: UNAVAILABLE,
    errno.EHOSTUNREACH: UNAVAILABLE,
    errno.ENETUNREACH: UNAVAILABLE,
    errno.ENOSPC: RESOURCE_EXHAUSTED,
    errno.EDQUOT: RESOURCE_EXHAUSTED,
    errno.EMFILE: RESOURCE_EXHAUSTED,
}

# What hdfs-native (0.14) says in a RuntimeError: it passes on the Java class of the NameNode's
# answer, and Rust's text of a failed connection. The first text found counts.
_TEXTS: Final = (
    ("AccessControlException", PERMISSION_DENIED),
    ("ParentNotDirectoryException", FAILED_PRECONDITION),
    ("PathIsNotDirectoryException", FAILED_PRECONDITION),
    ("PathIsNotEmptyDirectoryException", FAILED_PRECONDITION),
    ("FileAlreadyExistsException", ALREADY_EXISTS),
    ("QuotaExceededException", RESOURCE_EXHAUSTED),
    ("SafeModeException", UNAVAILABLE),
    ("StandbyException", UNAVAILABLE),
    ("Connection refused", UNAVAILABLE),
    ("connection", UNAVAILABLE),
    ("BlockMissing", UNAVAILABLE),
    ("is a directory", FAILED_PRECONDITION),
)

# hdfs-native passes on the NameNode's, in text that may be escaped.
_JAVA_STACK: Final = re.compile(r"(\n|\\n)(\t|\\t)at .*", re.DOTALL)


def explain(error: BaseException, path: str) -> tuple[int, str]:
    """The code, and one text with the path and what was wrong.

    Args:
        error: what was raised.
        path: what it was about, as TensorFlow named it.
    """
    text = " ".join(_JAVA_STACK.sub("", str(error)).split()) or type(error).__name__
    if not isinstance(error, OSError):
        text = f"{type(error).__name__}: {text}"
    return _code(error), text if path in text else f"{path}: {text}"


def _code(error: BaseException) -> int:
    if isinstance(error, OSError) and error.errno in _NUMBERS:
        return _NUMBERS[error.errno]
    for kind, code in _CLASSES:
        if isinstance(error, kind):
            return code
    return next((code for part, code in _TEXTS if part in str(error)), UNKNOWN)
