"""Calls a model function and says whether its model can be trained on the columns.

Run as ``python -m spark_strategy.worker.model_check NICE`` by the driver (``ml/model_check.py``),
in a process of its own, so that TensorFlow stays out of the driver's.

The theory. Importing TensorFlow takes seconds and a check takes moments. So this process imports
once, and forks for each check: an import starts none of TensorFlow's runtime, and what a check
starts, sets or breaks ends with it. The driver writes the path of a folder (``check_folder.py``) on
a line of standard input, whose end is the end of this process and of all that it made.

Only what would fail on every rank in the same way is called a mistake: a function that raises here
may be right on the executors, which have other files.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import select
import shutil
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from spark_strategy import filesystem
from spark_strategy.data.layout import STRING
from spark_strategy.errors import ExecutorEnvironmentError
from spark_strategy.keras import transport
from spark_strategy.worker import imports
from spark_strategy.worker.check_folder import Answer, CheckFolder, CheckOrder
from spark_strategy.worker.current import alone
from spark_strategy.worker.selection import Selection

_WORDS: Final = 600
# Somebody who mends a mistake comes back within minutes.
_IDLE_S: Final = 300.0
# A model function that takes longer is left to the ranks.
_CHECK_S: Final = 60.0
_POLL_S: Final = 0.5
# Keras writes the first line of a message in bold, for terminals.
_STYLE: Final = re.compile(r"\x1b\[[0-9;]*m")
_READ_BYTES: Final = 64 * 1024


def main(nice: str) -> None:
    """Check whatever the driver asks for, until it ends or has not asked for minutes."""
    importing = threading.Thread(target=_import, args=(int(nice),))
    importing.start()
    checks: dict[int, _Check] = {}
    asked, text = time.monotonic(), b""
    while checks or time.monotonic() - asked < _IDLE_S:
        if select.select([0], [], [], _POLL_S)[0]:
            if not (more := os.read(0, _READ_BYTES)):
                break
            importing.join()
            asked = time.monotonic()
            *lines, text = (text + more).split(b"\n")
            for line in lines:
                one = _Check(CheckFolder(Path(os.fsdecode(line))), asked + _CHECK_S)
                checks[_forked(one.folder)] = one
        _end_some(checks)
    for pid, one in checks.items():
        os.kill(pid, signal.SIGKILL)
        shutil.rmtree(one.folder.path, ignore_errors=True)
    os._exit(0)


@dataclass(frozen=True, slots=True)
class _Check:
    """One that runs, and when it has had its time (monotonic seconds)."""

    folder: CheckFolder
    deadline: float


def _import(nice: int) -> None:
    # Linux has a niceness for each thread; the checks, forked elsewhere, keep the driver's.
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), nice)
    with imports.of_what_stays():
        import tensorflow as tf
    del tf


def _forked(folder: CheckFolder) -> int:
    """The process id of a check, which never returns from here."""
    if pid := os.fork():
        return pid
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        check(folder)
    finally:
        os._exit(0)


def _end_some(checks: dict[int, _Check]) -> None:
    """End the checks that have had their time; of those without an answer, say that they ended."""
    for pid, one in list(checks.items()):
        if time.monotonic() > one.deadline:
            os.kill(pid, signal.SIGKILL)
        if os.waitpid(pid, os.WNOHANG)[0]:
            del checks[pid]
            # The driver may have taken the folder away.
            with contextlib.suppress(FileNotFoundError):
                if one.folder.read() is None:
                    one.folder.write(Answer(doubt="it did not come to its end"))


def check(folder: CheckFolder) -> None:
    """Check what is in the folder and leave the answer there."""
    order = folder.read_order()
    os.chdir(order.directory)
    sys.path[:] = order.python_path
    with contextlib.suppress(ExecutorEnvironmentError):
        filesystem.register_all(order.files.hadoop)
    with alone():
        try:
            make, _, _ = pickle.loads(order.model)
            model = make()
        # The user's own code: whatever it raises, the ranks may do better.
        except Exception as error:  # noqa: BLE001
            folder.write(Answer(doubt=f"{type(error).__name__}: {_short(error)}"))
            return
        folder.write(Answer(mistake(model, order)))


def mistake(model: Any, order: CheckOrder) -> str:
    """What is wrong with what the function returned, in words; empty if nothing is.

    Args:
        model: what it returned.
        order: the columns, and which of them are features and labels.
    """
    flavour = transport.flavour_of(model)
    if flavour is None:
        return (
            f"The model function returned {_kind(model)}, and fit needs the compiled Keras model "
            "from it: end the function with `return model`."
        )
    if not _is_compiled(model):
        return (
            f"The model function returned {model.name!r} without compiling it: call "
            "model.compile(...) in the function."
        )
    if _takes_own_steps(model, flavour):
        return ""
    # tf_keras has AutoGraph rewrite the layers' code, which makes a trace here differ from its own.
    is_traced = flavour == "keras" and not model.run_eagerly
    return _unfit_label(order) or (_unfit_columns(model, order) if is_traced else "")


def _kind(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__module__}.{type(value).__qualname__}"


def _is_compiled(model: Any) -> bool:
    return bool(getattr(model, "compiled", getattr(model, "optimizer", None) is not None))


def _takes_own_steps(model: Any, flavour: str) -> bool:
    """Whether it takes batches in a way of its own, which no check can foresee."""
    plain = sys.modules[flavour].Model
    return any(
        getattr(type(model), name) is not getattr(plain, name)
        for name in ("train_step", "compute_loss", "fit")
    )


def _unfit_label(order: CheckOrder) -> str:
    labels = set(Selection(label=order.selection.label).named())
    for spec in order.specs:
        if spec.name in labels and spec.dtype == STRING:
            return (
                f"The label {spec.name!r} is a {spec.spark_type} column, and losses take numbers. "
                "Index it first, as with pyspark.ml.feature.StringIndexer."
            )
    return ""


def _unfit_columns(model: Any, order: CheckOrder) -> str:
    """By tracing the model and its loss, as the first step would, which computes nothing."""
    import tensorflow as tf

    from spark_strategy.worker.program import Asked

    parts = Asked(order.specs, order.selection.resolved(order.specs)).element_spec()
    parts = parts if isinstance(parts, tuple) else (parts,)
    x, y = parts[0], parts[1] if len(parts) > 1 else None
    forward = tf.function(lambda batch: model(batch, training=True), autograph=False)
    try:
        predicted = forward.get_concrete_function(x).structured_outputs
    # Tracing runs the model's own code: anything can come out of it.
    except Exception as error:  # noqa: BLE001
        return (
            f"The model does not take the features {_listed(x)}: {_short(error)}\n"
            "Compare its inputs with the columns that features= names."
        )
    if y is None:
        return ""
    losses = tf.function(
        lambda batch, label, output: model.compute_loss(x=batch, y=label, y_pred=output),
        autograph=False,
    )
    try:
        losses.get_concrete_function(x, y, predicted)
    except Exception as error:  # noqa: BLE001 - as above
        return (
            f"The model's loss does not take the label {_listed(y)} for its output "
            f"{_listed(predicted)}: {_short(error)}"
        )
    return ""


def _listed(specs: Any) -> str:
    if isinstance(specs, dict):
        return ", ".join(f"{name} {_listed(one)}" for name, one in specs.items())
    if isinstance(specs, list | tuple):
        return ", ".join(map(_listed, specs))
    return f"of shape {tuple(specs.shape)} and dtype {specs.dtype.name}"


def _short(error: BaseException) -> str:
    text = " ".join(_STYLE.sub("", str(error)).split())
    return text if len(text) <= _WORDS else f"{text[:_WORDS]}..."


if __name__ == "__main__":
    main(sys.argv[1])
