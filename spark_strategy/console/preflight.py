"""Whether this machine can start Spark, in one sentence when it can't.

Spark runs on a Java virtual machine that pip does not install. Without it PySpark fails with a
stack trace that names a missing gateway, so the command line and the tests ask here first. What to
run and what its answer means are pure functions; only `java_problem` starts a process.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

MINIMUM_JAVA: Final = 17  # Spark 4 is compiled for it
NEED: Final = f"Spark needs Java {MINIMUM_JAVA} or newer"
ADVICE: Final = f"Install Java {MINIMUM_JAVA} or newer (a JRE is enough); set PATH or JAVA_HOME."
VERSION_TIMEOUT_S: Final = 30.0


def java_command(java_home: str, on_path: str | None) -> str | None:
    """The Java that Spark's launcher would take.

    Args:
        java_home: value of JAVA_HOME; empty when unset.
        on_path: full path of ``java`` on PATH, or None.

    Returns:
        ``$JAVA_HOME/bin/java`` when JAVA_HOME is set, as in Spark's ``bin/spark-class``, else the
        one on PATH, else None.
    """
    return str(Path(java_home) / "bin" / "java") if java_home else on_path


def java_major(version_text: str) -> int | None:
    """Major version in the output of ``java -version``; None when there is none.

    Java 8 and older call themselves 1.8; since Java 9 the first number is the major version.
    """
    match = re.search(r'version "(?:1\.)?(\d+)', version_text)
    return int(match.group(1)) if match else None


def version_problem(command: str, version_text: str) -> str | None:
    """What keeps Spark from using this Java; None when nothing does.

    Args:
        command: path of the Java that was asked.
        version_text: what ``java -version`` printed.
    """
    major = java_major(version_text)
    if major is None:
        return f"{command} does not say which Java it is. {ADVICE}"
    if major < MINIMUM_JAVA:
        return f"{NEED}; {command} is Java {major}. {ADVICE}"
    return None


def java_problem(environ: Mapping[str, str] = os.environ) -> str | None:
    """What keeps Spark from starting on this machine, in one line; None when nothing does.

    Starts ``java -version``, which takes about 0.1 s.

    Args:
        environ: environment whose JAVA_HOME and PATH are used.
    """
    on_path = shutil.which("java", path=environ.get("PATH", ""))
    command = java_command(environ.get("JAVA_HOME", ""), on_path)
    if command is None:
        return f"{NEED} and found none. {ADVICE}"
    try:
        asked = subprocess.run(
            [command, "-version"],
            capture_output=True,
            text=True,
            timeout=VERSION_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{NEED} but {command} does not run ({error}). {ADVICE}"
    return version_problem(command, asked.stderr + asked.stdout)
