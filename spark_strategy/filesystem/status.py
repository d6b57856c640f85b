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

# hdfs-native (0.14) raises most errors as a RuntimeError, or an OSError without a number. Its text
# begins with its own words, of the NameNode's answer with the Java class; then come paths and
# whatever the NameNode says, which decide nothing.
_RPC: Final = re.compile(r"(?:fatal )?RPC error: ([\w.$]+)|(?:Fatal)?RPCError\(\"([\w.$]+)\"")
_NO_ANSWER: Final = re.compile(
    r"IO error occurred while communicating with HDFS|data transfer error|blocks not found"
    r"|All DataNodes failed|IOError\(|DataTransferError\(|BlocksNotFound\("
)
_DIRECTORY: Final = re.compile(r"path is a directory|IsADirectoryError\(")
_JAVA: Final = {
    "AccessControlException": PERMISSION_DENIED,
    "ParentNotDirectoryException": FAILED_PRECONDITION,
    "PathIsNotDirectoryException": FAILED_PRECONDITION,
    "PathIsNotEmptyDirectoryException": FAILED_PRECONDITION,
    "FileAlreadyExistsException": ALREADY_EXISTS,
    "NSQuotaExceededException": RESOURCE_EXHAUSTED,
    "DSQuotaExceededException": RESOURCE_EXHAUSTED,
    "QuotaExceededException": RESOURCE_EXHAUSTED,
    "QuotaByStorageTypeExceededException": RESOURCE_EXHAUSTED,
    "SafeModeException": UNAVAILABLE,
    "StandbyException": UNAVAILABLE,
}

# TensorFlow's runtime says UNAVAILABLE of other tasks. This tells the two apart, where it is asked
# who is to blame (``worker/postmortem.py``).
STORAGE: Final = "(the storage does not answer; no other task is meant)"

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
    text = text if path in text else f"{path}: {text}"
    code = _code(error)
    return code, f"{text} {STORAGE}" if code == UNAVAILABLE else text


def _code(error: BaseException) -> int:
    if isinstance(error, OSError) and error.errno in _NUMBERS:
        return _NUMBERS[error.errno]
    for kind, code in _CLASSES:
        if isinstance(error, kind):
            return code
    plain = isinstance(error, RuntimeError) or (isinstance(error, OSError) and not error.errno)
    return _hdfs_code(str(error)) if plain else UNKNOWN


def _hdfs_code(text: str) -> int:
    if answer := _RPC.match(text):
        name = (answer[1] or answer[2]).rpartition(".")[2].rpartition("$")[2]
        return _JAVA.get(name, UNKNOWN)
    if _NO_ANSWER.match(text):
        return UNAVAILABLE
    return FAILED_PRECONDITION if _DIRECTORY.match(text) else UNKNOWN
