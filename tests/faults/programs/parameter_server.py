"""MASTER: what parameter-server training does when processes are killed or slow."""

import json
import sys
import time

from pyspark.sql import SparkSession

from spark_strategy import Launcher, ParameterServer, errors, get_context

READ = "read"


def compiled():
    """A line."""
    import keras

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.01), "mse")
    return model


def processes(job):
    """Process ids of this run's servers of a job that serve, by index; no other run's."""
    from pathlib import Path

    import psutil

    from spark_strategy.folder import ChildFolder

    # Folders of one session's runs are neighbours; this session makes one run at a time.
    own = Path(psutil.Process().cmdline()[-1]).parent
    found = {}
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if "spark_strategy.worker.entry" in command and Path(command[-1]).parent == own:
            folder = ChildFolder(Path(command[-1]))
            if folder.succeeded:
                found[str(folder.read_order()[0].task)] = process.pid
    return [pid for task, pid in sorted(found.items()) if task.startswith(job)]


def endless(_context):
    """Rows of ones; who reads some leaves a file in its own folder."""
    import tensorflow as tf

    from spark_strategy.folder import OWN_FOLDER

    def read(x, y):
        with tf.control_dependencies([tf.io.write_file(f"{OWN_FOLDER}/{READ}", "")]):
            return tf.identity(x), y

    return tf.data.Dataset.from_tensors((tf.ones([8, 4]), tf.ones([8, 1]))).repeat().map(read)


def read_file(pid):
    """The file that this worker leaves."""
    from pathlib import Path

    import psutil

    return Path(psutil.Process(pid).cmdline()[-1], READ)


def ride_out(kills, steps):
    """Lose a worker in each epoch but the first, amid its steps; freeze it in the last.

    It is lost once it takes steps again, while there are steps left for it.
    """
    import os
    import signal

    import keras

    class Kill(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if not self.armed or batch > steps - 100:
                return
            (worker,) = processes("worker:1")
            if not read_file(worker).exists():
                # It serves again, and the coordinator has yet to reach it.
                time.sleep(0.1)
            elif batch > 50:
                self.armed = False
                lose = signal.SIGKILL if len(killed) < kills else signal.SIGSTOP
                os.kill(worker, lose)
                killed.append(lose.name)
                lost.append(worker)

        def on_epoch_begin(self, epoch, logs=None):
            self.armed = epoch > 0
            (worker,) = processes("worker:1")
            read_file(worker).unlink(missing_ok=True)

        def on_epoch_end(self, epoch, logs=None):
            counted.append(int(self.model.optimizer.iterations.numpy()))
            # Lost between two steps, it held up nobody; the next loss meets a worker that is back.
            deadline = time.monotonic() + 60
            while not set(processes("worker:1")) - set(lost) and time.monotonic() < deadline:
                time.sleep(0.05)

    killed, counted, lost = [], [], []
    compiled().fit(endless, steps_per_epoch=steps, epochs=kills + 2, callbacks=[Kill()], verbose=2)
    return {"counted": counted, "killed": killed}


def lose_a_server():
    """SIGKILL to a parameter server in the middle of an epoch."""
    import os
    import signal

    import keras

    class Kill(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 50:
                os.kill(processes("ps")[0], signal.SIGKILL)

    compiled().fit(endless, steps_per_epoch=100_000, callbacks=[Kill()], verbose=0)


def main(master):
    """Run both."""
    spark = (
        SparkSession.builder.master(master)
        .config("spark.ui.enabled", "false")
        .config("spark.driver.memory", "512m")
        .getOrCreate()
    )
    lines = []

    def shown(line):
        lines.append(line)
        sys.stderr.write(f"{line}\n")

    launcher = Launcher(ParameterServer(2), spark=spark, logs=shown, timeout_s=280)
    survived = launcher.run(ride_out, 3, 600)
    answer = {
        **survived.value,
        "restarts": survived.restarts,
        "said": [line for line in lines if "started again" in line],
    }
    began = time.monotonic()
    try:
        launcher.run(lose_a_server)
    except errors.WorkerError as error:
        failure = error.failures[0]
        answer["lost"] = [failure.task, failure.reason, str(error).splitlines()[0]]
        answer["lost_s"] = time.monotonic() - began
    answer["after"] = launcher.run(lambda: str(get_context().task)).value
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
