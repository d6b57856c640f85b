"""What is changed in Keras 3 in the child of a run."""

from __future__ import annotations

from types import ModuleType

from spark_strategy.keras import callbacks, repair, saving
from spark_strategy.keras.parameter_server.embedding import SPLIT_EMBEDDING
from spark_strategy.keras.parameter_server.trainer import COORDINATED_FIT
from spark_strategy.keras.parameter_server.updates import ATOMIC_UPDATES
from spark_strategy.keras.place import Place
from spark_strategy.keras.repairs.csv_logger import CSV_LOGGER
from spark_strategy.keras.repairs.end_of_data import END_OF_DATA
from spark_strategy.keras.repairs.jit_compile import JIT_COMPILE
from spark_strategy.keras.repairs.loss_scale import LOSS_SCALE
from spark_strategy.keras.repairs.no_rows import NO_ROWS
from spark_strategy.keras.repairs.optimizer_step import OPTIMIZER_STEP
from spark_strategy.keras.repairs.reduce_logs import REDUCE_LOGS
from spark_strategy.keras.repairs.row_weights import ROW_WEIGHTS
from spark_strategy.keras.repairs.save_alone import SAVE_ALONE
from spark_strategy.keras.repairs.shuffle import shared_seed
from spark_strategy.keras.repairs.steps_per_execution import STEPS_PER_EXECUTION
from spark_strategy.keras.repairs.symbolic_build import SYMBOLIC_BUILD

REPAIRS = (
    SYMBOLIC_BUILD,
    REDUCE_LOGS,
    OPTIMIZER_STEP,
    LOSS_SCALE,
    JIT_COMPILE,
    STEPS_PER_EXECUTION,
    ROW_WEIGHTS,
    NO_ROWS,
    END_OF_DATA,
    SAVE_ALONE,
    CSV_LOGGER,
    ATOMIC_UPDATES,
    SPLIT_EMBEDDING,
    COORDINATED_FIT,
)


def adapt(keras: ModuleType, place: Place) -> None:
    """Mends Keras 3 on TensorFlow; other backends and Keras 2 are left alone."""
    if keras.__version__.startswith("2.") or keras.backend.backend() != "tensorflow":
        return
    repair.apply((*REPAIRS, shared_seed(place)), keras.__version__)
    saving.adapt(keras, place)
    callbacks.adapt(keras.callbacks, place)
