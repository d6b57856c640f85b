"""Which Python and which packages a process has, found without importing them."""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Versions:
    """Versions of what must agree between driver and executors; empty where absent."""

    python: str
    tensorflow: str
    keras: str

    @classmethod
    def here(cls) -> Versions:
        """This process's."""
        return cls(platform.python_version(), _version("tensorflow"), _version("keras"))


def import_path() -> tuple[str, ...]:
    """The folders that this process imports from, the current one by its name."""
    return tuple(folder or str(Path.cwd()) for folder in sys.path)


def objection(driver: Versions, here: Versions, executable: str = sys.executable) -> str:
    """Why a rank with ``here`` cannot serve a driver with ``driver``; empty if it can.

    Functions and models cross between the two, so minor versions must agree. A driver
    without TensorFlow or Keras (a thin Spark Connect client) has no say about them.
    """
    how = (
        f"Its Python is {executable}; executors take another from spark.pyspark.python or "
        "PYSPARK_PYTHON, set before the session starts."
    )
    if not here.tensorflow:
        return f"has no tensorflow. {how} Then: {executable} -m pip install tensorflow"
    pairs = {
        "Python": (driver.python, here.python),
        "TensorFlow": (driver.tensorflow, here.tensorflow),
        "Keras": (driver.keras, here.keras),
    }
    differing = [
        f"{name} {theirs} (the driver has {ours})"
        for name, (ours, theirs) in pairs.items()
        if ours and _minor(ours) != _minor(theirs)
    ]
    return f"has {' and '.join(differing)}. {how}" if differing else ""


def _minor(text: str) -> list[str]:
    return text.split(".")[:2]


def _version(package: str) -> str:
    # The wheel has been published under several names; all provide the same module.
    names = (
        [package, f"{package}-cpu", f"{package}-intel"] if package == "tensorflow" else [package]
    )
    for name in names:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return ""
