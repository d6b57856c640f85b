"""URI -> the fsspec filesystem that is responsible, and the path in it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from spark_strategy.filesystem.calls import Call

T = TypeVar("T")

# Seconds for one request; hdfs-native, for one, asks a dead NameNode for ever (0.14).
TIMEOUT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Scheme:
    """How the URIs of one scheme are served.

    Attributes:
        name: the scheme, as in ``name://host/path``.
        protocol: fsspec's name for the implementation.
        options: its storage options.
        timeout_s: seconds after which a request has failed.
    """

    name: str
    protocol: str
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    timeout_s: float = TIMEOUT_S


@dataclass(frozen=True, slots=True)
class Place:
    """A path in a filesystem.

    Attributes:
        uri: the whole of it, for messages.
        fs: an ``fsspec.AbstractFileSystem``.
        path: as ``fs`` wants it.
        timeout_s: seconds after which a request has failed.
    """

    uri: str
    fs: Any
    path: str
    timeout_s: float

    def call(self, function: Callable[[], T]) -> T:
        """What the function returns, within the deadline."""
        return Call(function, self.uri).result(self.timeout_s)


class Filesystems:
    """The schemes of this process, and the filesystems made for them. Safe for threads."""

    def __init__(self) -> None:
        self._schemes: dict[str, Scheme] = {}
        self._made: dict[tuple[str, str], Any] = {}
        self._lock = threading.Lock()

    @property
    def names(self) -> frozenset[str]:
        """The schemes that are served."""
        return frozenset(self._schemes)

    def serve(self, scheme: Scheme) -> None:
        """Serve a scheme, or serve it differently from now on."""
        with self._lock:
            self._schemes[scheme.name] = scheme
            for key in [key for key in self._made if key[0] == scheme.name]:
                del self._made[key]

    def at(self, uri: str) -> Place:
        """Where a URI is. Imports the implementation at its first use.

        Raises:
            ImportError: the implementation is not installed; says which package to install.
            ValueError: nobody serves the scheme.
        """
        name, _, rest = uri.partition("://")
        scheme = self._schemes.get(name)
        if scheme is None:
            raise ValueError(f"{uri}: no filesystem is registered for {name}://")
        url = f"{scheme.protocol}://{rest}"
        fs = self._filesystem(scheme, url, rest.partition("/")[0])
        return Place(uri, fs, _path_in(fs, url), scheme.timeout_s)

    def forget_listings(self) -> None:
        """Drop what the filesystems remember of directories."""
        for fs in list(self._made.values()):
            fs.invalidate_cache()

    def _filesystem(self, scheme: Scheme, url: str, authority: str) -> Any:
        """One for each authority. fsspec's own cache has one for each thread as well."""
        key = scheme.name, authority
        made = self._made.get(key)
        if made is None:
            with self._lock:
                made = self._made.get(key) or _make(scheme, url)
                self._made[key] = made
        return made


def _make(scheme: Scheme, url: str) -> Any:
    import fsspec

    kind = fsspec.get_filesystem_class(scheme.protocol)
    # It knows which host, container or user a URL names; not all are asked for by __init__.
    named = {key: value for key, value in kind._get_kwargs_from_urls(url).items() if value}  # noqa: SLF001 - fsspec's own interface for this
    named.pop("path", None)
    return kind(**{**named, **scheme.options, "skip_instance_cache": True})


def _path_in(fs: Any, url: str) -> str:
    return str(fs._strip_protocol(url))  # noqa: SLF001 - fsspec's own interface for this
