"""The convention of all benchmarks: one JSON object as the last line, ``--check`` to judge it."""

from __future__ import annotations

import argparse
import atexit
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any


def arguments(description: str, **counts: int) -> argparse.Namespace:
    """The command line: ``--check``, and a number for each of ``counts``."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--check", action="store_true", help="exit 1 when the target is missed")
    for name, default in counts.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default}")
    return parser.parse_args()


def finish(name: str, *, ratio: float, target: str, met: bool, check: bool, **figures: Any) -> None:
    """Print the figures and leave: with 1 when ``check`` and the target is missed.

    Args:
        name: the benchmark's name.
        ratio: what the target speaks of.
        target: the target in words.
        met: whether ``ratio`` meets it.
        check: ``--check`` was given.
        figures: what ``ratio`` was computed from.
    """
    found = {"name": name, "ratio": round(ratio, 4), "target": target, "met": met, **figures}
    # Spark's last words and its progress bar end before the line that is read.
    sys.stderr.flush()
    print(json.dumps(found), flush=True)
    sys.exit(1 if check and not met else 0)


def progress(text: str) -> None:
    """One line for whoever watches, on standard error."""
    print(f"[{Path(sys.argv[0]).name}] {text}", file=sys.stderr, flush=True)


def quiet_spark(master: str, **settings: str) -> Any:
    """A session on ``master`` whose tasks run this Python, without console noise."""
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if master.startswith("local-cluster"):
        _own_spark_home()
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master(master).config("spark.ui.enabled", "false")
    builder = builder.config("spark.ui.showConsoleProgress", "false")
    for key, value in settings.items():
        builder = builder.config(key.replace("_", "."), value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("OFF")
    return session


def _own_spark_home() -> None:
    """local-cluster keeps its executors' folders below SPARK_HOME: not in site-packages."""
    import pyspark

    folder = tempfile.mkdtemp(prefix="spark-home-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for entry in Path(pyspark.__file__).parent.iterdir():
        if entry.name != "work":
            Path(folder, entry.name).symlink_to(entry)
    os.environ["SPARK_HOME"] = folder
