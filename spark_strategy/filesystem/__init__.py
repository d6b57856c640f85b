"""fsspec's filesystems inside TensorFlow: ``hdfs://``, ``s3://``, ``abfs://`` and others.

    import spark_strategy.filesystem

    spark_strategy.filesystem.register("hdfs", "s3")
    tf.data.TFRecordDataset("hdfs://namenode/data/part-00000")

The processes of a run have :data:`SCHEMES` without asking.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, Final

from spark_strategy.errors import ExecutorEnvironmentError, PlanError

__all__ = ["SCHEMES", "register", "register_all"]

# Served in every process of a run. What implements a scheme is imported when it is first used; if
# it is not installed, the error says which package is missing.
SCHEMES: Final = (
    "hdfs",
    "viewfs",
    "webhdfs",
    "s3",
    "s3a",
    "abfs",
    "abfss",
    "az",
    "oss",
    "oci",
    "sftp",
    "smb",
    "http",
    "https",
)

# Those that Hadoop's settings are for.
_HADOOPS: Final = ("hdfs", "viewfs")
# TensorFlow's own.
_NATIVE: Final = ("file", "gs", "ram", "")
_NAME: Final = re.compile(r"[a-z][a-z0-9+.-]*")


def register(
    *schemes: str,
    protocol: str | None = None,
    options: Mapping[str, Any] | None = None,
    timeout_s: float | None = None,
) -> None:
    """Let TensorFlow read and write the paths of these schemes, by fsspec. Imports TensorFlow.

    Again for the same scheme: the new settings count from then on.

    Args:
        schemes: such as "hdfs".
        protocol: fsspec's name of the implementation, where it is not the scheme's.
        options: the implementation's storage options, such as ``{"anon": True}`` for s3.
        timeout_s: seconds after which a request has failed; by default 60.

    Raises:
        PlanError: a scheme is TensorFlow's own, or no scheme at all.
        ExecutorEnvironmentError: the library was installed without its compiled part.
    """
    from spark_strategy.filesystem.places import TIMEOUT_S, Scheme

    for name in schemes:
        if name in _NATIVE or not _NAME.fullmatch(name):
            raise PlanError(
                f"register({name!r}): a scheme is a name such as 'hdfs' or 's3', and not one that "
                "TensorFlow serves itself (file, gs, ram)."
            )
    if timeout_s is not None and not timeout_s > 0:
        raise PlanError(f"timeout_s is a number of seconds above 0, found {timeout_s!r}.")
    _plugin().serve(
        [
            Scheme(name, protocol or name, dict(options or {}), timeout_s or TIMEOUT_S)
            for name in schemes
        ]
    )


def register_all(hadoop: Mapping[str, str] | None = None) -> None:
    """Register all of :data:`SCHEMES`. Takes milliseconds, as nothing else is imported.

    Args:
        hadoop: settings that go above those of the machine's ``core-site.xml`` and
            ``hdfs-site.xml``, for ``hdfs`` and ``viewfs``.

    Raises:
        ExecutorEnvironmentError: as for :func:`register`.
    """
    _register(SCHEMES, hadoop)


def register_missing(hadoop: Mapping[str, str] | None = None) -> None:
    """Register those of :data:`SCHEMES` that this process does not serve yet.

    The others may have been registered with options of their own.

    Args:
        hadoop: as for :func:`register_all`.

    Raises:
        ExecutorEnvironmentError: as for :func:`register`.
    """
    served = _plugin().filesystems().names
    _register([name for name in SCHEMES if name not in served], hadoop)


def _register(names: Sequence[str], hadoop: Mapping[str, str] | None) -> None:
    register(*(name for name in names if name not in _HADOOPS))
    register(*(name for name in names if name in _HADOOPS), options=hadoop)


def _plugin() -> ModuleType:
    try:
        from spark_strategy.filesystem import plugin
    except ImportError as error:
        raise ExecutorEnvironmentError(
            "This installation of spark_strategy has no compiled filesystem bridge "
            f"({error}), so TensorFlow cannot read hdfs://, s3:// and the like. Install a C "
            "compiler (gcc) and Python's headers, then: pip install --force-reinstall --no-deps "
            "spark-strategy. In a checkout: python setup.py build_ext --inplace."
        ) from error
    return plugin
