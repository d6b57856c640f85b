"""A real HDFS on loopback: a NameNode and two DataNodes, each a process of Hadoop's own.

By hand: ``python tests/cluster/hdfs.py FOLDER`` starts one, prints its URI and runs until Ctrl+C.

PySpark brings Hadoop's client; the daemons come from Maven Central's hadoop-client-minicluster
(56 MB), which is kept below ``~/.cache`` (XDG_CACHE_HOME) and checked against its SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from urllib.request import urlopen

import pyspark

sys.path.insert(0, str(Path(__file__).parent))

from site_of_processes import Program, free_ports, wait_until

VERSION = "3.5.0"
JAR = f"hadoop-client-minicluster-{VERSION}.jar"
URL = f"https://repo1.maven.org/maven2/org/apache/hadoop/hadoop-client-minicluster/{VERSION}/{JAR}"
SHA256 = "06772d24529e59939915979b3edba204d367750ef7dc5120411f35221dd4818c"
NAMENODE = "org.apache.hadoop.hdfs.server.namenode.NameNode"
DATANODE = "org.apache.hadoop.hdfs.server.datanode.DataNode"
START_S = 90.0


def daemons_jar() -> Path:
    """The jar with the daemons, downloaded once."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spark_strategy"
    jar = cache / JAR
    if not jar.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        with urlopen(URL, timeout=120) as answer:
            content = answer.read()
        found = hashlib.sha256(content).hexdigest()
        assert found == SHA256, f"{URL} has SHA-256 {found}, not {SHA256}"
        with tempfile.NamedTemporaryFile(dir=cache, delete=False) as beside:
            beside.write(content)
        Path(beside.name).replace(jar)
    return jar


def configuration(**settings: object) -> str:
    """A Hadoop configuration file."""
    named = (
        f"<property><name>{key.replace('_', '.')}</name><value>{value}</value></property>"
        for key, value in settings.items()
    )
    return f"<configuration>{''.join(named)}</configuration>"


class Hdfs:
    """NameNode and DataNodes below one folder.

    Args:
        root: an empty folder.

    Attributes:
        uri: ``hdfs://127.0.0.1:port``.
        conf: a folder with core-site.xml, for HADOOP_CONF_DIR.
        datanodes: their processes.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        port, self._web = free_ports(2)
        self.uri = f"hdfs://127.0.0.1:{port}"
        self.conf = self._configure(
            "namenode",
            **{
                "dfs_namenode_name_dir": root / "name",
                "dfs_namenode_http-address": f"127.0.0.1:{self._web}",
                "dfs_replication": 2,
                "dfs_namenode_fs-limits_min-block-size": 1024,
            },
        )
        formatted = self._java("format", "namenode", NAMENODE, "-format", "-nonInteractive")
        assert formatted.ends(START_S) == 0, formatted.tail()
        self.namenode = self._java("namenode", "namenode", NAMENODE)
        self.datanodes: list[Program] = []
        for name in ("datanode1", "datanode2"):
            self._configure(
                name,
                dfs_datanode_data_dir=root / name / "data",
                dfs_datanode_address="127.0.0.1:0",
                dfs_datanode_ipc_address="127.0.0.1:0",
                dfs_datanode_http_address="127.0.0.1:0",
                dfs_datanode_hostname="127.0.0.1",
            )
            self.datanodes.append(self._java(name, name, DATANODE))
        try:
            wait_until(lambda: self._live() == len(self.datanodes), START_S, "two DataNodes live")
        except AssertionError:
            self.close()
            raise

    def close(self) -> None:
        """End all of it."""
        for program in (*self.datanodes, self.namenode):
            if program.process.poll() is None:
                program.process.send_signal(signal.SIGKILL)
            program.process.wait(20)

    def _configure(self, name: str, **settings: object) -> Path:
        conf = self._root / name / "conf"
        conf.mkdir(parents=True)
        (conf / "core-site.xml").write_text(configuration(fs_defaultFS=self.uri))
        (conf / "hdfs-site.xml").write_text(configuration(**settings))
        return conf

    def _java(self, log: str, conf: str, *arguments: str) -> Program:
        jars = Path(str(pyspark.__file__)).parent / "jars"
        clients = [jars / f"hadoop-client-{part}-{VERSION}.jar" for part in ("api", "runtime")]
        for jar in clients:
            assert jar.is_file(), f"PySpark {pyspark.__version__} has no {jar.name}: set VERSION"
        path = [self._root / conf / "conf", daemons_jar(), *clients, jars / "*"]
        command = ["java", "-Xmx256m", "-cp", ":".join(map(str, path)), *arguments]
        return Program(command, os.environ, self._root / log)

    def _live(self) -> int:
        for program in (self.namenode, *self.datanodes):
            assert program.process.poll() is None, program.tail()
        query = "jmx?qry=Hadoop:service=NameNode,name=FSNamesystemState"
        try:
            with urlopen(f"http://127.0.0.1:{self._web}/{query}", timeout=5) as answer:
                beans = json.load(answer)["beans"]
        except OSError:
            return 0
        # None as long as the NameNode reads its files.
        return int(beans[0]["NumLiveDataNodes"]) if beans else 0


def main() -> None:
    """Start one and wait."""
    hdfs = Hdfs(Path(sys.argv[1]))
    try:
        print(hdfs.uri, flush=True)
        signal.pause()
    finally:
        hdfs.close()


if __name__ == "__main__":
    main()
