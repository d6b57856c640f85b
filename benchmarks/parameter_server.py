"""Parameter-server training: steps per second of ``fit``, lost workers, a slow worker.

The floor is the same Keras model in a ClusterCoordinator loop written by hand, in four processes
started by hand with the same thread counts. Both keep the steps' logs on the workers.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import statistics
import time
from typing import Any

import report

from spark_strategy import Launcher, ParameterServer

FIT_TARGET = 0.95
SLOW_TARGET = 0.8
STEPS = 400
KILLS = 3
# A step of the comparison with a slow worker waits so long for its data, 10 times that on it.
STEP_US = 5_000


def model() -> Any:
    """Small, so that what is measured is how steps are handed out."""
    import keras

    made = keras.Sequential(
        [keras.Input((32,)), keras.layers.Dense(32, "relu"), keras.layers.Dense(1)]
    )
    made.compile(keras.optimizers.SGD(0.01), "mse", jit_compile=False)
    return made


def rows(_context: Any = None) -> Any:
    """Endless batches of 64 rows."""
    import tensorflow as tf

    return tf.data.Dataset.from_tensors((tf.ones([64, 32]), tf.ones([64, 1]))).repeat()


def fitted(steps: int) -> float:
    """Steps per second of the second epoch of ``fit``."""
    import keras

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002 - Keras's own
            self.began = time.monotonic()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002 - Keras's own
            self.took = time.monotonic() - self.began

    clock = Clock()
    model().fit(rows, steps_per_epoch=steps, epochs=2, callbacks=[clock], verbose=0)
    return steps / clock.took


def by_hand(cluster: dict[str, list[str]], steps: int, answers: Any) -> None:
    """The chief of the floor."""
    strategy = _strategy(cluster)
    import tensorflow as tf

    coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
    with strategy.scope():
        made = model()
        made.optimizer.build(made.trainable_variables)
        made._symbolic_build(data_batch=next(iter(rows())))  # noqa: SLF001 - else metrics fail
    batches = iter(coordinator.create_per_worker_dataset(rows))

    @tf.function
    def step(iterator: Any) -> None:
        strategy.run(made.train_step, args=(next(iterator),))

    for _ in range(2):
        began = time.monotonic()
        for _ in range(steps):
            coordinator.schedule(step, args=(batches,))
        coordinator.join()
        took = time.monotonic() - began
    answers.put(steps / took)


def _strategy(cluster: dict[str, list[str]]) -> Any:
    _join(cluster, "chief", 0)
    import tensorflow as tf

    return tf.distribute.ParameterServerStrategy(
        tf.distribute.cluster_resolver.TFConfigClusterResolver()
    )


def serve(cluster: dict[str, list[str]], job: str, index: int) -> None:
    """A server of the floor."""
    _join(cluster, job, index)
    import tensorflow as tf

    spec = tf.train.ClusterSpec(cluster)
    tf.distribute.Server(spec, job_name=job, task_index=index, protocol="grpc").join()


def _join(cluster: dict[str, list[str]], job: str, index: int) -> None:
    threads = {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "2"}
    config = {"cluster": cluster, "task": {"type": job, "index": index}}
    os.environ.update(threads, TF_CONFIG=json.dumps(config), TF_CPP_MIN_LOG_LEVEL="3")


def floor(steps: int) -> float:
    """Steps per second of the loop by hand."""
    spawn = multiprocessing.get_context("spawn")
    sockets = [socket.socket() for _ in range(4)]
    for sock in sockets:
        sock.bind(("127.0.0.1", 0))
    chief, one, two, ps = [f"127.0.0.1:{sock.getsockname()[1]}" for sock in sockets]
    for sock in sockets:
        sock.close()
    cluster = {"chief": [chief], "worker": [one, two], "ps": [ps]}
    answers = spawn.Queue()
    servers = [("worker", 0), ("worker", 1), ("ps", 0)]
    started = [spawn.Process(target=serve, args=(cluster, *task)) for task in servers]
    started.append(spawn.Process(target=by_hand, args=(cluster, steps, answers)))
    for process in started:
        process.start()
    try:
        return float(answers.get(timeout=120))
    finally:
        for process in started:
            process.kill()
            process.join()


def with_slow_worker(steps: int) -> tuple[float, float]:
    """Steps per second of two workers alike, and with one of them ten times slower."""
    import tensorflow as tf
    from tensorflow.python.data.experimental.ops import testing

    from spark_strategy.keras.parameter_server.coordination import worker_index

    def waiting(slow: int) -> Any:
        def slowed() -> Any:
            times = tf.where(worker_index() == 1, tf.constant(slow, tf.int64), 1)
            return rows().apply(testing.sleep(times * STEP_US))

        return slowed

    found = []
    made = model()
    for slow in (1, 10):
        made.fit(waiting(slow), steps_per_epoch=20, verbose=0)
        began = time.monotonic()
        made.fit(waiting(slow), steps_per_epoch=steps, verbose=0)
        found.append(steps / (time.monotonic() - began))
    return found[0], found[1]


def losing_workers(steps: int, kills: int) -> dict[str, Any]:
    """Kill a worker in each epoch but the first two; what was counted, and the seconds it cost."""
    import signal

    import keras

    class Kill(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002 - Keras's own
            self.armed = epoch >= 2
            self.began = time.monotonic()

        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002 - Keras's own
            if self.armed and batch == steps // 2 and (pids := _workers()):
                self.armed = False
                os.kill(pids[-1], signal.SIGKILL)

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002 - Keras's own
            took.append(time.monotonic() - self.began)

    took: list[float] = []
    made = model()
    made.fit(rows, steps_per_epoch=steps, epochs=2 + kills, callbacks=[Kill()], verbose=0)
    counted = int(made.optimizer.iterations.numpy())
    return {
        "steps_off": counted - steps * (2 + kills),
        "pause_per_kill_s": [round(max(0.0, one - took[1]), 2) for one in took[2:]],
    }


def _workers() -> list[int]:
    """Process ids of this run's workers on this machine."""
    from pathlib import Path

    import psutil

    from spark_strategy.folder import ChildFolder

    # Folders of one session's runs are neighbours; this session makes one run at a time.
    own = Path(psutil.Process().cmdline()[-1]).parent
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if "spark_strategy.worker.entry" in command and Path(command[-1]).parent == own:
            task = ChildFolder(Path(command[-1])).read_order()[0].task
            if task.job == "worker":
                found.append((task.index, process.pid))
    return [pid for _, pid in sorted(found)]


