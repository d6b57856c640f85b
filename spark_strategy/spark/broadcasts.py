"""Bytes that travel once to each executor, and leave every disk when nobody needs them any more.

The theory. PySpark keeps a broadcast's file on the driver's disk until the session ends, unless
somebody calls ``destroy``. That is right where the end is known, as that of a run
(:func:`for_one_run`). A DataFrame has no known end: others are derived from it, cached, registered
as views, run as streams, and only the JVM knows the plans that are left. Spark itself removes a
broadcast from all executors when the JVM has collected the last plan that refers to it
(``ContextCleaner``). So :func:`shared` holds a broadcast as Spark holds it: strongly in the plans,
weakly here. The driver's file goes at the same moment, by a tracker of Apache Commons that runs in
the JVM. As long as it is there, the same content is not sent again.

The owner of the content, such as the model in the user's hands, keeps the last broadcast that was
made of it: between two micro-batches no plan exists.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from weakref import WeakKeyDictionary, ref

# The JVM collects its garbage when its heap fills, whatever lies on the disk: after so many bytes
# of content that only plans refer to, or nothing, it is asked to. Spark does so every 30 minutes.
_LOOSE_BYTES: Final = 256 << 20


@dataclass(frozen=True, slots=True)
class Parcel:
    """Bytes for the tasks. Pickled on the driver it refers to Spark's broadcast."""

    held: Any

    def __call__(self) -> bytes:
        """The bytes, in a task; they are not kept in its process."""
        path = self.path()
        return bytes(self.held.load_from_path(path) if path else self.held.value)

    def path(self) -> str:
        """The executor's file with the bytes, which Spark removes with the broadcast.

        Empty where there is none, as with encrypted files (spark.io.encryption.enabled).
        """
        return getattr(self.held, "_path", None) or ""


class _Reference:
    """A broadcast of the JVM's, without the objects by which PySpark would keep its file."""

    def __init__(self, context: Any, broadcast: Any) -> None:
        self._context = context
        self._jbroadcast = broadcast  # the name by which PySpark finds it

    def __reduce__(self) -> tuple[Any, ...]:
        """What PySpark's own broadcast does: register itself with the command it is part of."""
        from pyspark.core.broadcast import _from_id

        self._context._pickled_broadcast_vars.add(self)  # noqa: SLF001
        return _from_id, (self._jbroadcast.id(),)


@dataclass(slots=True)
class _Sent:
    """What a SparkContext has sent.

    Attributes:
        tracker: removes files when the JVM has collected what they belong to.
        weak: the JVM's weak references to broadcasts, with the bytes of each, by key.
        loose: bytes that were referred to by plans only when the JVM was asked last.
    """

    tracker: Any
    weak: dict[str, tuple[Any, int]] = field(default_factory=dict)
    loose: int = 0


_LOCK: Final = threading.Lock()
_SENT: Final[WeakKeyDictionary[Any, _Sent]] = WeakKeyDictionary()
# A broadcast by its owner, with its SparkContext.
_OWNED: Final[WeakKeyDictionary[Any, tuple[ref[Any], Any]]] = WeakKeyDictionary()


def shared(context: Any, key: str, content: Callable[[], bytes], owner: object) -> Parcel:
    """Content for the tasks of any DataFrame; sent once as long as it is needed.

    Args:
        context: a SparkContext.
        key: the same for the same content.
        content: gives it; called only to send it.
        owner: whose end, along with that of all plans, ends the need for the content; None if
            only plans count.
    """
    with _LOCK:
        if context not in _SENT:
            tracker = context._jvm.org.apache.commons.io.FileCleaningTracker()  # noqa: SLF001
            _SENT[context] = _Sent(tracker)
        sent = _SENT[context]
        broadcast = sent.weak[key][0].get() if key in sent.weak else None
        if broadcast is None:
            broadcast = _new(context, sent, key, content())
        with suppress(TypeError):  # an owner that cannot be referred to weakly, such as a path
            _OWNED[owner] = ref(context), broadcast
        _collect(context, sent)
    return Parcel(_Reference(context, broadcast))


@contextmanager
def for_one_run(context: Any, content: bytes) -> Iterator[Parcel]:
    """Content for the tasks of one run, which is removed everywhere when the block is left."""
    broadcast = context.broadcast(content)
    try:
        yield Parcel(broadcast)
    finally:
        # The session may be gone, and all its broadcasts with it.
        with suppress(Exception):
            broadcast.destroy()
        with suppress(OSError):
            Path(broadcast._path).unlink(missing_ok=True)  # noqa: SLF001


def _new(context: Any, sent: _Sent, key: str, content: bytes) -> Any:
    broadcast = context.broadcast(content)
    # On local[n] the tasks read the very file of the driver: it belongs to the JVM's object.
    sent.tracker.track(broadcast._path, broadcast._python_broadcast)  # noqa: SLF001
    held = broadcast._jbroadcast  # noqa: SLF001
    weak = context._jvm.java.lang.ref.WeakReference(held)  # noqa: SLF001
    sent.weak[key] = weak, len(content)
    return held


def _collect(context: Any, sent: _Sent) -> None:
    """Forget what is gone; have the JVM look for more if much is referred to by plans only."""
    loose = _loose(context, sent)
    if loose - sent.loose > _LOOSE_BYTES:
        context._jvm.java.lang.System.gc()  # noqa: SLF001
        loose = _loose(context, sent)
        sent.loose = loose
    sent.loose = min(sent.loose, loose)


def _loose(context: Any, sent: _Sent) -> int:
    """Bytes that plans refer to, or nobody, but no owner; as far as the JVM knows."""
    owned = {one.id() for of, one in list(_OWNED.values()) if of() is context}
    loose = 0
    for key, (weak, size) in list(sent.weak.items()):
        broadcast = weak.get()
        if broadcast is None:
            del sent.weak[key]
        elif broadcast.id() not in owned:
            loose += size
    return loose
