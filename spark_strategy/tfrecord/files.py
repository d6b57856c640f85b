"""Where TFRecord files are."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final, cast
from xml.etree import ElementTree as ET

import fsspec

from spark_strategy.data.paths import FileRoot
from spark_strategy.errors import PlanError

NULL_PARTITION: Final = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True, slots=True)
class Place:
    """A path on a filesystem that fsspec knows.

    Attributes:
        url: absolute, with its scheme.
        storage: fsspec's options for the filesystem.
    """

    url: str
    storage: Mapping[str, Any] = field(repr=False)

    @property
    def filesystem(self) -> fsspec.AbstractFileSystem:
        """The filesystem, without what it remembers of listings."""
        found = self._open()[0]
        found.invalidate_cache()  # others write here too
        return found

    @property
    def path(self) -> str:
        """The path as the filesystem names it."""
        return str(self._open()[1])

    def _open(self) -> tuple[fsspec.AbstractFileSystem, str]:
        try:
            found: tuple[fsspec.AbstractFileSystem, str] = fsspec.core.url_to_fs(
                self.url, **self.storage
            )
        except (ImportError, ValueError) as error:
            scheme = self.url.partition(":")[0]
            advice = "pip install hdfs-native" if scheme in ("hdfs", "viewfs") else "see fsspec"
            raise PlanError(
                f"{self.url} needs an fsspec filesystem for {scheme}://, which Spark's Python does "
                f"not have ({advice}): {error}"
            ) from error
        return found


@dataclass(frozen=True, slots=True)
class File:
    """A file of records.

    Attributes:
        path: as its filesystem names it.
        size: bytes.
        modified: seconds since 1970; 0 where its filesystem does not say.
        partition: the values that the names of its folders give, by column; None for null.
        place: the path that it was found below, with the filesystem that it is on.
    """

    path: str
    size: int
    modified: float
    partition: Mapping[str, str | None]
    place: Place

    @property
    def url(self) -> str:
        """A name that no other file has, on whichever filesystem."""
        scheme, _, rest = self.place.url.partition("://")
        authority, path = rest.partition("/")[0], self.path.lstrip("/")
        if not authority or path.partition("/")[0] == authority:
            return f"{scheme}://{self.path}"
        return f"{scheme}://{authority}/{path}"

    def open(self) -> BinaryIO:
        """The file, to be read."""
        return cast(BinaryIO, self.place.filesystem.open(self.path, "rb"))


def file_root_here(default: str = "") -> FileRoot:
    """Where paths without a scheme are, as this process alone knows it.

    Args:
        default: ``fs.defaultFS``; else that of the Hadoop configuration that is found here.
    """
    user = os.environ.get("HADOOP_USER_NAME") or os.environ.get("USER") or "root"
    return FileRoot.of(default or _default_filesystem(), user=user, directory=str(Path.cwd()))


def _default_filesystem() -> str:
    folder = os.environ.get("HADOOP_CONF_DIR")
    if folder is None and "HADOOP_HOME" in os.environ:
        folder = str(Path(os.environ["HADOOP_HOME"], "etc", "hadoop"))
    site = Path(folder or "", "core-site.xml")
    if folder is not None and site.is_file():
        # Written by whoever runs the cluster, like the program itself.
        for entry in ET.parse(site).getroot().iter("property"):  # noqa: S314
            if entry.findtext("name") == "fs.defaultFS":
                return entry.findtext("value") or "file:///"
    return "file:///"


def paths_of(options: Mapping[str, str]) -> list[str]:
    """The paths that ``load`` was given: one, or a list.

    Raises:
        PlanError: it was given none.
    """
    if "paths" in options:
        found = json.loads(options["paths"])
    else:
        found = [options["path"]] if "path" in options else []
    if not found:
        raise PlanError("format('tfrecord') needs a path: load(path), or save(path).")
    return [str(path) for path in found]