def main() -> None:
    """Measure, print, judge."""
    asked = report.arguments(__doc__ or "", rounds=3, steps=STEPS)
    spark = report.quiet_spark("local[4]")
    launcher = Launcher(ParameterServer(2), spark=spark, logs=None, timeout_s=170)
    ours, floors = [], []
    for number in range(asked.rounds):
        for side in (ours, floors) if number % 2 else (floors, ours):
            side.append(
                launcher.run(fitted, asked.steps).value if side is ours else floor(asked.steps)
            )
        report.progress(f"{number + 1}: fit {ours[-1]:.0f}, by hand {floors[-1]:.0f} steps/s")
    alike, slowed = launcher.run(with_slow_worker, asked.steps).value
    lost = launcher.run(losing_workers, asked.steps, KILLS)
    ratio = statistics.median(one / other for one, other in zip(ours, floors, strict=True))
    kept = slowed / (alike / 2)
    met = ratio >= FIT_TARGET and kept >= SLOW_TARGET and lost.value["steps_off"] == 0
    report.finish(
        "parameter_server",
        ratio=ratio,
        target=f"fit at least {FIT_TARGET} of the loop by hand; no step lost or counted twice; "
        f"with one of two workers ten times slower at least {SLOW_TARGET} of the other's rate",
        met=met,
        check=asked.check,
        fit_steps_per_s=[round(one, 1) for one in ours],
        by_hand_steps_per_s=[round(one, 1) for one in floors],
        slow_worker_ratio=round(kept, 3),
        restarts=sum(lost.restarts),
        **lost.value,
    )


if __name__ == "__main__":
    main()
