"""Watches a folder for checkpoints, evaluates each, and writes what came out."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from itertools import islice
from pathlib import Path
from typing import Any, Final

import tensorflow as tf

from spark_strategy.bounds import SHOWN_CHARS, name_of, text_of
from spark_strategy.evaluator import Evaluation, Evaluator

_log = logging.getLogger(__name__)

_LOOK_S: Final = 0.5
# What an evaluation says travels to the driver beside those of all other checkpoints.
_MOST_METRICS: Final = 1000

# When it was last written, in nanoseconds since the epoch, and its size.
Stamp = tuple[int, int]


def evaluate_all(
    evaluator: Evaluator,
    *,
    ended: Callable[[], bool],
    record: Callable[[tuple[Evaluation, ...]], None],
) -> None:
    """Evaluate each new checkpoint until training has ended and none is left.

    Args:
        evaluator: the function and the folders.
        ended: whether no more checkpoints will be written.
        record: called with all evaluations so far, after each.
    """
    done: list[Evaluation] = []
    with ExitStack() as held:
        writer = None
        if evaluator.tensorboard is not None:
            writer = tf.summary.create_file_writer(evaluator.tensorboard)
            held.callback(writer.close)
        for path in arrivals(evaluator.checkpoints, ended=ended):
            done.append(_evaluation(evaluator.evaluate, path, len(done)))
            record(tuple(done))
            if writer is not None:
                with writer.as_default(step=done[-1].step):
                    for name, value in done[-1].metrics.items():
                        tf.summary.scalar(f"evaluation/{name}", value)
                writer.flush()


def arrivals(folder: str, *, ended: Callable[[], bool]) -> Iterator[str]:
    """Paths of checkpoints as they are complete, oldest first, until training has ended.

    One that is overwritten comes again; one that is deleted before its turn does not come.

    Args:
        folder: where they appear; it need not exist yet.
        ended: whether no more will be written.
    """
    known: dict[str, Stamp] = {}
    before: dict[str, Stamp] = {}
    while True:
        last = ended()  # asked first: whatever was written before is seen below
        now = look(folder)
        # What has stood still since the last look is complete; after the end everything is.
        new = [
            (stamp, path)
            for path, stamp in now.items()
            if known.get(path) != stamp and (last or before.get(path) == stamp)
        ]
        for stamp, path in sorted(new, key=lambda one: (one[0][0], _step(one[1], 0), one[1])):
            known[path] = stamp
            if path in look(folder):
                yield path
        if last and not new:
            return
        before = now
        if not new:
            time.sleep(_LOOK_S)


def look(folder: str) -> dict[str, Stamp]:
    """The checkpoints in ``folder`` and below."""
    found: dict[str, Stamp] = {}
    if not tf.io.gfile.isdir(folder):
        return found
    for where, _, names in tf.io.gfile.walk(folder):
        for name in names:
            path = _checkpoint(where, name)
            if path is None:
                continue
            with suppress(FileNotFoundError, tf.errors.NotFoundError):  # deleted meanwhile
                found[path] = _stamp(tf.io.gfile.join(where, name))
    return found


def _stamp(path: str) -> Stamp:
    if "://" not in path:
        local = Path(path).stat()
        return local.st_mtime_ns, local.st_size
    # Whole seconds, whatever its name says (measured, TensorFlow 2.21).
    stat = tf.io.gfile.stat(path)
    return stat.mtime_nsec, stat.length


def _checkpoint(where: str, name: str) -> str | None:
    """The path to evaluate, if this file shows that a checkpoint is there."""
    folder = where.rstrip("/").rpartition("/")[2]
    # tf.train.Checkpoint writes parts into PREFIX_temp, a SavedModel its variables into variables.
    if name.startswith(".") or folder.endswith("_temp") or folder == "variables":
        return None
    if name == "saved_model.pb":
        return where
    path = str(tf.io.gfile.join(where, name))
    if name.endswith(".index"):
        return path.removesuffix(".index")
    return path if name.endswith((".keras", ".h5")) else None


def _evaluation(
    evaluate: Callable[[str], Mapping[str, float]], path: str, number: int
) -> Evaluation:
    began = time.monotonic()
    metrics: dict[str, float] = {}
    error = ""
    try:
        metrics = _numbers(evaluate(path))
    # The user's code may raise anything; training and the next checkpoint do not depend on it.
    except Exception as raised:  # noqa: BLE001
        _log.exception("Could not evaluate %s", path)
        error = f"{name_of(raised)}: {text_of(raised)}".partition("\n")[0]
    return Evaluation(path, _step(path, number), metrics, time.monotonic() - began, error)


def _numbers(metrics: Mapping[str, float]) -> dict[str, float]:
    found = dict(islice(metrics.items(), _MOST_METRICS))
    return {text_of(name, SHOWN_CHARS): float(value) for name, value in found.items()}


def _step(path: str, number: int) -> int:
    name = path.rstrip("/").rpartition("/")[2]
    found: list[Any] = re.findall(r"\d+", re.sub(r"(\.weights)?\.(keras|h5)$", "", name))
    return int(found[-1]) if found else number
