"""The driver's Hadoop configuration -> what clients of HDFS in the ranks must know, and no secrets.

The executors of a cluster need no ``HADOOP_CONF_DIR`` for Spark's own reads: the driver sends its
configuration along. What reads HDFS in a rank is no JVM, and is told here the name services and
their NameNodes, how to fail over, principals and mount tables.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

DEFAULT: Final = "fs.defaultFS"
_PREFIX: Final = "spark.hadoop."

# Only what a client asks for by name: hdfs-default.xml and core-default.xml.
_SENT: Final = re.compile(
    r"fs\.defaultFS|fs\.viewfs\..+"
    r"|dfs\.(nameservices|ha\.namenodes\..+|namenode\.(rpc-address|kerberos\.principal).*"
    r"|client\..+|user\.home\.dir\.prefix|replication|blocksize|bytes-per-checksum"
    r"|checksum\..+|data\.transfer\..+|encrypt\.data\.transfer.*)"
    r"|ipc\.client\..+|hadoop\.rpc\.protection|hadoop\.security\.authentication"
)
# Whatever the key says else. A mount table may link to a URI with a password in it.
_SECRET_KEY: Final = re.compile(
    r"passw|secret|token|keytab|keystore|credential|\.key\b", re.IGNORECASE
)
_SECRET_VALUE: Final = re.compile(r"://[^/@]*@")


def shareable(settings: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The settings that clients of HDFS need, without any that could hold a secret."""
    return {
        key: value
        for key, value in settings
        if _SENT.fullmatch(key) and not _SECRET_KEY.search(key) and not _SECRET_VALUE.search(value)
    }


def of_driver(context: SparkContext) -> dict[str, str]:
    """What the driver's JVM knows, its XML files and the session's ``spark.hadoop.*`` together."""
    jvm: Any = context._jvm  # noqa: SLF001 - PySpark offers no other way
    jvm.org.apache.hadoop.hdfs.HdfsConfiguration.init()  # else hdfs-site.xml is not read yet
    text = jvm.java.io.StringWriter()
    configuration = context._jsc.hadoopConfiguration()  # noqa: SLF001
    # One call for all: its entries one by one take a call each, and there are more than a thousand.
    jvm.org.apache.hadoop.conf.Configuration.dumpConfiguration(configuration, text)
    properties = json.loads(text.toString())["properties"]
    return shareable(
        (one["key"], one["value"])
        for one in properties
        # A client has the same defaults itself, and a newer one better ones.
        if not str(one["resource"]).endswith("-default.xml") or one["key"] == DEFAULT
    )


def of_connect(spark: SparkSession) -> dict[str, str]:
    """What stands in the configuration of a Spark Connect server's session."""
    known: dict[str, str] = spark.conf.getAll
    named = ((key.removeprefix(_PREFIX), value) for key, value in known.items() if _PREFIX in key)
    return shareable(named)
