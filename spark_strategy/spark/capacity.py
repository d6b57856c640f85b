"""SparkSession -> Capacity: the only reader of Spark's configuration."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from spark_strategy.data.paths import FileRoot
from spark_strategy.plan import Capacity
from spark_strategy.spark import hadoop
from spark_strategy.spark.executors import local_cores

if TYPE_CHECKING:
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

_PYTHON_UDF: Final = "spark.sql.execution.pyspark.udf"


def is_connect(spark: SparkSession) -> bool:
    """Whether the session is a Spark Connect client."""
    return type(spark).__module__.startswith("pyspark.sql.connect")


def is_local(context: SparkContext) -> bool:
    """Whether the tasks run inside the driver's own JVM, on its machine and console."""
    return is_local_master(context.master or "")


def is_local_master(master: str) -> bool:
    """The same, by master URL; ``local-cluster`` has processes of its own."""
    return master == "local" or master.startswith("local[")


def read(spark: SparkSession) -> Capacity:
    """What the session's configuration says; slots are counted elsewhere (``executors.py``)."""
    if is_connect(spark):
        master = spark.conf.get("spark.master", None) or "sc://"
    else:
        master = spark.sparkContext.master or ""

    def setting(name: str, default: str) -> str:
        # A classic session's own settings begin with those of its context.
        return spark.conf.get(name, default) or default

    return Capacity(
        master=master,
        slots=None,
        task_cpus=int(setting("spark.task.cpus", "1")),
        gpus_per_task=float(setting("spark.task.resource.gpu.amount", "0")),
        dynamic_allocation=setting("spark.dynamicAllocation.enabled", "false") == "true",
        connect=is_connect(spark),
        idle_kill_s=_idle_kill_s(setting),
        address_space_mib=address_space_mib(setting),
    )


def _idle_kill_s(setting: Callable[[str, str], str]) -> int:
    """Seconds of silence after which Spark ends a Python worker; 0 for never."""
    # Settings of a session, which begin with those of spark.python.worker (PythonRunner.scala).
    if setting(f"{_PYTHON_UDF}.killOnIdleTimeout", "false") != "true":
        return 0
    return _seconds(setting(f"{_PYTHON_UDF}.idleTimeoutSeconds", "0"))


def _seconds(text: str) -> int:
    """Spark writes such settings back as ``7`` or ``7s``."""
    return int(re.match(r"\d*", text)[0] or 0)  # type: ignore[index]


def address_space_mib(setting: Callable[[str, str], str]) -> int:
    """The address space that Spark leaves to each Python worker, in MiB; 0 for no limit.

    Args:
        setting: gives a setting's value by its name and its default.
    """
    # BasePythonRunner.getWorkerMemoryMb; cores that are not set count as one there.
    cores = int(setting("spark.executor.cores", "1"))
    return _mebibytes(setting("spark.executor.pyspark.memory", "0")) // cores


def _mebibytes(text: str) -> int:
    """Of a size as Spark writes it: ``2g``, ``1500m``, ``1500`` of the same."""
    found = re.fullmatch(r"(\d+)\s*([kmgtp]?)b?", text.strip().lower())
    if found is None:
        return 0
    return int(int(found[1]) * 1024 ** ("kmgtp".index(found[2] or "m") - 1))


def driver_host(spark: SparkSession) -> str:
    """How executors reach this driver; for classic sessions."""
    return spark.sparkContext.getConf().get("spark.driver.host") or socket.getfqdn()


def file_root(spark: SparkSession) -> FileRoot:
    """Where paths without a scheme are, and what clients of HDFS must know.

    Spark Connect says what stands in Spark's own configuration, and not what stands in the
    server's ``core-site.xml``.
    """
    if is_connect(spark):
        settings = hadoop.of_connect(spark)
        default = settings.get(hadoop.DEFAULT, "file:///")
        user = "" if _is_disk(default) else str(spark.sql("select current_user()").collect()[0][0])
    else:
        settings = hadoop.of_driver(spark.sparkContext)
        default = settings.get(hadoop.DEFAULT, "file:///")
        user = str(spark.sparkContext.sparkUser())
    return FileRoot.of(default, user=user, directory=os.getcwd(), hadoop=settings)  # noqa: PTH109 - a URI


def _is_disk(uri: str) -> bool:
    return uri.startswith("file:")


def executor_cores(spark: SparkSession) -> int | None:
    """Cores of each executor; None where the configuration does not say."""
    master = spark.conf.get("spark.master", "") or ""
    if master.startswith("local"):
        # A local session may have more slots than its machine has cores.
        cores = local_cores(master)
        return None if cores is None else min(cores, os.cpu_count() or 1)
    configured = spark.conf.get("spark.executor.cores", None)
    return int(configured) if configured else None
