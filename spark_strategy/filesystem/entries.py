"""Names in a filesystem: look, list, match, make, move, remove."""

from __future__ import annotations

import posixpath
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from spark_strategy.filesystem.places import Filesystems, Place

_COPY_BYTES: Final = 4 << 20
_MAGIC: Final = re.compile(r"[*?\[\\]")
_PIECES: Final = re.compile(r"\\.|\[[!^]?\]?[^\]]*\]|.", re.DOTALL)
# What implementations call the time of the last change.
_CHANGED: Final = ("mtime", "modification_time", "LastModified", "last_modified", "updated")


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or directory.

    Attributes:
        size_bytes: 0 for a directory.
        changed_ns: nanoseconds since the epoch; 0 where unknown.
        is_directory: what it is.
    """

    size_bytes: int
    changed_ns: int
    is_directory: bool


def look(place: Place) -> Entry:
    """What is there.

    Raises:
        FileNotFoundError: nothing.
    """
    place.fs.invalidate_cache(place.path)
    return entry_of(place.fs.info(place.path))


def look_for_directory(place: Place) -> None:
    """Nothing.

    Raises:
        FileNotFoundError: nothing is there.
        NotADirectoryError: a file is.
    """
    if not look(place).is_directory:
        raise NotADirectoryError(f"{place.uri} is a file, not a directory")


def entry_of(info: dict[str, Any]) -> Entry:
    """fsspec's description of an entry."""
    is_directory = info["type"] == "directory"
    return Entry(0 if is_directory else int(info["size"] or 0), _changed_ns(info), is_directory)


def listing(place: Place) -> dict[str, Entry]:
    """The entries of a directory by name.

    Raises:
        FileNotFoundError: it is not there.
        NotADirectoryError: it is a file.
    """
    place.fs.invalidate_cache(place.path)
    own = place.path.rstrip("/")
    found = {}
    for info in place.fs.ls(place.path, detail=True):
        # An object store lists the marker of the directory, and a file lists itself.
        if str(info["name"]).rstrip("/") != own:
            found[posixpath.basename(str(info["name"]).rstrip("/"))] = entry_of(info)
        elif info["type"] != "directory" and not look(place).is_directory:
            raise NotADirectoryError(f"{place.uri} is a file, not a directory")
    return found


def matching(filesystems: Filesystems, pattern: str) -> dict[str, Entry | None]:
    """The URIs that match a pattern, sorted; one listing for each directory on the way.

    Args:
        filesystems: who to ask.
        pattern: a URI with ``*``, ``?`` and ``[...]``, none of which matches a ``/``.

    Returns:
        What they are, where that is known.
    """
    scheme, _, rest = pattern.partition("://")
    authority, _, path = rest.partition("/")
    parts = [part for part in path.split("/") if part]
    return dict(sorted(_below(filesystems, f"{scheme}://{authority}", parts)))


def _below(
    filesystems: Filesystems, root: str, parts: list[str]
) -> Iterator[tuple[str, Entry | None]]:
    fixed = next((at for at, part in enumerate(parts) if _MAGIC.search(part)), len(parts))
    root = "/".join([root, *parts[:fixed]])
    if fixed == len(parts):
        place = filesystems.at(root)
        if place.fs.exists(place.path):
            yield root, None
        return
    wanted, rest = expression(parts[fixed]), parts[fixed + 1 :]
    try:
        entries = listing(filesystems.at(root if fixed or root.count("/") > 2 else f"{root}/"))
    except (FileNotFoundError, NotADirectoryError):
        return
    for name, entry in entries.items():
        if not wanted.fullmatch(name):
            continue
        if not rest:
            yield f"{root}/{name}", entry
        elif entry.is_directory:
            yield from _below(filesystems, f"{root}/{name}", rest)


def expression(part: str) -> re.Pattern[str]:
    """The regular expression of one part of a pattern, as TensorFlow (fnmatch) reads it."""
    return re.compile("".join(map(_translated, _PIECES.findall(part))), re.DOTALL)


