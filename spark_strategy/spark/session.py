"""The session a run uses: the active one, or a local one made for it."""

from __future__ import annotations

import logging
import os
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from spark_strategy.errors import SparkStrategyError
from spark_strategy.spark.capacity import is_connect, is_local

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# Two runs may start at once; the attributes below are the session's, not the run's.
_PYTHON_EXEC: Final = threading.RLock()
_MAKING: Final = threading.Lock()
# A local session cannot grow, and later runs may ask for more tasks than the one that it is made
# for. A slot that is not used costs nothing.
_LOCAL_SLOTS: Final = 16
_SHORT: Final = "SPARK_HIDE_TRACEBACK"

_log = logging.getLogger(__name__)


def active_or_local(tasks: int) -> SparkSession:
    """The active session; what spark-submit configured; or a new local one with enough slots.

    A new one also has room for larger runs after this one; it is never replaced, because by then it
    may be the user's: views, cached tables and DataFrames would go with it.

    Args:
        tasks: slots that a new local session must have.
    """
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    active = SparkSession.getActiveSession()
    if active is not None:
        return active
    running = SparkContext._active_spark_context is not None  # noqa: SLF001 - as PySpark's builder
    if running or "SPARK_REMOTE" in os.environ:
        return SparkSession.builder.getOrCreate()
    with _MAKING:  # the second of two runs that start at once takes the session of the first
        running = SparkContext._active_spark_context is not None  # noqa: SLF001
        if running or _submitted_master() != "local[*]":
            return SparkSession.builder.getOrCreate()
        return _local(tasks)


def _local(tasks: int) -> SparkSession:
    from pyspark.sql import SparkSession

    cores = os.cpu_count() or 1
    master = f"local[{max(tasks, cores, _LOCAL_SLOTS)}]"
    _log.info("No active SparkSession: starting one on %s", master)
    return (
        SparkSession.builder.master(master)
        .appName("spark_strategy")
        .config("spark.ui.showConsoleProgress", "false")
        # Tables that are made from local data are cut as if there were no more slots than cores.
        .config("spark.default.parallelism", str(cores))
        .getOrCreate()
    )


def _submitted_master() -> str:
    """The master that spark-submit, PYSPARK_SUBMIT_ARGS or spark-defaults.conf names.

    Starts the JVM, which reads them all; ``local[*]`` is what Spark says when none does.
    """
    from pyspark import SparkConf, SparkContext

    SparkContext._ensure_initialized()  # noqa: SLF001 - the builder's own first step
    return SparkConf().get("spark.master") or "local[*]"


@contextmanager
def own_python(spark: SparkSession) -> Iterator[None]:
    """Functions wrapped meanwhile run in this Python, where the tasks share its machine.

    PySpark's default is whichever ``python3`` comes first on PATH, which is another one
    whenever a virtual environment is used without being activated. PYSPARK_PYTHON still wins;
    PySpark reads it, and no setting, for this (``SparkContext._do_init``).
    """
    if is_connect(spark) or "PYSPARK_PYTHON" in os.environ or not is_local(spark.sparkContext):
        yield
        return
    context = spark.sparkContext
    if context.pythonExec == sys.executable:
        yield
        return
    with _PYTHON_EXEC:
        before, context.pythonExec = context.pythonExec, sys.executable
        try:
            yield
        finally:
            context.pythonExec = before


@contextmanager
def short_errors(spark: SparkSession) -> Iterator[None]:
    """Functions wrapped meanwhile report an exception by its message, without a traceback.

    PySpark then puts the message into the first line of what the user reads (util.py,
    ``handle_worker_exception``). A Connect client cannot ask for it: its server decides.
    """
    if is_connect(spark) or _SHORT in spark.sparkContext.environment:
        yield
        return
    environment = spark.sparkContext.environment
    with _PYTHON_EXEC:
        environment[_SHORT] = "1"
        try:
            yield
        finally:
            del environment[_SHORT]


@contextmanager
def traceback_kept() -> Iterator[None]:
    """An exception that is not the library's own carries its traceback as a note.

    For what :func:`short_errors` would otherwise leave without a place.
    """
    try:
        yield
    except SparkStrategyError:
        raise
    except Exception as error:
        error.add_note(traceback.format_exc())
        raise
