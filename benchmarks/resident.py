"""Resident memory of a Spark session: its JVM, its Python workers, its model servers.

The proportional size (PSS) of JVM and workers: a page that several of them share counts once. Of a
model server the whole resident size (RSS): here the driver's Python shares TensorFlow's code with
it, and an executor has no driver.
"""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType
from typing import Final

import psutil

_EVERY_S: Final = 0.1


class Watch:
    """Samples until it is left.

    Args:
        root: the session's ``SparkFiles.getRootDirectory()``, in which its model servers live.

    Attributes:
        peak: bytes by kind ("jvm", "python", "server") of the sample with the largest sum.
        rss: the largest sum of resident sizes, in which shared pages count several times.
        servers: model servers in that sample.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self.peak: dict[str, int] = {}
        self.rss = 0
        self.servers = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(_EVERY_S):
            found = dict.fromkeys(("jvm", "python", "server"), 0)
            rss = servers = 0
            # A model server is no descendant of Spark's.
            below = psutil.Process().children(recursive=True)
            for process in {*below, *psutil.process_iter()}:
                kind = self._kind(process, is_below=process in below)
                if kind:
                    whole, share = _sizes(process.pid)
                    found[kind] += whole if kind == "server" else share
                    rss += whole
                    servers += kind == "server"
            self.rss = max(self.rss, rss)
            if sum(found.values()) > sum(self.peak.values()):
                self.peak, self.servers = found, servers

    def _kind(self, process: psutil.Process, *, is_below: bool) -> str:
        """What a process is; empty if it is none of the session's."""
        try:
            command = process.cmdline()
        except psutil.Error:
            return ""
        if "spark_strategy.worker.serve" in command and self._root in " ".join(command):
            return "server"
        if not is_below or not command:
            return ""
        return "jvm" if Path(command[0]).name == "java" else "python"


def _sizes(pid: int) -> tuple[int, int]:
    """Resident bytes, and those of which shared ones count as a share."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0, 0
    sizes = {line.split()[0]: int(line.split()[1]) * 1024 for line in lines[1:]}
    return sizes["Rss:"], sizes["Pss:"]
