"""Lets ``SparkFiles.get`` find, in a rank's process, what ``addFile`` has sent to its executor."""

from __future__ import annotations

from types import ModuleType

from spark_strategy.keras.imports import when_imported

# Where PySpark 4 and PySpark 3 keep the class.
_MODULES = ("pyspark.core.files", "pyspark.files")


def find_in(folder: str) -> None:
    """Answer ``SparkFiles.get`` and ``getRootDirectory`` as in a Spark task.

    A rank's process is not a Spark task, and PySpark stays unimported until the train function
    imports it.

    Args:
        folder: the executor's folder of files.
    """

    def answer(module: ModuleType) -> None:
        # What PySpark's own worker sets (pyspark/worker_util.py).
        module.SparkFiles._root_directory = folder  # noqa: SLF001
        module.SparkFiles._is_running_on_worker = True  # noqa: SLF001

    for name in _MODULES:
        when_imported(name, answer)
