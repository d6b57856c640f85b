"""REMOTE: runs over Spark Connect that succeed, fail, and do not fit."""

import json
import logging
import sys
import time

from pyspark.sql import SparkSession

from spark_strategy import Launcher, MultiWorker, errors, get_context


class Kept(logging.Handler):
    """Keeps what the library logs."""

    def __init__(self):
        super().__init__()
        self.messages = []

    def emit(self, record):
        """One message."""
        self.messages.append(record.getMessage())


def train():
    """A tiny fit over both ranks."""
    import keras
    import numpy as np

    keras.utils.set_random_seed(1)
    x = np.linspace(-1, 1, 48, dtype="float32")[:, None]
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile(loss="mse", optimizer=keras.optimizers.SGD(0.3))
    model.fit(x, 3 * x, batch_size=48, epochs=25, shuffle=False, verbose=0)
    print(f"trained on rank {get_context().rank}")
    return float(model.get_weights()[0][0, 0])


def fail():
    """Rank 1 raises."""
    if get_context().rank == 1:
        raise ValueError("planned")


def error_of(run):
    """What a run raises, and after how many seconds."""
    began = time.monotonic()
    try:
        run()
    except errors.SparkStrategyError as error:
        cause = error.__cause__
        return {
            "kind": type(error).__name__,
            "text": str(error),
            "cause": None if cause is None else repr(cause),
            "ranks": [one.rank for one in error.failures],
            "seconds": time.monotonic() - began,
        }
    return None


if __name__ == "__main__":
    kept = Kept()
    logging.getLogger("spark_strategy").addHandler(kept)
    logging.getLogger("spark_strategy").setLevel("INFO")
    spark = SparkSession.builder.remote(sys.argv[1]).getOrCreate()
    lines = []
    two = Launcher(MultiWorker(2), logs=lines.append)
    result = two.run(train)
    messages = list(kept.messages)
    answer = {
        "slopes": result.values,
        "hosts": result.hosts,
        "lines": lines,
        "messages": messages,
        "plan": str(two.plan()),
        "fails": error_of(lambda: two.run(fail)),
        "too many": error_of(lambda: Launcher(MultiWorker(3), start_timeout_s=8).run(fail)),
        "again": two.run(lambda: get_context().rank).values,
    }
    print(json.dumps(answer))
