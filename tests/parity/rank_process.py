"""The body of one process of a parity pool: runs the cases it is sent."""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import tempfile
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cloudpickle


@dataclass(frozen=True)
class Start:
    """What a process is told before TensorFlow is imported; rank None is outside the cluster."""

    flavour: str
    rank: int | None
    tf_config: str | None
    folder: str
    repaired: bool


@dataclass(frozen=True)
class Env:
    """What a case sees: the libraries, its place in the cluster, and a folder all ranks share."""

    keras: Any
    tf: Any
    strategy: Any
    rank: int | None
    folder: Path
    scratch: Path

    @property
    def is_chief(self) -> bool:
        """True on rank 0 and in the single process."""
        return self.rank in (None, 0)

    def global_rows(self, rows: Any) -> Any:
        """Rows of the global batch that a replica sees a part of."""
        replicas = self.strategy.num_replicas_in_sync if self.strategy else 1
        return self.tf.cast(self.tf.shape(rows)[0] * replicas, self.tf.float32)

    def forget_seed(self) -> None:
        """Undoes the harness's seed, as in a program that sets none."""
        from tensorflow.python.eager import context

        context.context()._seed = None

    @property
    def is_keras3(self) -> bool:
        """Whether this is Keras 3 and not tf_keras."""
        return bool(self.keras.__name__ == "keras")

    def path(self, name: str) -> str:
        """A path that means the same file on both ranks and another one in the single process."""
        where = self.folder / ("single" if self.rank is None else "ranks")
        where.mkdir(parents=True, exist_ok=True)
        return str(where / name)


def serve(pipe: Connection, start: Start) -> None:
    """Answers every case with ``("value", result)`` or ``("error", traceback)`` until killed."""
    configure(start)
    env = None
    try:
        env = prepare(start)
        pipe.send_bytes(cloudpickle.dumps(("value", None)))
    except Exception:
        pipe.send_bytes(cloudpickle.dumps(("error", traceback.format_exc())))
    while env is not None:
        try:
            message = pipe.recv_bytes()
        except EOFError:
            return
        pipe.send_bytes(cloudpickle.dumps(answer(env, message)))


def configure(start: Start) -> None:
    """Everything that TensorFlow reads from the environment, in time."""
    for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
        os.environ[name] = "1"
    os.environ.update(
        TF_NUM_INTEROP_THREADS="2",
        TF_CPP_MIN_LOG_LEVEL="3",
        CUDA_VISIBLE_DEVICES="",
        TF_ENABLE_ONEDNN_OPTS="0",
        TF_GRPC_REUSE_PORT="true",
        TF_USE_LEGACY_KERAS="1" if start.flavour == "tf_keras" else "0",
    )
    if start.tf_config is not None:
        os.environ["TF_CONFIG"] = start.tf_config


def prepare(start: Start) -> Env:
    """Installs the adapter as a child of a run would, then builds the strategy."""
    scratch = Path(start.folder) / f"scratch-{start.rank}"
    scratch.mkdir(parents=True, exist_ok=True)
    tempfile.tempdir = str(scratch)  # autograph's files; a process that is killed leaves them
    if start.rank is not None and start.repaired:
        import spark_strategy.keras

        spark_strategy.keras.install(is_chief=start.rank == 0, scratch=str(scratch))
    import tensorflow as tf

    if start.rank is not None:
        from spark_strategy.worker import sharded

        sharded.keep_shards()
    strategy = None if start.rank is None else tf.distribute.MultiWorkerMirroredStrategy()
    keras = importlib.import_module(start.flavour)
    shared = Path(start.folder) / "shared"
    return Env(keras, tf, strategy, start.rank, shared, scratch)


def answer(env: Env, message: bytes) -> tuple[str, Any]:
    """Runs one case on fresh Keras state."""
    try:
        case, args = cloudpickle.loads(message)
        env.keras.backend.clear_session()
        env.keras.mixed_precision.set_global_policy("float32")
        env.keras.utils.set_random_seed(7)
        if env.is_chief and not getattr(case, "reads_files", False):
            shutil.rmtree(env.path("."), ignore_errors=True)
        scope = env.strategy.scope() if env.strategy else contextlib.nullcontext()
        with scope:
            return "value", case(env, *args)
    except BaseException:
        return "error", traceback.format_exc()
