"""SparkSession -> Capacity: the only reader of Spark's configuration."""

from __future__ import annotations

import os
import re
import socket
import time
from typing import TYPE_CHECKING, Any, Final

from spark_strategy.data.paths import FileRoot
from spark_strategy.plan import Capacity

if TYPE_CHECKING:
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

# Executors register within seconds of a session's start; a count that stands still is final.
_SETTLE_S: Final = 10.0
_REGISTER_S: Final = 60.0
_POLL_S: Final = 0.25

# What clients of HDFS need to know; no secrets of other filesystems.
_HADOOP: Final = re.compile(r"dfs\.|fs\.defaultFS$|fs\.viewfs\.|ipc\.|hadoop\.security\.auth")
_PREFIX: Final = "spark.hadoop."


def is_connect(spark: SparkSession) -> bool:
    """Whether the session is a Spark Connect client."""
    return type(spark).__module__.startswith("pyspark.sql.connect")


def is_local(context: SparkContext) -> bool:
    """Whether the tasks run inside the driver's own JVM, on its machine and console."""
    return is_local_master(context.master or "")


def is_local_master(master: str) -> bool:
    """The same, by master URL; ``local-cluster`` has processes of its own."""
    return master == "local" or master.startswith("local[")


def read(spark: SparkSession, *, tasks: int) -> Capacity:
    """What the session can host.

    Args:
        spark: classic or Connect.
        tasks: how many are wanted at once; waits up to 60 s for executors to register when
            there seem to be fewer.
    """
    if is_connect(spark):
        return _connect(spark)
    context = spark.sparkContext
    conf = context.getConf()
    return Capacity(
        master=context.master or "",
        slots=_settled_slots(context, tasks),
        task_cpus=int(conf.get("spark.task.cpus", "1") or 1),
        gpus_per_task=float(conf.get("spark.task.resource.gpu.amount", "0") or 0),
        dynamic_allocation=conf.get("spark.dynamicAllocation.enabled", "false") == "true",
    )


def driver_host(spark: SparkSession) -> str:
    """How executors reach this driver; for classic sessions."""
    return spark.sparkContext.getConf().get("spark.driver.host") or socket.getfqdn()


def file_root(spark: SparkSession) -> FileRoot:
    """Where paths without a scheme are.

    Spark Connect says what stands in Spark's own configuration, and not what stands in the
    server's ``core-site.xml``.
    """
    if is_connect(spark):
        default = spark.conf.get(f"{_PREFIX}fs.defaultFS", None) or "file:///"
        settings: dict[str, str] = {}
        user = "" if _is_disk(default) else str(spark.sql("select current_user()").collect()[0][0])
    else:
        context = spark.sparkContext
        hadoop = context._jsc.hadoopConfiguration()  # noqa: SLF001 - PySpark offers no other way
        default = hadoop.get("fs.defaultFS") or "file:///"
        named = ((key.removeprefix(_PREFIX), value) for key, value in context.getConf().getAll())
        settings = {key: value for key, value in named if _HADOOP.match(key)}
        user = str(context.sparkUser())
    return FileRoot.of(default, user=user, directory=os.getcwd(), hadoop=settings)  # noqa: PTH109 - a URI


def _is_disk(uri: str) -> bool:
    return uri.startswith("file:")


def executor_cores(spark: SparkSession) -> int | None:
    """Cores of each executor; None where the configuration does not say."""
    master = spark.conf.get("spark.master", "") or ""
    if found := re.match(r"local(?:-cluster)?\[(?:\d+,)?(\d+)", master):
        # A local session may have more slots than its machine has cores.
        return min(int(found[1]), os.cpu_count() or 1)
    if master == "local":
        return 1
    cores = spark.conf.get("spark.executor.cores", None)
    return int(cores) if cores else None


def _connect(spark: SparkSession) -> Capacity:
    def setting(name: str, default: str) -> str:
        return spark.conf.get(name, default) or default

    return Capacity(
        master=setting("spark.master", "sc://"),
        slots=None,
        task_cpus=int(setting("spark.task.cpus", "1")),
        gpus_per_task=float(setting("spark.task.resource.gpu.amount", "0")),
        dynamic_allocation=setting("spark.dynamicAllocation.enabled", "false") == "true",
        connect=True,
    )


def _settled_slots(context: Any, tasks: int) -> int:
    """The slots, once they suffice or stand still."""
    slots = _slots(context)
    if is_local(context):
        return slots
    deadline = time.monotonic() + _REGISTER_S
    still_since = time.monotonic()
    while slots < tasks and time.monotonic() < deadline:
        time.sleep(_POLL_S)
        now = _slots(context)
        if now != slots:
            slots, still_since = now, time.monotonic()
        elif slots and time.monotonic() - still_since > _SETTLE_S:
            break
    return slots


def slots(spark: SparkSession) -> int:
    """Tasks that can run at once over the executors there are now; for classic sessions."""
    return _slots(spark.sparkContext)


def _slots(context: Any) -> int:
    """What Spark itself checks a barrier stage against (``DAGScheduler``, SPARK-24819)."""
    scala = context._jsc.sc()  # noqa: SLF001 - PySpark offers no public way to ask
    profile = scala.resourceProfileManager().defaultResourceProfile()
    return int(scala.maxNumConcurrentTasks(profile))
