"""Finds TFRecord files, wherever they are."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote
from xml.etree import ElementTree as ET

import fsspec

from spark_strategy.data.paths import FileRoot
from spark_strategy.errors import PlanError

NULL_PARTITION: Final = "__HIVE_DEFAULT_PARTITION__"
_MODIFIED: Final = ("mtime", "modification_time", "LastModified", "last_modified", "updated")


@dataclass(frozen=True, slots=True)
class File:
    """A file of records.

    Attributes:
        path: as its filesystem names it.
        size: bytes.
        modified: as its filesystem has it; 0 where it has none.
        partition: the values that the names of its folders give, by column; None for null.
    """

    path: str
    size: int
    modified: float
    partition: Mapping[str, str | None]


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


def find_files(places: Sequence[Place]) -> list[File]:
    """All files below these paths, by name; hidden ones (``_`` or ``.`` in front) left out.

    Raises:
        PlanError: a path is not there.
    """
    found: dict[str, File] = {}
    for place in places:
        try:
            found.update((file.path, file) for file in _below(place))
        except OSError as error:
            raise PlanError(f"{place.url} cannot be listed: {error}") from error
    return [found[path] for path in sorted(found)]


def _below(place: Place) -> Iterator[File]:
    filesystem, path = place.filesystem, place.path
    roots = [path]
    if any(mark in path for mark in "*?["):
        roots = sorted(str(name) for name in filesystem.glob(path))
    if not roots or not filesystem.exists(roots[0]):
        raise PlanError(f"{place.url} does not exist, or no file matches it.")
    for root in roots:
        if filesystem.isfile(root):
            yield _file(filesystem.info(root), {})
            continue
        for name, info in filesystem.find(root, detail=True).items():
            parts = str(name)[len(root.rstrip("/")) + 1 :].split("/")
            if not any(_is_hidden(part) for part in parts):
                yield _file(info, _partition(parts[:-1]))


def _is_hidden(part: str) -> bool:
    return part.startswith(".") or (part.startswith("_") and "=" not in part)


def _partition(folders: Sequence[str]) -> dict[str, str | None]:
    pairs = (folder.partition("=") for folder in folders if "=" in folder)
    return {
        unquote(name): None if value == NULL_PARTITION else unquote(value)
        for name, _, value in pairs
    }


def _file(info: Mapping[str, Any], partition: Mapping[str, str | None]) -> File:
    modified = next((info[key] for key in _MODIFIED if info.get(key) is not None), 0)
    if hasattr(modified, "timestamp"):
        modified = modified.timestamp()
    return File(str(info["name"]), int(info["size"] or 0), float(modified), partition)