def _translated(piece: str) -> str:
    if piece in {"*", "?"}:
        return "[^/]*" if piece == "*" else "[^/]"
    if len(piece) > 1 and piece[0] == "[":
        negated = piece[1] in "!^"
        inside = piece[1 + negated : -1].replace("\\", "\\\\").replace("[", "\\[")
        return f"[{'^' if negated else ''}{inside}]"
    return re.escape(piece[-1])


def make_directory(place: Place) -> None:
    """One directory, in one that exists.

    Raises:
        FileExistsError: something is there.
        FileNotFoundError: the one around it is not.
    """
    place.fs.invalidate_cache(place.path)
    if place.fs.exists(place.path):
        raise FileExistsError(f"{place.uri} exists")
    place.fs.mkdir(place.path, create_parents=False)


def make_directories(place: Place) -> None:
    """A directory and all around it.

    Raises:
        NotADirectoryError: a file is there.
    """
    place.fs.makedirs(place.path, exist_ok=True)
    if place.fs.isfile(place.path):
        raise NotADirectoryError(f"{place.uri} is a file, not a directory")


def remove_file(place: Place) -> None:
    """A file.

    Raises:
        FileNotFoundError: it is not there.
        IsADirectoryError: it is a directory.
    """
    if look(place).is_directory:
        raise IsADirectoryError(f"{place.uri} is a directory")
    place.fs.rm_file(place.path)
    place.fs.invalidate_cache()


def remove_directory(place: Place) -> None:
    """An empty directory.

    Raises:
        FileNotFoundError: it is not there.
        NotADirectoryError: it is a file.
        OSError: it is not empty.
    """
    look_for_directory(place)
    if listing(place):
        raise IsADirectoryError(f"{place.uri} is a directory that is not empty")
    place.fs.rmdir(place.path)
    place.fs.invalidate_cache()


def remove_all(place: Place) -> None:
    """A directory with all that is in it.

    Raises:
        FileNotFoundError: it is not there.
    """
    look(place)
    place.fs.rm(place.path, recursive=True)
    place.fs.invalidate_cache()


def rename(source: Place, target: Place) -> None:
    """Move a file over what is there, or a directory; in one step where the filesystem can.

    Raises:
        FileNotFoundError: there is nothing to move.
    """
    moved = look(source)
    fs = source.fs
    if _is_hdfs(fs):
        fs.mv(source.path, target.path, overwrite=True)
    elif moved.is_directory:
        if fs.exists(target.path):
            raise FileExistsError(f"{target.uri} exists")
        fs.mv(source.path, target.path, recursive=True)
    else:
        if fs.isdir(target.path):
            raise IsADirectoryError(f"{target.uri} is a directory")
        if "webhdfs" in fs.protocol and fs.exists(target.path):
            fs.rm_file(target.path)  # its rename replaces nothing, and says nothing
        fs.mv(source.path, target.path)
    fs.invalidate_cache()


def copy(source: Place, target: Place) -> None:
    """Copy a file over what is there, or into a directory.

    Raises:
        FileNotFoundError: there is nothing to copy.
        IsADirectoryError: it is a directory.
    """
    if look(source).is_directory:
        raise IsADirectoryError(f"{source.uri} is a directory")
    fs, path = target.fs, target.path
    if fs.isdir(path):
        path = posixpath.join(path, posixpath.basename(source.path))
    if fs is source.fs and not _is_hdfs(fs):
        fs.cp_file(source.path, path)
    else:
        # hdfs-native 0.14 copies to a temporary name that is no absolute path, and fails.
        with fs.open(path, "wb") as written, source.fs.open(source.path, "rb") as read:
            shutil.copyfileobj(read, written, _COPY_BYTES)
    fs.invalidate_cache()


def _is_hdfs(fs: Any) -> bool:
    return type(fs).__module__.startswith("hdfs_native")


def _changed_ns(info: dict[str, Any]) -> int:
    value = next((info[name] for name in _CHANGED if info.get(name) is not None), 0)
    if isinstance(value, datetime):
        return int(value.timestamp() * 1e9)
    if not isinstance(value, int | float):
        return 0
    # Milliseconds (HDFS) or seconds (the local disk).
    return int(value * 1e6) if value > 1e11 else int(value * 1e9)
