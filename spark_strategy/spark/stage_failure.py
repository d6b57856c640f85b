"""What Spark's failure of a stage means to the user.

The theory. Spark's errors quote what others wrote: a cell that cannot be cast, a user's exception,
a path. So no word anywhere in such a text decides anything. What decides is the Java class of each
exception in the chain, Spark's own error condition and SQLSTATE, and, where Spark has put a task's
failure into the text of another exception, as it does for barrier stages, the words with which that
text *begins* up to the class of the task's exception. Spark writes those before it quotes anybody.
Of a Python exception the first line of its traceback that is not indented begins with its class.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from spark_strategy import errors
from spark_strategy.spark.lost_executors import advice

_MOST_CAUSES: Final = 20
_MOST_CHARACTERS: Final = 4_000
_CHOOSE_PYTHON: Final = (
    "Choose the executors' Python with spark.pyspark.python or PYSPARK_PYTHON, set before the "
    "session starts."
)
_ABORTED: Final = "Job aborted due to stage failure: "
# DAGScheduler.handleTaskCompletion (of a barrier stage) and TaskSetManager.handleFailedTask.
_TASK_FAILED: Final = re.compile(
    _ABORTED + r"(?:Could not recover from a failed barrier ResultStage\. Most recent failure "
    r"reason: Stage failed because barrier task \w+Task\(\d+, (?P<rank>\d+)\) finished "
    r"unsuccessfully\.\n"
    r"|Task (?P<task>\d+) in stage [\d.]+ failed \d+ times?, most recent failure: Lost task [\d.]+ "
    r"in stage [\d.]+ \(TID \d+\) \(\S+ executor \S+\): )"
)
_LOST: Final = re.compile(r"ExecutorLostFailure \(executor [^\n]*")
_JAVA_CLASS: Final = re.compile(r"([A-Za-z_]\w*(?:[.$]\w+)+)(?:: |\Z|(?=\n))")
_CONDITION: Final = re.compile(r"\[([A-Z][A-Z0-9_]*(?:\.[A-Z0-9_]+)*)\] ")
_TOO_LARGE: Final = re.compile(_ABORTED + r"(Total size of serialized results of [^\n]*)")
_NO_SLOTS: Final = re.compile(r"\[SPARK-24(?:819|942)\]: ")
_STOPPED: Final = re.compile(r"Job \d+ cancelled because SparkContext was shut down")
_NO_PYTHON: Final = re.compile(r"\s*Error from python worker:\n")
_TRACEBACK: Final = re.compile(
    r"(?:\s*An exception was thrown from the Python worker\. Please see the stack trace below\.\n)?"
    r"(?:\[PYTHON_EXCEPTION\] )?(?:An exception was thrown from the Python worker:\s+)?"
    r"Traceback \(most recent call last\):\n"
)
_RAISED: Final = re.compile(r"^(?![ \n])(?:\w+\.)*(\w+): ([^\n]*)", re.MULTILINE)
_NO_MODULE: Final = re.compile(r"No module named '([\w.]+)'(?:; '[\w.]+' is not a package)?")
_STACK: Final = re.compile(r"\n\s+at [\w.$/]+\(|\n\nJVM stacktrace:\n|\n\nDriver stacktrace:")

_SPARK_EXCEPTION: Final = frozenset({"org.apache.spark.SparkException", "SparkException"})
_PYTHON_EXCEPTION: Final = frozenset(
    {"org.apache.spark.api.python.PythonException", "PythonException"}
)
_TOO_FEW_SLOTS: Final = "org.apache.spark.scheduler.BarrierJobSlotsNumberCheckFailed"
_OUT_OF_MEMORY: Final = "java.lang.OutOfMemoryError"
# SQLSTATE's class of data exceptions; Spark's classes for most of them, where text is all there is.
_DATA_STATE: Final = "22"
_DATA_EXCEPTION: Final = frozenset(
    f"org.apache.spark.Spark{name}Exception"
    for name in ("NumberFormat", "DateTime", "Arithmetic", "ArrayIndexOutOfBounds")
)


@dataclass(frozen=True, slots=True)
class Thrown:
    """One exception of Spark's.

    Attributes:
        kind: its Java class; through Spark Connect, PySpark's class for it.
        message: its own text.
        state: its SQLSTATE; empty if it has none.
    """

    kind: str
    message: str
    state: str = ""


def text_of(error: BaseException) -> str:
    """Everything that an error says, for whoever looks for a sealed message in it."""
    return "\n".join([*(one.message for one in chain_of(error)), _said(error)])


def translate(error: BaseException, first_rank: int = 0) -> errors.SparkStrategyError:
    """What Spark's own failure of a stage means to the user.

    Args:
        error: what PySpark raised.
        first_rank: the rank of the stage's first task; 1 where rank 0 runs on the driver.
    """
    if isinstance(error, ImportError):
        return errors.PlanError(f"The driver's own Python cannot run this: {error}")
    return explain(chain_of(error), first_rank)


def chain_of(error: BaseException) -> tuple[Thrown, ...]:
    """The exceptions behind an error, the outermost first."""
    java = getattr(error, "_origin", None) or getattr(error, "java_exception", None)
    if java is None:
        return (_of_python(error),)
    found: list[Thrown] = []
    # A session that was stopped may leave no JVM to ask.
    with suppress(Exception):
        while java is not None and len(found) < _MOST_CAUSES:
            found.append(_of_java(java))
            java = java.getCause()
    return tuple(found) or (_of_python(error),)


def _of_java(java: Any) -> Thrown:
    state = ""
    # Only Spark's own exceptions have one.
    with suppress(Exception):
        state = str(java.getSqlState() or "")
    return Thrown(str(java.getClass().getName()), str(java.getMessage() or ""), state)


def _of_python(error: BaseException) -> Thrown:
    """Spark Connect's; or what PySpark itself raised."""
    state = ""
    with suppress(Exception):
        state = str(error.getSqlState() or "")  # type: ignore[attr-defined] # PySparkException's
    return Thrown(type(error).__name__, _said(error), state)


