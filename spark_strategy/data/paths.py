"""Where a path is that does not say so itself: like Spark, on the session's default filesystem."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(//)?")
_LOCAL: Final = "file"


@dataclass(frozen=True, slots=True)
class FileRoot:
    """What Spark's session says about files. Travels to the executors.

    Attributes:
        default: Hadoop's ``fs.defaultFS``, such as ``hdfs://namenode:8020``.
        home: the URI that relative paths begin at; empty for the process's own directory.
        hadoop: what clients of HDFS must know, by Hadoop's names; no secrets.
    """

    default: str = "file:///"
    home: str = ""
    hadoop: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls, default: str, *, user: str, directory: str, hadoop: Mapping[str, str] | None = None
    ) -> FileRoot:
        """The root that a default filesystem gives.

        Args:
            default: Hadoop's ``fs.defaultFS``.
            user: whose home relative paths begin at, on a filesystem that is no disk.
            directory: where they begin on disks: Spark's own begin at the driver's.
            hadoop: settings of HDFS that the session has.
        """
        settings = dict(hadoop or {})
        if default.startswith(f"{_LOCAL}:"):
            return cls(home=f"file://{directory}", hadoop=settings)
        home = f"{default.rstrip('/')}{settings.get('dfs.user.home.dir.prefix', '/user')}/{user}"
        return cls(default, home, {"fs.defaultFS": default, **settings})

    def url(self, path: str) -> str:
        """The same as :meth:`resolved`, with its scheme also for a local path."""
        found = self.resolved(path)
        return found if _SCHEME.match(found) else f"{_LOCAL}://{found}"

    def resolved(self, path: str) -> str:
        """The URI of a path; of a local one, the plain path.

        Args:
            path: a URI; an absolute path on the default filesystem; or one relative to the
                user's home there.
        """
        match = _SCHEME.match(path)
        if match is None:
            if path.startswith("/"):
                return _plain(f"{self.default.rstrip('/')}{path}")
            return _plain(f"{self.home.rstrip('/')}/{path}") if self.home else path
        authority = self.default.partition("://")[2].strip("/")
        if path.startswith(f"{match[1]}:///") and self.default.startswith(f"{match[1]}://"):
            return _plain(f"{match[1]}://{authority}{path[len(match[1]) + 3 :]}")
        return _plain(path)


def _plain(uri: str) -> str:
    """A local file's path; Hadoop writes ``file:/x`` and ``file:///x``."""
    if not uri.startswith(f"{_LOCAL}:"):
        return uri
    return posixpath.normpath("/" + uri[len(_LOCAL) + 1 :].lstrip("/"))
