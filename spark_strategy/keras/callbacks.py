"""What Keras 3's callbacks do on each rank, and what fit does before they run."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from spark_strategy.keras import batch_norm, resume
from spark_strategy.keras.artifacts import artifact
from spark_strategy.keras.events import after, before
from spark_strategy.keras.place import Place
from spark_strategy.keras.redirect import into_scratch


def adapt(callbacks: ModuleType, place: Place) -> None:
    """Files of other ranks go to scratch; fit and evaluate start from the same state everywhere."""
    into_scratch(callbacks.CSVLogger, "filename", place)
    into_scratch(callbacks.TensorBoard, "log_dir", place)
    into_scratch(callbacks.ModelCheckpoint, "filepath", place)
    _adapt_backup(callbacks.BackupAndRestore, place)
    events = callbacks.CallbackList
    after(events, "on_train_begin", lambda model: resume.agree(model, place))
    before(events, "on_epoch_end", batch_norm.average)
    before(events, "on_test_begin", batch_norm.average)
    if not place.is_chief:
        _silence(callbacks.ProgbarLogger)


def _adapt_backup(backup: Any, place: Place) -> None:
    """Only the chief touches the backup folder; ``resume`` tells the others what it found."""
    if place.is_chief:
        save = backup._save_model

        def save_model(self: Any) -> None:
            # Keras truncates this file and then writes it: killed in between, no restart succeeds.
            path = self._training_metadata_path
            with artifact(path, place) as self._training_metadata_path:
                save(self)
            self._training_metadata_path = path

        backup._save_model = save_model
    else:
        for name in ("on_train_begin", "on_train_end", "_save_model"):
            setattr(backup, name, _nothing)


def _nothing(_self: Any, _logs: Any = None) -> None:
    """What a rank without a backup of its own does."""


def _silence(progress: Any) -> None:
    """``verbose="auto"`` shows the chief's bar alone; the numbers are the same on all ranks."""
    set_params = progress.set_params

    def quiet(self: Any, params: dict[str, Any]) -> None:
        verbose = 0 if params["verbose"] == "auto" else params["verbose"]
        set_params(self, {**params, "verbose": verbose})

    progress.set_params = quiet
