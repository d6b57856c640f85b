"""MASTER WORKERS: a tiny Keras fit, with its output, on a classic session."""

import json
import sys
import time

from pyspark.sql import SparkSession

from spark_strategy import MultiWorker, distribute, get_context

LINES: list[tuple[float, str]] = []


@distribute(MultiWorker(int(sys.argv[2])), logs=lambda line: LINES.append((time.time(), line)))
def train(epochs):
    """Fits a line, says so, and stays for two seconds."""
    import keras
    import numpy as np

    keras.utils.set_random_seed(1)
    x = np.linspace(-1, 1, 48, dtype="float32")[:, None]
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile(loss="mse", optimizer=keras.optimizers.SGD(0.3))
    history = model.fit(x, 3 * x, batch_size=48, epochs=epochs, shuffle=False, verbose=0)
    print(f"trained on rank {get_context().rank}")
    printed = time.time()
    time.sleep(2)
    scratch = get_context().scratch
    return {
        "rank": get_context().rank,
        "loss": history.history["loss"],
        "slope": float(model.get_weights()[0][0, 0]),
        "executor": scratch.rpartition("/spark_strategy-")[0],
        "printed": printed,
    }


if __name__ == "__main__":
    spark = SparkSession.builder.master(sys.argv[1]).getOrCreate()
    result = train.run(25)
    lines = [(at, line) for at, line in LINES if "trained" in line]
    print(json.dumps({"values": result.values, "hosts": result.hosts, "lines": lines}))
