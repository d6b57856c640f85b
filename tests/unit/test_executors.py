"""What an executor has: its versions, its GPUs, its environment."""

from __future__ import annotations

import subprocess
import sys

import pytest

from spark_strategy.errors import ExecutorEnvironmentError
from spark_strategy.outcome import Reason
from spark_strategy.spark import gpus
from spark_strategy.spark.child import environment, explain_exit
from spark_strategy.spark.environment import Versions, objection

DRIVER = Versions("3.11.7", "2.21.0", "3.15.1")


def test_patch_releases_may_differ() -> None:
    """Functions and models cross between patch releases."""
    assert objection(DRIVER, Versions("3.11.9", "2.21.1", "3.15.0")) == ""


@pytest.mark.parametrize(
    ("here", "text"),
    [
        (Versions("3.12.1", "2.21.0", "3.15.1"), "Python 3.12.1 (the driver has 3.11.7)"),
        (Versions("3.11.7", "2.20.0", "3.15.1"), "TensorFlow 2.20.0 (the driver has 2.21.0)"),
        (Versions("3.11.7", "2.21.0", "3.14.0"), "Keras 3.14.0 (the driver has 3.15.1)"),
        (Versions("3.11.7", "", ""), "has no tensorflow"),
    ],
)
def test_differing_minor_versions_are_objected_to(here: Versions, text: str) -> None:
    """Both versions, the Python that was used, and how to choose another."""
    found = objection(DRIVER, here, "/opt/py/bin/python")

    assert text in found
    assert "/opt/py/bin/python" in found
    assert "PYSPARK_PYTHON" in found


def test_a_driver_without_tensorflow_has_no_say_about_it() -> None:
    """A thin Spark Connect client."""
    assert objection(Versions("3.11.7", "", ""), DRIVER) == ""


def test_gpus_are_what_spark_assigned() -> None:
    """None leaves TensorFlow alone, 0 hides all, a number takes that many."""
    assert gpus.assigned({}, None) is None
    assert gpus.assigned({"gpu": ["3"]}, None) == ("3",)
    assert gpus.assigned({"gpu": ["3"]}, 0) == ()
    assert gpus.assigned({"gpu": ["3", "5"]}, 1) == ("3",)
    with pytest.raises(ExecutorEnvironmentError, match="gpus_per_worker=2, but Spark assigned 1"):
        gpus.assigned({"gpu": ["3"]}, 2)
    assert gpus.environment(None) == {}
    assert gpus.environment(()) == {"CUDA_VISIBLE_DEVICES": ""}
    assert gpus.environment(("3", "5")) == {"CUDA_VISIBLE_DEVICES": "3,5"}


def test_threads_follow_the_tasks_cpus_unless_set_otherwise() -> None:
    """Spark's secrets are not passed on; the caller's settings win."""
    base = {"OMP_NUM_THREADS": "9", "PYTHON_WORKER_FACTORY_SECRET": "s", "HOME": "/h"}

    env = environment(base, python_path=["/a", "/b"], cpus=4, settings={"X": "1"})

    assert env["TF_NUM_INTRAOP_THREADS"] == "4"
    assert env["OMP_NUM_THREADS"] == "9"
    assert env["PYTHONPATH"] == "/a:/b"
    assert env["TF_GRPC_REUSE_PORT"] == "true"
    assert env["X"] == "1"
    assert "PYTHON_WORKER_FACTORY_SECRET" not in env


@pytest.mark.parametrize(
    ("code", "reason", "text"),
    [
        (3, Reason.EXITED, "exit code 3"),
        (-9, Reason.KILLED, "SIGKILL"),
        (-11, Reason.CRASHED, "SIGSEGV"),
        (-6, Reason.CRASHED, "SIGABRT"),
        (-15, Reason.EXITED, "SIGTERM"),
    ],
)
def test_an_exit_code_is_explained(code: int, reason: Reason, text: str) -> None:
    """Signals by name."""
    found, message = explain_exit(code)

    assert found is reason
    assert text in message


def test_a_crash_below_a_limit_of_address_space_names_the_limit() -> None:
    """TensorFlow aborts where it gets no memory; no library is at fault."""
    program = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 31, 1 << 31));"
        "from spark_strategy.spark.child import address_space_note, explain_exit;"
        "print(explain_exit(-6, address_space_note())[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )

    assert done.stdout.startswith("crashed in native code (SIGABRT); its address space is limited")
    assert "2,048 MiB (RLIMIT_AS, which spark.executor.pyspark.memory sets)" in done.stdout
