"""What Spark's errors mean is read from their classes and from Spark's own words only."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spark_strategy.errors import (
    CapacityError,
    DataError,
    ExecutorEnvironmentError,
    ExecutorLostError,
    PlanError,
    ResultError,
    WorkerError,
)
from spark_strategy.spark.stage_failure import Thrown, explain, text_of, translate

# As PySpark 4.3.0 gives them.
SPARK = "org.apache.spark.SparkException"
AWAIT = Thrown(SPARK, "Exception thrown in awaitResult: ")
ABORTED = "Job aborted due to stage failure: "
BARRIER = (
    f"{ABORTED}Could not recover from a failed barrier ResultStage. Most recent failure reason: "
    "Stage failed because barrier task ResultTask(3, 1) finished unsuccessfully.\n"
)
TASK = (
    f"{ABORTED}Task 0 in stage 1.0 failed 4 times, most recent failure: Lost task 0.3 in stage 1.0 "
    "(TID 5) (10.0.0.7 executor 3): "
)
STACK = (
    "\n\tat org.apache.spark.scheduler.Task.run(Task.scala:147)\n\tat java.base/java.lang.Thread"
)
PYTHON = (
    "org.apache.spark.api.python.PythonException: [PYTHON_EXCEPTION] An exception was thrown from "
    'the Python worker: Traceback (most recent call last):\n  File "worker.py", line 48, in f\n'
    "    import_it()\n"
)
# What a table, a user's exception or a path may say; none of it is Spark's.
WORDS = (
    "No module named 'pandas'",
    "\nModuleNotFoundError: No module named 'pandas'",
    "PYTHON_VERSION_MISMATCH",
    "\nPySparkRuntimeError: [PYTHON_VERSION_MISMATCH] x",
    "Java heap space",
    "java.lang.OutOfMemoryError: Java heap space",
    "spark.driver.maxResultSize",
    f"{ABORTED}Total size of serialized results of 1 tasks",
    "ExecutorLostFailure (executor 0 exited) Reason: x",
    f"{BARRIER}ExecutorLostFailure (executor 0 exited) Reason: x",
    "executor lost",
    "[SPARK-24819]: Barrier execution mode",
    "the barrier has too few slots",
    "Error from python worker:\n",
    "SQLSTATE: 22018",
    "Job 3 cancelled because SparkContext was shut down",
)


def cast(cell: str) -> str:
    """Spark's message about a cell that is not a number."""
    return (
        f"[CAST_INVALID_INPUT] The value '{cell}' of the type \"STRING\" cannot be cast to "
        '"INT" because it is malformed. SQLSTATE: 22018'
    )


def in_barrier(text: str) -> tuple[Thrown, ...]:
    """A barrier task's failure, as it reaches the driver."""
    return AWAIT, Thrown(SPARK, BARRIER + text)


@pytest.mark.parametrize("word", WORDS)
def test_a_cell_that_cannot_be_cast_is_data_whatever_it_says(word: str) -> None:
    """In a barrier stage, in a stage before it, in a job of one task, and through Spark Connect."""
    number = "org.apache.spark.SparkNumberFormatException"
    for chain in (
        in_barrier(f"{number}: {cast(word)}{STACK}"),
        (Thrown(SPARK, f"{TASK}{number}: {cast(word)}{STACK}"),),
        (AWAIT, Thrown(number, cast(word), "22018")),
        (Thrown("NumberFormatException", cast(word), "22018"),),
        (Thrown("SparkException", f"{BARRIER}{number}: {cast(word)}{STACK}"),),
    ):
        error = explain(chain)
        assert type(error) is DataError
        assert "[CAST_INVALID_INPUT]" in str(error)
        assert "Thread" not in str(error)


@pytest.mark.parametrize("word", WORDS)
def test_an_exception_of_the_users_is_theirs_whatever_it_says(word: str) -> None:
    """Of Python, of SQL's raise_error, of a library in Java."""
    raised = "org.apache.spark.SparkRuntimeException: [USER_RAISED_EXCEPTION] "
    for text in (f"{PYTHON}ValueError: {word}", f"{raised}{word}", f"java.io.IOException: {word}"):
        error = explain(in_barrier(text + STACK))
        assert type(error) is WorkerError
        assert word.strip().partition("\n")[0] in str(error)


@given(st.text())
def test_no_text_of_others_is_taken_for_a_verdict(text: str) -> None:
    """Whatever stands after the class of the exception."""
    assert type(explain(in_barrier(f"java.io.IOException: {text}"))) is WorkerError
    assert type(explain([Thrown("java.io.IOException", text)])) is WorkerError


