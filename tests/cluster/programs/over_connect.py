"""REMOTE: runs of every topology over Spark Connect; some fail, and some do not fit."""

import json
import logging
import sys
import time

from pyspark.sql import SparkSession

from spark_strategy import (
    Independent,
    Launcher,
    MultiWorker,
    ParameterServer,
    distribute,
    errors,
    get_context,
)


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


def learn_rows():
    """A tiny asynchronous fit on the rows that Spark sends."""
    import keras

    rows = get_context().dataset(batch_size=16, features="x", label="y")
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(loss="mse", optimizer=keras.optimizers.SGD(0.3))
    model.fit(rows, epochs=40, verbose=0)
    steps = int(model.optimizer.iterations.numpy())
    return {"slope": float(model.get_weights()[0][0, 0]), "steps": steps}


@distribute(Independent(2))
def trial(number):
    """The number twice; 2 fails."""
    if number == 2:
        raise ValueError("planned")
    return 2 * number


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
    rows = spark.range(64).selectExpr("cast(id / 32 - 1 as float) x", "cast(3 * x as float) y")
    trials = trial.map([{"number": number} for number in (1, 2, 3)])
    answer = {
        "slopes": result.values,
        "hosts": result.hosts,
        "lines": lines,
        "messages": messages,
        "plan": str(two.plan()),
        "fails": error_of(lambda: two.run(fail)),
        "too many": error_of(lambda: Launcher(MultiWorker(5), start_timeout_s=8).run(fail)),
        "asynchronous": Launcher(ParameterServer(2)).on(rows).run(learn_rows).value,
        "chief here": error_of(lambda: Launcher(ParameterServer(1, chief="driver")).run(fail)),
        "trials": trials.succeeded,
        "failed trials": {item: str(error) for item, error in trials.failed.items()},
        "again": two.run(lambda: get_context().rank).values,
    }
    print(json.dumps(answer))