def _said(error: BaseException) -> str:
    try:
        return str(error)
    # Py4J asks the JVM for the text, and the JVM may be gone.
    except Exception:  # noqa: BLE001
        return "its text could not be read: Spark's JVM does not answer"


def explain(chain: Sequence[Thrown], first_rank: int = 0) -> errors.SparkStrategyError:
    """The error for exceptions of Spark's.

    Args:
        chain: at least one, the outermost first.
        first_rank: the rank of the stage's first task.
    """
    thrown = next((one for one in chain if not _only_wraps(one)), chain[-1])
    message = thrown.message
    if thrown.kind in _SPARK_EXCEPTION:
        if failed := _TASK_FAILED.match(message):
            who = (
                f"rank {int(failed['rank']) + first_rank}"
                if failed["rank"]
                else f"task {failed['task']}"  # of a stage that makes rows, or of one call's job
            )
            return _task_failed(message[failed.end() :], who)
        if too_large := _TOO_LARGE.match(message):
            return _too_large(too_large[1])
        if _STOPPED.match(message):
            return errors.WorkerError(
                "Spark ended the stage: the session was stopped while the stage ran "
                f"({_first_line(message)})."
            )
    if thrown.kind in {_TOO_FEW_SLOTS, *_SPARK_EXCEPTION} and _NO_SLOTS.match(message):
        return errors.CapacityError(_first_line(message))
    if thrown.kind == _OUT_OF_MEMORY:  # not in a task: here, where the results are gathered
        return _too_large(f"{_OUT_OF_MEMORY}: {_first_line(message)}")
    return _raised(thrown)


def _only_wraps(thrown: Thrown) -> bool:
    return thrown.kind == "java.util.concurrent.ExecutionException" or (
        thrown.kind in _SPARK_EXCEPTION and thrown.message.startswith("Exception thrown in await")
    )


def _task_failed(text: str, who: str) -> errors.SparkStrategyError:
    """The error for a task's failure, as Spark writes it into another exception's text."""
    if lost := _LOST.match(text):
        return errors.ExecutorLostError(
            f"Spark lost the executor of {who}: {lost[0]}\n{advice(lost[0])}"
        )
    if not (kind := _JAVA_CLASS.match(text)):
        return errors.WorkerError(f"Spark ended the stage: {_reason(text)}")
    thrown = Thrown(kind[1], text[kind.end() :])
    if thrown.kind == _OUT_OF_MEMORY:
        return errors.WorkerError(
            f"Spark's executor of {who} ran out of Java memory ({_reason(text)}). Rows "
            "on their way to the ranks and the values that they return pass through it: raise "
            "spark.executor.memory, or send less."
        )
    return _raised(thrown)


def _raised(thrown: Thrown) -> errors.SparkStrategyError:
    """The error for an exception that a task raised, or that kept Spark from starting tasks."""
    if thrown.kind in _PYTHON_EXCEPTION:
        return _python_raised(thrown)
    if thrown.kind in _SPARK_EXCEPTION and _NO_PYTHON.match(thrown.message):
        return errors.ExecutorEnvironmentError(
            f"Spark could not start Python on an executor: {_reason(thrown.message)}\n"
            f"{_CHOOSE_PYTHON}"
        )
    has_condition = bool(_CONDITION.match(thrown.message))
    reason = _reason(thrown.message)
    if thrown.state.startswith(_DATA_STATE) or (has_condition and thrown.kind in _DATA_EXCEPTION):
        return errors.DataError(f"Spark cannot make the rows that feed the ranks: {reason}")
    if not has_condition:
        reason = f"{thrown.kind.rpartition('.')[2]}: {reason}"
    return errors.WorkerError(f"Spark ended the stage: {reason}")


def _python_raised(thrown: Thrown) -> errors.SparkStrategyError:
    began = _TRACEBACK.match(thrown.message)
    raised = _RAISED.search(thrown.message, began.end()) if began else None
    if raised and raised[1] == "ModuleNotFoundError" and (no := _NO_MODULE.fullmatch(raised[2])):
        return errors.ExecutorEnvironmentError(
            f"The executors' Python has no module {no[1]!r}. Install spark_strategy and its "
            f"dependencies there. {_CHOOSE_PYTHON}"
        )
    if raised and raised[1] == "PySparkRuntimeError":
        condition = _CONDITION.match(raised[2])
        if condition and condition[1] == "PYTHON_VERSION_MISMATCH":
            return errors.ExecutorEnvironmentError(f"{raised[2].strip()} {_CHOOSE_PYTHON}")
    return errors.WorkerError(f"Spark ended the stage: {_reason(thrown.message)}")


def _too_large(why: str) -> errors.SparkStrategyError:
    return errors.ResultError(
        f"The ranks' values together are too large for Spark ({why}). Return less (save models "
        "with get_context().save(...)), or raise spark.driver.maxResultSize, "
        "spark.driver.memory and spark.executor.memory."
    )


def _reason(text: str) -> str:
    """A message without the frames of the JVM, and of a length for people."""
    stack = _STACK.search(text)
    reason = (text[: stack.start()] if stack else text).strip()
    if len(reason) > _MOST_CHARACTERS:
        half = _MOST_CHARACTERS // 2
        reason = f"{reason[:half]}\n[...]\n{reason[-half:]}"
    return reason or "no reason given"


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "no reason given")
