"""What is changed in tf_keras in the child of a run.

It trains on several workers as it is, if all have equally many rows; uneven rows, saving,
resuming, XLA on CPU and the progress bar need care.
"""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

from spark_strategy.keras import local_reads, repair, resume
from spark_strategy.keras.events import before
from spark_strategy.keras.place import Place
from spark_strategy.keras.redirect import into_scratch, through_artifact
from spark_strategy.keras.repairs import xla
from spark_strategy.keras.repairs.end_of_data_tf_keras import END_OF_DATA_TF_KERAS
from spark_strategy.keras.repairs.no_rows_tf_keras import NO_ROWS_TF_KERAS
from spark_strategy.keras.repairs.row_weights_tf_keras import ROW_WEIGHTS_TF_KERAS

REPAIRS = (ROW_WEIGHTS_TF_KERAS, NO_ROWS_TF_KERAS, END_OF_DATA_TF_KERAS)


def adapt(keras: ModuleType, place: Place) -> None:
    """Makes steps, saves, callbacks and progress those of one of several ranks."""
    repair.apply(REPAIRS, keras.__version__)
    _adapt_saving(place)
    _adapt_callbacks(keras.callbacks, place)
    _adapt_restore()
    _adapt_training(place)


def _adapt_saving(place: Place) -> None:
    from tf_keras.src.export import export_lib
    from tf_keras.src.saving import saving_lib
    from tf_keras.src.saving.legacy import save as legacy
    from tf_keras.src.utils import io_utils

    saves = [
        (saving_lib, "save_model"),
        (saving_lib, "save_weights_only"),
        (legacy, "save_model"),
        (legacy, "save_weights"),
        (export_lib.ExportArchive, "write_out"),
    ]
    for owner, name in saves:
        local_reads.reading_locally(owner, name)
        # A TensorFlow checkpoint is several files that begin with the path; TensorFlow itself
        # writes them aside first.
        single = _is_h5 if name == "save_weights" else None
        through_artifact(owner, name, place, chief_if=single)
    if not place.is_chief:
        io_utils.ask_to_proceed_with_overwrite = lambda _path: True


def _is_h5(path: str) -> bool:
    """Whether the legacy ``save_weights`` writes one file."""
    return path.endswith((".h5", ".keras", ".hdf5"))


def _adapt_callbacks(callbacks: ModuleType, place: Place) -> None:
    into_scratch(callbacks.CSVLogger, "filename", place)
    into_scratch(callbacks.TensorBoard, "log_dir", place)
    into_scratch(callbacks.ModelCheckpoint, "filepath", place)
    into_scratch(callbacks.BackupAndRestore, "backup_dir", place)
    before(callbacks.CallbackList, "on_epoch_end", local_reads.equalize)
    before(callbacks.CallbackList, "on_test_begin", local_reads.equalize)


def _adapt_restore() -> None:
    """Creates the checkpoint's counter everywhere.

    Only a rank that finds a backup would, and every new variable is broadcast to all ranks.
    """
    from tf_keras.src.distribute import worker_training_state

    state = worker_training_state.WorkerTrainingState
    restore = state.restore

    @functools.wraps(restore)
    def restore_alike(self: Any) -> Any:
        _ = self.read_checkpoint_manager.checkpoint.save_counter  # reading it creates it
        return restore(self)

    state.restore = restore_alike


def _adapt_training(place: Place) -> None:
    from tf_keras.src.engine import training
    from tf_keras.src.utils import tf_utils

    model = training.Model
    load = model._maybe_load_initial_counters_from_ckpt

    @functools.wraps(load)
    def load_counters(self: Any, steps: Any, epoch: Any) -> Any:
        return resume.agree_on_counters(self, load(self, steps, epoch), place)

    model._maybe_load_initial_counters_from_ckpt = load_counters
    can_compile = tf_utils.can_jit_compile

    @functools.wraps(can_compile)
    def can_jit_compile(warn: bool = False) -> Any:  # noqa: FBT001, FBT002 - upstream's signature
        import tensorflow as tf

        if not xla.cannot_compile(tf.distribute.get_strategy()):
            return can_compile(warn)
        if warn:
            xla.warn()
        return False

    tf_utils.can_jit_compile = can_jit_compile
    if not place.is_chief:
        _silence(training)


def _silence(training: Any) -> None:
    """``verbose="auto"`` shows the chief's bar alone; the numbers are the same on all ranks."""
    resolve = training._get_verbosity

    def get_verbosity(verbose: Any, strategy: Any) -> Any:
        return 0 if verbose == "auto" else resolve(verbose, strategy)

    training._get_verbosity = get_verbosity
