"""Finds the executor's server for a model, or starts it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from spark_strategy.errors import WorkerError
from spark_strategy.serving import ServerFolder, ServerOrder, started_at
from spark_strategy.spark.channel import Channel, tail
from spark_strategy.spark.child import environment, signals_wait

_POLL_S: Final = 0.02
_FORK_S: Final = 60.0


class Shipped(Protocol):
    """A model on its way, for the tasks."""

    def __call__(self) -> bytes:
        """The pickled model; reading it costs only who calls it."""
        ...

    def path(self) -> str:
        """A file of the executor that goes when the driver drops the model; empty for none."""
        ...


def opened(
    folder: ServerFolder,
    order: ServerOrder,
    model: Shipped,
    *,
    name: str,
    settings: dict[str, str],
    timeout_s: float,
) -> Channel:
    """A line to the server in ``folder``, which is started if there is none.

    Args:
        folder: one for each model, executor and GPU.
        order: for a server that is to be started.
        model: gives the pickled model; called only to start a server.
        name: what to call the model.
        settings: environment variables of a server that is to be started.
        timeout_s: seconds that the model may take for a block.

    Raises:
        WorkerError: the model cannot be loaded, or is not in time.
    """
    start_timeout_s = order.start_timeout_s
    deadline = time.monotonic() + start_timeout_s
    while True:
        with folder.locked(deadline):
            _started(folder, order, model, settings)
        while time.monotonic() < deadline:
            try:
                return _connected(folder, model, name=name, timeout_s=timeout_s)
            except PermissionError as error:
                raise WorkerError(f"{folder.path} is not this user's: {error}") from error
            except OSError:  # not ready yet, or about to end
                if not folder.is_alive():
                    break
            time.sleep(_POLL_S)
        else:
            raise WorkerError(
                f"{name} was not ready after start_timeout_s={start_timeout_s:g} seconds on "
                f"{socket.gethostname()}.{tail(folder)}"
            )
        _raise_failure(folder, deadline)


def _connected(folder: ServerFolder, model: Shipped, *, name: str, timeout_s: float) -> Channel:
    """A line to a server that is ready, which from now on heeds this client's copy of the model."""
    channel = Channel(folder.connect(), folder, model=name, timeout_s=timeout_s)
    with suppress(OSError):  # it is ending, which the first batch shows
        folder.lease(model.path())
    return channel


def _started(
    folder: ServerFolder,
    order: ServerOrder,
    model: Shipped,
    settings: dict[str, str],
) -> None:
    """With the lock held: a server lives, whether ready or not."""
    alive = folder.prepare(order)
    if alive < 0:
        return
    parent = os.getppid()
    try:
        folder.model_path.write_bytes(model())
        # The server inherits that signals are blocked, and so hears them from its beginning.
        with folder.log_path.open("wb") as log, signals_wait():
            starter = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-m", "spark_strategy.worker.serve"),
                    *(str(folder.path), str(parent), started_at(parent)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment(
                    os.environ,
                    python_path=[str(Path(path).absolute()) for path in sys.path if path],
                    cpus=order.threads,
                    settings=settings,
                ),
                pass_fds=[alive],
                start_new_session=True,
            )
        # It forks, so that the server outlives this process and leaves no zombie to it.
        starter.wait(_FORK_S)
    finally:
        os.close(alive)


def _raise_failure(folder: ServerFolder, deadline: float) -> None:
    """Say why a server ended before it was ready, if it was not idle or killed later.

    Raises:
        WorkerError: it failed.
    """
    with folder.locked(deadline):
        if folder.is_alive() or not folder.path.exists():
            return
        failure, said = folder.failure(), tail(folder)
        if folder.was_ready() and not failure:
            return
        folder.remove()
    if failure:
        raise WorkerError(f"The model could not be loaded on {socket.gethostname()}.\n{failure}")
    raise WorkerError(
        f"The process that was to hold the model on {socket.gethostname()} ended while it "
        f"started; memory is the usual suspect.{said}"
    )
