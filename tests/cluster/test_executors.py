"""Executors that differ from the driver: another Python, other packages, GPUs."""

from __future__ import annotations

import json
import stat
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from site_of_processes import Target

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(200),
    pytest.mark.usefixtures("leaves_nothing_here"),
]

# What a rank's Spark task needs, and the packages of these.
TASK_PACKAGES = (
    "pyarrow*", "pandas*", "numpy*", "cloudpickle*", "psutil*", "pytz*", "dateutil*",
    "python_dateutil*", "six*", "tzdata*", "pyspark*", "py4j*",
)  # fmt: skip
REPOSITORY = Path(__file__).parents[2]


def errors_on(target: Target, options: list[dict[str, Any]], *settings: str, **env: str) -> Any:
    """What runs with each of ``options`` answer, in one session."""
    program = target.site.program(
        "expects_error", target.url, json.dumps(options), *settings, **env
    )
    return program.answer(180)["answers"]


def python_without_tensorflow(folder: Path) -> Path:
    """A Python that has what Spark tasks need and nothing else."""
    packages = folder / "packages"
    packages.mkdir()
    for pattern in TASK_PACKAGES:
        for entry in Path(sysconfig.get_path("purelib")).glob(pattern):
            (packages / entry.name).symlink_to(entry)
    (packages / "spark_strategy").symlink_to(REPOSITORY / "spark_strategy")
    python = folder / "python-without-tensorflow"
    # -S leaves site-packages out; Spark puts its own PYTHONPATH in front of this one.
    python.write_text(
        f'#!/bin/sh\nexport PYTHONPATH="$PYTHONPATH:{packages}"\nexec {sys.executable} -S "$@"\n'
    )
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    return python


def test_missing_tensorflow_names_the_python_that_lacks_it(
    local_cluster: Target, tmp_path: Path
) -> None:
    """ExecutorEnvironmentError before TensorFlow is needed: which Python, how to choose another."""
    python = python_without_tensorflow(tmp_path)

    (answer,) = errors_on(local_cluster, [{}], PYSPARK_PYTHON=str(python))

    assert answer["kind"] == "ExecutorEnvironmentError", answer["text"]
    assert "has no tensorflow" in answer["text"]
    assert "PYSPARK_PYTHON" in answer["text"]
    # The interpreter behind the wrapper: what a user would call pip of.
    assert sys.executable in answer["text"]


def test_another_tensorflow_on_the_executors_is_refused(
    local_cluster: Target, tmp_path: Path
) -> None:
    """Functions and models cross between driver and executors: both versions are named."""
    metadata = tmp_path / "tensorflow-9.9.9.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: tensorflow\nVersion: 9.9.9\n")

    (answer,) = errors_on(local_cluster, [{}], f"spark.executorEnv.PYTHONPATH={tmp_path}")

    assert answer["kind"] == "ExecutorEnvironmentError", answer["text"]
    assert "TensorFlow 9.9.9 (the driver has 2." in answer["text"]


def test_gpus_that_tensorflow_does_not_see_are_refused(
    local_cluster: Target, tmp_path: Path
) -> None:
    """Spark assigns the discovery script's addresses; a rank that sees fewer says so clearly.

    With gpus_per_worker=0 the same session hides them, and the run goes on.
    """
    script = tmp_path / "gpus.sh"
    script.write_text('#!/bin/sh\necho \'{"name": "gpu", "addresses": ["4", "7"]}\'\n')
    script.chmod(0o755)
    settings = {
        "spark.worker.resource.gpu.amount": "1",
        "spark.worker.resource.gpu.discoveryScript": str(script),
        "spark.executor.resource.gpu.amount": "1",
        "spark.executor.resource.gpu.discoveryScript": str(script),
        "spark.task.resource.gpu.amount": "1",
    }

    one, unset, none = errors_on(
        local_cluster,
        [{"gpus_per_worker": 1}, {}, {"gpus_per_worker": 0}],
        *(f"{name}={value}" for name, value in settings.items()),
    )

    for answer in (one, unset):
        assert answer["kind"] == "ExecutorEnvironmentError", answer
        assert "Spark assigned 1 GPU(s)" in answer["text"]
        assert "sees 0" in answer["text"]
        assert "CUDA_VISIBLE_DEVICES=4" in answer["text"]
    assert none["values"] == ["", ""]
