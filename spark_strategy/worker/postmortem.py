"""Turns the exception that ended a child into a failure in the folder."""

from __future__ import annotations

import re
import time
import traceback
from pathlib import Path
from types import TracebackType
from typing import Final

import cloudpickle

from spark_strategy import errors
from spark_strategy.folder import ChildFailure, ChildFolder
from spark_strategy.outcome import Reason, reason_of

_OURS: Final = str(Path(__file__).parent)

# tf.errors classes by name (this module is also reached when TensorFlow is not there). What
# gRPC and the collective executor say when *another* task is gone:
# tensorflow/core/distributed_runtime/collective_rma_distributed.cc, common_runtime/
# base_collective_executor.cc ("Collective ops is aborted by: ...").
_PEER_ERRORS: Final = frozenset({"UnavailableError", "AbortedError", "CancelledError"})
_PEER_TEXT: Final = re.compile(
    r"Collective ops is aborted|Connection reset by peer|Socket closed|recvmsg:|"
    r"failed to connect to all addresses|coordination service|Broken pipe|GOAWAY",
    re.IGNORECASE,
)


def record(folder: ChildFolder, error: BaseException) -> None:
    """Leave ``error`` in ``folder`` for the Spark task."""
    failure = ChildFailure(
        reason=_reason(error),
        message=_message(error),
        traceback="".join(
            traceback.format_exception(type(error), error, _users(error.__traceback__))
        ),
        secondary=_is_secondary(error),
        at=time.time(),
    )
    folder.fail(failure, _pickled(error))


def _reason(error: BaseException) -> Reason:
    return Reason.EXITED if isinstance(error, SystemExit) else reason_of(error)


def _message(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"called sys.exit({error.code!r}) inside the train function"
    if isinstance(error, errors.SparkStrategyError):
        return str(error)
    try:
        lines = str(error).strip().splitlines()
    except Exception:  # noqa: BLE001 - the user's __str__ is no reason to lose the failure
        lines = []
    text = f": {lines[0]}" if lines else ""
    return f"raised {type(error).__qualname__}{text}"


def _users(frames: TracebackType | None) -> TracebackType | None:
    """The traceback from the first frame that is not this package's child code."""
    first = frames
    while first is not None and first.tb_frame.f_code.co_filename.startswith(_OURS):
        first = first.tb_next
    return first or frames


def _is_secondary(error: BaseException) -> bool:
    seen: BaseException | None = error
    while seen is not None:
        if type(seen).__module__.startswith("tensorflow."):
            return type(seen).__name__ in _PEER_ERRORS or bool(_PEER_TEXT.search(str(seen)))
        seen = seen.__cause__ or seen.__context__
    return False


def _pickled(error: BaseException) -> bytes:
    try:
        return bytes(cloudpickle.dumps(error))
    # An exception's own pickling code may raise anything; its text travels all the same.
    except Exception:  # noqa: BLE001
        return b""
