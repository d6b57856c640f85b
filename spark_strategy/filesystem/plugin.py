"""The Python side of ``bridge.c``: what TensorFlow asks, by way of C, of fsspec.

Importing this module imports neither TensorFlow nor fsspec. The functions at the end are called
from TensorFlow's own threads.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from spark_strategy.filesystem import _bridge, entries, status
from spark_strategy.filesystem.places import Filesystems, Place, Scheme
from spark_strategy.filesystem.reading import Reader
from spark_strategy.filesystem.writing import Writer

T = TypeVar("T")

_ffi: Final = _bridge.ffi
_lib: Final = _bridge.lib

_WRITE_BYTES: Final = 1 << 20

_CHANGES: Final[dict[str, Callable[[Place], object]]] = {
    "create_dir": entries.make_directory,
    "create_dirs": entries.make_directories,
    "delete_file": entries.remove_file,
    "delete_dir": entries.remove_directory,
    "delete_recursively": entries.remove_all,
    "exists": entries.look,
    "is_directory": entries.look_for_directory,
}
_MOVES: Final[dict[str, Callable[[Place, Place], object]]] = {
    "rename": entries.rename,
    "copy": entries.copy,
}


class _Plugin:
    """What the callbacks share: the schemes, and the open files by handle."""

    def __init__(self) -> None:
        self.filesystems = Filesystems()
        self.files: dict[int, tuple[str, Any]] = {}
        self.handles = itertools.count(1)
        self.known: set[str] = set()
        self.lock = threading.Lock()


_PLUGIN: Final = _Plugin()


def filesystems() -> Filesystems:
    """The filesystems of this process."""
    return _PLUGIN.filesystems


def serve(schemes: Sequence[Scheme]) -> None:
    """Serve schemes, and let TensorFlow know those that it does not know yet. Imports it.

    Raises:
        tf.errors.AlreadyExistsError: something else in this process serves one of them.
    """
    import tensorflow as tf

    with _PLUGIN.lock:
        new = [scheme.name for scheme in schemes if scheme.name not in _PLUGIN.known]
        if new:
            _lib.use(_ffi.cast("void *", _set_status(tf)), _WRITE_BYTES)
            joined = b"".join(name.encode() + b"\0" for name in new)
            _lib.announce(joined, len(joined), len(new))
            tf.experimental.register_filesystem_plugin(_bridge.__file__)
            _PLUGIN.known.update(new)
        for scheme in schemes:
            _PLUGIN.filesystems.serve(scheme)


def _set_status(tf: Any) -> int:
    """Address of TF_SetStatus in the library that TensorFlow has loaded."""
    folder = Path(tf.sysconfig.get_lib())
    library = ctypes.CDLL(str(next(folder.glob("libtensorflow_framework.so*"))))
    address = ctypes.cast(library.TF_SetStatus, ctypes.c_void_p).value
    assert address is not None
    return address


def _text(path: Any) -> str:
    return bytes(_ffi.string(path)).decode(errors="surrogateescape")


def _answer(told: Any, path: str, failed: T, act: Callable[[], T]) -> T:
    """What ``act`` returns; ``failed``, and the status set, if it raises."""
    try:
        return act()
    # No exception may pass through TensorFlow's frames.
    except BaseException as error:  # noqa: BLE001
        if told != _ffi.NULL:
            code, text = status.explain(error, path)
            _lib.fail(told, code, text.encode(errors="surrogateescape").replace(b"\0", b" "))
        return failed


def _held(path: str, file: Reader | Writer) -> int:
    handle = next(_PLUGIN.handles)
    _PLUGIN.files[handle] = (path, file)
    return handle


@_ffi.def_extern()  # type: ignore[untyped-decorator]
def py_open_reader(path: Any, descriptor: Any, told: Any) -> int:
    """Open a file to read; its handle."""
    uri = _text(path)

    def act() -> int:
        reader = Reader(_PLUGIN.filesystems.at(uri))
        descriptor[0] = -1 if reader.descriptor is None else reader.descriptor
        return _held(uri, reader)

    return _answer(told, uri, 0, act)


@_ffi.def_extern()  # type: ignore[untyped-decorator]
def py_errno(handle: int, number: int, told: Any) -> None:
    """The kernel could not read."""

    def act() -> None:
        raise OSError(number, os.strerror(number))

    _answer(told, _PLUGIN.files[handle][0], None, act)


@_ffi.def_extern()  # type: ignore[untyped-decorator]
def py_fetch(  # noqa: PLR0917 - as C calls it
    handle: int, window: Any, offset: int, size: int, into: Any, told: Any
) -> int:
    """Bring the window of a reader to ``offset`` and copy from it; how many bytes."""
    path, reader = _PLUGIN.files[handle]

    def show(block: memoryview) -> int:
        _lib.show(window, _ffi.from_buffer(block), offset, len(block))
        return int(_lib.from_window(window, offset, size, into))

    return _answer(told, path, -1, lambda: int(reader.fetch(offset, size, show)))


@_ffi.def_extern()  # type: ignore[untyped-decorator]
def py_open_writer(path: Any, append: int, position: Any, told: Any) -> int:
    """Open a file to write; its handle."""
    uri = _text(path)

    def act() -> int:
        writer = Writer(_PLUGIN.filesystems.at(uri), append=bool(append))
        position[0] = writer.position
        return _held(uri, writer)

    return _answer(told, uri, 0, act)


@_ffi.def_extern()  # type: ignore[untyped-decorator]
def py_write(handle: int, data: Any, size: int, told: Any) -> int:
    """Append bytes; copied, as a write that is given up goes on in its thread."""
    path, writer = _PLUGIN.files[handle]
    content = bytes(_ffi.buffer(data, size))
    return _answer(told, path, 0, lambda: writer.write(content) or 1)


@_ffi.def_extern()  # type: ignore[untyped-decorator]
def py_flush(handle: int, sync: int, told: Any) -> int:
    """Make what was written visible, or durable."""
    path, writer = _PLUGIN.files[handle]
    return _answer(told, path, 0, lambda: (writer.sync() if sync else writer.flush()) or 1)


@_ffi.def_extern()  # type: ignore[untyped-decorator]
def py_close_writer(handle: int, told: Any) -> int:
    """Complete a file."""
    path, writer = _PLUGIN.files[handle]
    return _answer(told, path, 0, lambda: writer.close() or 1)


@_ffi.def_extern()  # type: ignore[untyped-decorator]
def py_forget(handle: int) -> None:
    """Nobody holds the file any more."""
    path, file = _PLUGIN.files.pop(handle)
    if isinstance(file, Reader):
        _answer(_ffi.NULL, path, None, file.close)


@_ffi.def_extern()  # type: ignore[untyped-decorator]
def py_stat(path: Any, length: Any, changed_ns: Any, is_directory: Any, told: Any) -> int:
    """Describe an entry."""
    uri = _text(path)

    def act() -> int:
        place = _PLUGIN.filesystems.at(uri)
        entry = place.call(lambda: entries.look(place))
        length[0], changed_ns[0] = entry.size_bytes, entry.changed_ns
        is_directory[0] = entry.is_directory
        return 1

    return _answer(told, uri, 0, act)


@_ffi.def_extern()  # type: ignore[untyped-decorator]
def py_size(path: Any, length: Any, told: Any) -> int:
    """Size of a file."""
    uri = _text(path)

    def act() -> int:
        place = _PLUGIN.filesystems.at(uri)
        entry = place.call(lambda: entries.look(place))
        if entry.is_directory:
            raise IsADirectoryError(f"{uri} is a directory")
        length[0] = entry.size_bytes
        return 1

    return _answer(told, uri, 0, act)


@_ffi.def_extern()  # type: ignore[untyped-decorator]
def py_refuse_empty(path: Any, told: Any) -> None:
    """A memory region has at least one byte, says the interface."""

    def act() -> None:
        raise ValueError("the file is empty")

    _answer(told, _text(path), None, act)


@_ffi.def_extern()  # type: ignore[untyped-decorator]
def py_change(what: Any, path: Any, target: Any, told: Any) -> int:
    """Make, move, remove, or look whether something is there."""
    uri, kind = _text(path), _text(what)

    def act() -> int:
        place = _PLUGIN.filesystems.at(uri)
        if kind in _MOVES:
            to = _PLUGIN.filesystems.at(_text(target))
            place.call(lambda: _MOVES[kind](place, to))
        else:
            place.call(lambda: _CHANGES[kind](place))
        return 1

    return _answer(told, uri, 0, act)


@_ffi.def_extern()  # type: ignore[untyped-decorator]
def py_list(what: Any, path: Any, names: Any, told: Any) -> int:
    """List a directory, or what matches a pattern; how many."""
    uri, kind = _text(path), _text(what)

    def act() -> int:
        place = _PLUGIN.filesystems.at(uri)
        if kind == "matching":
            found = list(place.call(lambda: entries.matching(_PLUGIN.filesystems, uri)))
        else:
            found = sorted(place.call(lambda: entries.listing(place)))
        joined = b"".join(name.encode(errors="surrogateescape") + b"\0" for name in found)
        _lib.give(names, joined, len(found))
        return len(found)

    return _answer(told, uri, -1, act)


@_ffi.def_extern()  # type: ignore[untyped-decorator]
def py_flush_caches() -> None:
    """Forget listings."""
    _answer(_ffi.NULL, "", None, _PLUGIN.filesystems.forget_listings)
