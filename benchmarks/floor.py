"""The floor: two Python processes started by hand with a TF_CONFIG, as TensorFlow's guide has it.

As a script it is one of these processes: ``floor.py CASE FOLDER``. It imports TensorFlow, builds
the strategy, calls ``cases.CASE`` in scope, writes what that returns, and waits for the other.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

_DEADLINE_S = 300.0


def run(case: str, *, workers: int = 2) -> tuple[float, list[Any]]:
    """Seconds from start to the end of all processes, and what each returned."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        addresses = _addresses(workers)
        processes = [_start(case, folder, addresses, rank) for rank in range(workers)]
        try:
            codes = [process.wait(_DEADLINE_S) for process in processes]
        finally:
            for process in processes:
                process.kill()
        seconds = time.monotonic() - began
        if any(codes):
            raise RuntimeError(f"the floor's processes ended with {codes}")
        values = [json.loads(Path(folder, f"{rank}.json").read_text()) for rank in range(workers)]
    return seconds, values


def _start(case: str, folder: str, addresses: list[str], rank: int) -> subprocess.Popen[bytes]:
    config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": rank}}
    # The thread counts that the library gives a rank with one cpu: else the floor would compete
    # with itself on few cores, and the comparison would flatter the library.
    threads = {
        "OMP_NUM_THREADS": "1",
        "TF_NUM_INTRAOP_THREADS": "1",
        "TF_NUM_INTEROP_THREADS": "2",
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
    return subprocess.Popen(
        [sys.executable, __file__, case, folder],
        env={**os.environ, **threads, "TF_CONFIG": json.dumps(config)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _addresses(count: int) -> list[str]:
    """Close-then-bind: what everyone does by hand."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return [f"127.0.0.1:{port}" for port in ports]


def _wait_for_all(folder: Path, workers: int) -> None:
    """A process that left early would look like a fault to the other."""
    deadline = time.monotonic() + _DEADLINE_S
    while len(list(folder.glob("*.json"))) < workers and time.monotonic() < deadline:
        time.sleep(0.01)


def main(case: str, folder: Path) -> None:
    """One process of the floor."""
    import tensorflow as tf

    import cases

    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    with strategy.scope():
        value = getattr(cases, case)()
    config = json.loads(os.environ["TF_CONFIG"])
    beside = folder / f".{config['task']['index']}"
    beside.write_text(json.dumps(value))
    beside.rename(folder / f"{config['task']['index']}.json")
    _wait_for_all(folder, len(config["cluster"]["worker"]))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