@pytest.mark.parametrize(
    "before",
    [
        "",
        "Traceback (most recent call last):\n  File x\n",
    ],
)
def test_a_module_that_is_missing_on_the_executors_is_named(before: str) -> None:
    """Also where PySpark's own error, which quotes it, was raised after it."""
    after = (
        "\nDuring handling of the above exception, another exception occurred:\n\n"
        "Traceback (most recent call last):\npyspark.serializers.SerializationError: Caused by x"
        if before
        else ""
    )
    text = f"{PYTHON}ModuleNotFoundError: No module named 'spark_strategy'\n{after} SQLSTATE: 38000"
    for chain in (
        in_barrier(text + STACK),
        (AWAIT, Thrown(text.partition(": ")[0], text.partition(": ")[2])),
        (
            Thrown(
                "PythonException",
                "\n  An exception was thrown from the Python worker. Please see the stack trace "
                f"below.\n{text.partition(': ')[2]}",
            ),
        ),
    ):
        error = explain(chain)
        assert type(error) is ExecutorEnvironmentError
        assert "no module 'spark_strategy'" in str(error)


def test_another_python_on_the_executors_is_named() -> None:
    """Both versions, and what to do."""
    raised = (
        "pyspark.errors.exceptions.base.PySparkRuntimeError: [PYTHON_VERSION_MISMATCH] Python in "
        "worker has different version: 3.12 than that in driver: 3.11"
    )
    error = explain(in_barrier(f"{PYTHON}{raised}{STACK}"))

    assert type(error) is ExecutorEnvironmentError
    assert "different version: 3.12 than that in driver: 3.11" in str(error)
    assert "PYSPARK_PYTHON" in str(error)


def test_a_python_that_does_not_start_is_shown() -> None:
    """Before Spark's worker runs there is no traceback of its."""
    text = (
        "\nError from python worker:\n  /usr/bin/python3: No module named pyspark\nPYTHONPATH was:"
    )
    error = explain(in_barrier(f"{SPARK}: {text}{STACK}"))

    assert type(error) is ExecutorEnvironmentError
    assert "No module named pyspark" in str(error)


@pytest.mark.parametrize(
    ("text", "first_rank", "who"),
    [(BARRIER, 0, "rank 1"), (BARRIER, 1, "rank 2"), (TASK, 0, "task 0"), (TASK, 1, "task 0")],
)
def test_a_lost_executor_is_named_with_its_rank(text: str, first_rank: int, who: str) -> None:
    """In a barrier stage, also beside a chief on the driver; elsewhere a partition is no rank."""
    why = "ExecutorLostFailure (executor 0 exited caused by one of the running tasks) Reason: 137"
    error = explain([AWAIT, Thrown(SPARK, text + why)], first_rank)

    assert type(error) is ExecutorLostError
    assert f"executor of {who}: {why}\n" in str(error)


@pytest.mark.parametrize(
    "kind", ["org.apache.spark.scheduler.BarrierJobSlotsNumberCheckFailed", SPARK, "SparkException"]
)
def test_too_few_slots_are_the_clusters(kind: str) -> None:
    """Classic and through Spark Connect."""
    text = "[SPARK-24819]: Barrier execution mode does not allow a stage that requires more slots"

    assert type(explain([AWAIT, Thrown(kind, text)])) is CapacityError


def test_too_large_is_said_of_results_only() -> None:
    """Of Spark's own limit and of the driver's memory; memory of a task is another thing."""
    total = "Total size of serialized results of 1 tasks (2.9 MiB) is bigger than the limit"
    heap = "java.lang.OutOfMemoryError"

    for chain in ([AWAIT, Thrown(SPARK, ABORTED + total)], [Thrown(heap, "Java heap space")]):
        assert type(explain(chain)) is ResultError
    error = explain(in_barrier(f"{heap}: Java heap space{STACK}"))
    assert type(error) is WorkerError
    assert "rank 1 ran out of Java memory" in str(error)


def test_a_session_that_was_stopped_is_named() -> None:
    """And not the call during which it was."""
    text = "Job 22 cancelled because SparkContext was shut down"
    error = explain([AWAIT, Thrown(SPARK, text)])

    assert type(error) is WorkerError
    assert "session was stopped" in str(error)


def test_a_module_that_the_driver_lacks_is_the_callers() -> None:
    """It is not the executors'."""
    assert type(translate(ImportError("No module named 'grpc'"))) is PlanError


def test_an_error_without_a_jvm_to_ask_is_explained_nevertheless() -> None:
    """The session may be gone with its JVM; what can be said is said."""

    class Gone:
        """A Java object whose JVM has ended."""

        def getClass(self) -> object:  # noqa: N802 - Java's name
            """Nobody answers."""
            raise ConnectionRefusedError

    class FailedError(Exception):
        """As Py4JJavaError."""

        java_exception = Gone()

        def __str__(self) -> str:
            raise ConnectionRefusedError

    error = translate(FailedError())
    assert type(error) is WorkerError
    assert "JVM does not answer" in str(error)
    assert "JVM does not answer" in text_of(FailedError())


def test_a_very_long_reason_is_cut() -> None:
    """A cell may be as long as it likes."""
    error = explain(in_barrier(f"java.io.IOException: {'x' * 10**7}"))

    assert len(str(error)) < 5_000
