"""A task starts the server of a real model, is answered, and says by which file it is wanted."""

from __future__ import annotations

import os
import pickle
import signal
import time
from pathlib import Path

import keras
import numpy as np
import pyarrow as pa

from spark_strategy.data.blocks import encode
from spark_strategy.data.columns import specs_of
from spark_strategy.ml.asking import canonical
from spark_strategy.ml.models import described
from spark_strategy.serving import Output, ServerFolder, ServerOrder
from spark_strategy.spark.servers import opened

WAIT_S = 60.0


class Shipped:
    """A model that Spark has brought."""

    def __init__(self, model: bytes, file: Path) -> None:
        self._model, self._file = model, file

    def __call__(self) -> bytes:
        """Pickled."""
        return self._model

    def path(self) -> str:
        """The executor's file."""
        return str(self._file)


def test_a_server_is_started_answers_and_ends_by_a_signal(tmp_path: Path) -> None:
    """With the numbers of the model, for a task that knows no more than its columns."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    source, program = described(model, None, None)
    field = {"name": "x", "type": "float", "nullable": False, "metadata": {}}
    specs, asked = canonical(specs_of({"type": "struct", "fields": [field]}, {}), "x")
    limits = {"start_timeout_s": WAIT_S, "idle_s": WAIT_S, "max_models": 1, "max_bytes": 0}
    order = ServerOrder(asked, (Output("y", "float32", (1,)),), 1, **limits)  # type: ignore[arg-type]
    file = tmp_path / "broadcast"
    file.touch()
    folder = ServerFolder(tmp_path / "spark_strategy_model-a")
    shipped = Shipped(pickle.dumps(source), file)
    with opened(folder, order, shipped, name="m", settings={}, timeout_s=WAIT_S) as channel:
        rows = pa.RecordBatch.from_pydict({"x": pa.array([1.0, 2.0, 3.0], pa.float32())})
        block = next(encode(rows, specs, block_bytes=1 << 20))
        channel.send(block.nbytes, block.buffers)
        found = np.frombuffer(channel.take(), "f4")
    np.testing.assert_allclose(
        found, model.predict(np.array([[1.0], [2.0], [3.0]], "f4"), verbose=0)[:, 0], rtol=1e-6
    )
    assert program.inputs[0].shape == (1,)
    assert folder.is_wanted()
    file.unlink()
    assert not folder.is_wanted()
    pid = int(folder.read_state().split()[0])
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + WAIT_S
    while folder.path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert list(tmp_path.iterdir()) == []
