"""Ports: cluster starts while another process takes every free port it can, at full speed.

A start is: two ranks reserve a port each, the cluster is formed, and a TensorFlow server binds each
port. The control does what other launchers do: find a free port, close it, have TensorFlow bind it.
Importing TensorFlow takes seconds, so all servers live in two long-lived processes per method.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import report

from spark_strategy.spark import rendezvous

_BATCH = 100


class Starter:
    """A process with TensorFlow that starts one server for each line it reads."""

    def __init__(self, *, reuse: bool) -> None:
        env = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        if reuse:
            env["TF_GRPC_REUSE_PORT"] = "true"
        self._process = subprocess.Popen(
            [sys.executable, __file__, "starter"],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def start(self, cluster: list[str], index: int) -> None:
        """Start a server; does not wait."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([cluster, index]) + "\n")
        self._process.stdin.flush()

    def started(self) -> bool:
        """Whether the server that was asked for could bind its port."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip() == "ok"

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


def starter() -> None:
    """Body of a :class:`Starter`'s process."""
    import tensorflow as tf

    print("ready", flush=True)
    kept = []
    for line in sys.stdin:
        cluster, index = json.loads(line)
        spec = tf.train.ClusterSpec({"worker": cluster})
        try:
            kept.append(tf.distribute.Server(spec, job_name="worker", task_index=index))
            print("ok", flush=True)
        except tf.errors.OpError:
            print("failed", flush=True)


def thief() -> None:
    """Bind ephemeral ports as fast as possible, holding many at a time."""
    held: list[socket.socket] = []
    while os.getppid() != 1:
        try:
            sock = socket.socket()
            sock.bind(("", 0))
            held.append(sock)
        except OSError:
            pass
        if len(held) > 2000:
            for sock in held[:1000]:
                sock.close()
            del held[:1000]


def reserved(held: ExitStack) -> str:
    """The library's way: the port stays bound."""
    sock = held.enter_context(rendezvous.reserve(None))
    return f"127.0.0.1:{sock.getsockname()[1]}"


def closed(held: ExitStack) -> str:
    """The common way: the port is free again until TensorFlow binds it."""
    del held
    with socket.socket() as sock:
        sock.bind(("", 0))
        return f"127.0.0.1:{sock.getsockname()[1]}"


def failures(method: str, starts: int) -> int:
    """Cluster starts of which a server could not bind its port."""
    failed = 0
    while starts > 0:
        # Servers are never stopped within a process: renew the processes now and then.
        batch = min(starts, _BATCH)
        pair = [Starter(reuse=method == "reserved") for _ in range(2)]
        for _ in range(batch):
            with ExitStack() as held:
                cluster = [globals()[method](held) for _ in pair]
                # The cluster's addresses travel between the tasks meanwhile.
                time.sleep(0.01)
                for index, one in enumerate(pair):
                    one.start(cluster, index)
                # Both answers are read, whatever the first one is.
                answers = [one.started() for one in pair]
                failed += not all(answers)
        for one in pair:
            one.close()
        starts -= batch
        report.progress(f"{method}: {failed} failures, {starts} starts to go")
    return failed


def main() -> None:
    """Measure, print, judge."""
    asked = report.arguments(__doc__ or "", starts=200, control=200)
    robber = subprocess.Popen([sys.executable, __file__, "thief"])
    try:
        ours = failures("reserved", asked.starts)
        control = failures("closed", asked.control)
    finally:
        robber.kill()
        robber.wait()
    report.finish(
        "ports",
        ratio=ours / asked.starts,
        target="0 failures",
        met=ours == 0,
        check=asked.check,
        starts=asked.starts,
        failures=ours,
        control_starts=asked.control,
        control_failures=control,
        ephemeral_ports=Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split(),
    )


if __name__ == "__main__":
    {"starter": starter, "thief": thief}.get(sys.argv[-1], main)()
