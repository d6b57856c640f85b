"""Lists TFRecord files, and reads the names of their folders."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final

from spark_strategy.errors import PlanError
from spark_strategy.tfrecord.files import NULL_PARTITION, File, Place
from spark_strategy.tfrecord.partitions import unescaped

_MODIFIED: Final = ("mtime", "modification_time", "LastModified", "last_modified", "updated")
_GLOB: Final = re.compile(r"[*?\[{]")
_CHOICE: Final = re.compile(r"\{([^{}]*)\}")
# HDFS counts milliseconds, the others seconds: as seconds this is the year 5138.
_MILLISECONDS: Final = 1e11


@dataclass(frozen=True, slots=True)
class Listing:
    """Which of the files below a path are read.

    Attributes:
        ignores_folders: ``recursiveFileLookup``: folders give no columns.
        name: ``pathGlobFilter``: what the names of files must match; empty for any.
        after: ``modifiedAfter``: seconds since 1970; None for any.
        before: ``modifiedBefore``: as ``after``.
        base: ``basePath``: the folder below which the names of folders give columns; None for
            the path itself.
    """

    ignores_folders: bool = False
    name: str = ""
    after: float | None = None
    before: float | None = None
    base: Place | None = None

    def takes(self, file: File) -> bool:
        """Whether a file is one of them.

        Raises:
            PlanError: its time matters, and its filesystem tells none.
        """
        name = file.path.rpartition("/")[2]
        if self.name and not any(fnmatchcase(name, one) for one in _choices(self.name)):
            return False
        if self.after is None and self.before is None:
            return True
        if not file.modified:
            raise PlanError(
                f"The filesystem of {file.path} does not say when files were changed, so that "
                "modifiedAfter and modifiedBefore cannot be answered."
            )
        return (self.after is None or file.modified > self.after) and (
            self.before is None or file.modified < self.before
        )


def find_files(
    places: Sequence[Place], listing: Listing | None = None, *, must_exist: bool = True
) -> list[File]:
    """All files below these paths, by name; hidden ones (``_`` or ``.`` in front) left out.

    Args:
        places: the paths; each may be a file, a folder or a pattern.
        listing: which of the files.
        must_exist: whether a path that is not there is refused.

    Raises:
        PlanError: a path is not there, or cannot be listed.
    """
    wanted = listing or Listing()
    found: dict[str, File] = {}
    for place in places:
        try:
            roots = _roots(place)
            if not roots and must_exist:
                raise PlanError(f"{place.url} does not exist, or no file matches it.")
            for file in _below(place, roots, wanted):
                if wanted.takes(file):
                    found[file.url] = file
        except OSError as error:
            raise PlanError(f"{place.url} cannot be listed: {error}") from error
    return [found[url] for url in sorted(found)]


def _roots(place: Place) -> list[str]:
    """The files and folders that a path means; none where it is not there."""
    filesystem, path = place.filesystem, place.path
    if filesystem.exists(path):
        return [path]
    if not _GLOB.search(path):
        return []
    return sorted({str(name) for one in _choices(path) for name in filesystem.glob(one)})


def _below(place: Place, roots: Sequence[str], listing: Listing) -> Iterator[File]:
    filesystem = place.filesystem
    for root in roots:
        above = _above(root, listing)
        if filesystem.isfile(root):
            yield _file(place, filesystem.info(root), _partition(above[:-1]))
            continue
        for name, info in filesystem.find(root, detail=True).items():
            parts = str(name)[len(root.rstrip("/")) + 1 :].split("/")
            if not _is_hidden_file(parts[-1]) and not any(map(_is_hidden_folder, parts[:-1])):
                folders = () if listing.ignores_folders else (*above, *parts[:-1])
                yield _file(place, info, _partition(folders))


def _above(root: str, listing: Listing) -> list[str]:
    """The folders between ``basePath`` and a path.

    Raises:
        PlanError: the path is not below it.
    """
    if listing.base is None:
        return []
    base = listing.base.path.rstrip("/")
    if root.rstrip("/") != base and not root.startswith(f"{base}/"):
        raise PlanError(f"basePath={listing.base.url!r} is not above the path {root}.")
    return [part for part in root[len(base) :].split("/") if part]


def _is_hidden_file(name: str) -> bool:
    return name.startswith((".", "_")) or name.endswith("._COPYING_")


def _is_hidden_folder(name: str) -> bool:
    # A column may be called .p or _p. Spark's own sources do not find the first again.
    return name.startswith((".", "_")) and "=" not in name


def _partition(folders: Sequence[str]) -> dict[str, str | None]:
    pairs = (folder.partition("=") for folder in folders if "=" in folder)
    return {
        unescaped(name): None if value == NULL_PARTITION else unescaped(value)
        for name, _, value in pairs
    }


def _file(place: Place, info: Mapping[str, Any], partition: Mapping[str, str | None]) -> File:
    modified = next((info[key] for key in _MODIFIED if info.get(key) is not None), 0)
    if hasattr(modified, "timestamp"):
        modified = modified.timestamp()
    seconds = float(modified) / 1000 if float(modified) > _MILLISECONDS else float(modified)
    return File(str(info["name"]), int(info["size"] or 0), seconds, partition, place)


def _choices(pattern: str) -> Iterator[str]:
    """A pattern without braces, once for each of their choices: ``{a,b}`` is Hadoop's."""
    match = _CHOICE.search(pattern)
    if match is None:
        yield pattern
        return
    for choice in match[1].split(","):
        yield from _choices(pattern[: match.start()] + choice + pattern[match.end() :])
