"""What the saving tests run on every process: callbacks and saves, and what they left on disk."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np

import models
from cases import arrays_of, report, sharded
from rank_process import Env

EPOCHS = 3


def reads_files(case: Any) -> Any:
    """Marks a case that is to find what the case before it wrote."""
    case.reads_files = True
    return case


def files(env: Env) -> list[str]:
    """Every file below the shared folder, variables of SavedModels left out."""
    root = Path(env.path("."))
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())


@reads_files
def load_files(env: Env) -> list[str]:
    """What the case before left behind."""
    return files(env)


def save(env: Env, name: str, who: str) -> Any:
    """Trains, saves from all ranks or the chief alone, and trains on; the file stays."""
    task = models.many_metrics(env)
    data = sharded(env, *arrays_of(task))
    task.model.fit(data, epochs=1, verbose=0)
    if who == "all" or env.is_chief:
        if name == "exported":
            task.model.export(env.path(name))
        elif name.endswith(".weights.h5"):
            task.model.save_weights(env.path(name))
        else:
            task.model.save(env.path(name))
    saved = [v.numpy() for v in task.model.weights]
    return {"saved": saved, **report(task.model, task.model.fit(data, epochs=1, verbose=0))}


def save_by_context(env: Env, name: str, who: str) -> Any:
    """As ``get_context().save`` does it, twice over: the second replaces the first."""
    from spark_strategy import keras as adapter

    task = models.batch_norm(env, synchronized=False)
    data = sharded(env, *arrays_of(task))
    for _ in range(2):
        task.model.fit(data, epochs=1, verbose=0)
        if who == "all" or env.is_chief:
            path = env.path(name)
            adapter.save(task.model, path, is_chief=env.is_chief, scratch=str(env.scratch))
    return {"saved": [v.numpy() for v in task.model.weights]}


@reads_files
def load(env: Env, name: str) -> Any:
    """The saved weights, read outside the cluster from the single process's and the ranks' file."""
    if env.rank is not None:
        return files(env)
    single = Path(env.path(name))
    return [weights_in(env, p) for p in (single, single.parent.parent / "ranks" / name)]


def weights_in(env: Env, path: Path) -> Any:
    """The weights in an artifact, by its kind."""
    if path.is_dir():
        loaded = env.tf.saved_model.load(str(path))  # its variables live as long as it does
        return loaded.serve(models.table()[0]).numpy()
    if path.name.endswith(".weights.h5"):
        model = models.many_metrics(env).model
        model.build((None, models.FEATURES))
        model.load_weights(str(path))
    else:
        model = env.keras.saving.load_model(str(path))
    return [v.numpy() for v in model.weights]


def checkpoint(env: Env, pattern: str, options: dict[str, Any]) -> Any:
    """ModelCheckpoint as a user writes it, the same on every rank."""
    task = models.classifier(env)
    data = sharded(env, *arrays_of(task))
    callback = env.keras.callbacks.ModelCheckpoint(env.path(pattern), **options)
    task.model.fit(data, epochs=EPOCHS, verbose=0, validation_data=data, callbacks=[callback])
    return [v.numpy() for v in task.model.weights]


def schedules(env: Env) -> Any:
    """The callbacks that change training by what they see."""
    made = env.keras.callbacks
    task = models.classifier(env)
    data = sharded(env, *arrays_of(task))
    history = task.model.fit(
        data,
        epochs=6,
        verbose=0,
        validation_data=data,
        callbacks=[
            made.LearningRateScheduler(lambda epoch, rate: rate * 0.9),
            made.ReduceLROnPlateau(monitor="val_accuracy", patience=0, min_delta=0.5, factor=0.5),
            made.EarlyStopping(
                monitor="val_loss", patience=1, min_delta=0.02, restore_best_weights=True
            ),
        ],
    )
    return report(task.model, history)


def logged(env: Env, kind: str) -> Any:
    """CSVLogger or TensorBoard as a user writes it, the same on every rank."""
    made = env.keras.callbacks
    task = models.classifier(env)
    data = sharded(env, *arrays_of(task))
    logger = made.CSVLogger if kind == "CSVLogger" else made.TensorBoard
    task.model.fit(data, epochs=2, verbose=0, callbacks=[logger(env.path("log"))])


@reads_files
def read_log(env: Env) -> Any:
    """The log as numbers."""
    columns = np.genfromtxt(env.path("log"), delimiter=",", names=True)
    return {name: columns[name] for name in ("epoch", "loss", "accuracy")}


@reads_files
def event_folders(env: Env) -> Any:
    """Where TensorBoard's files are, and how many."""
    root = Path(env.path("."))
    return sorted(str(path.parent.relative_to(root)) for path in root.rglob("*tfevents*"))


def interrupted(env: Env, save_freq: Any) -> Any:
    """Training that is cut off after the second epoch, and resumed by new models.

    Only the chief sees the backup: the other rank's folder is its own.
    """

    class CutOffError(Exception):
        pass

    class Cut(env.keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            if epoch == 2:
                raise CutOffError

    folder = env.path("backup") if env.is_chief else str(env.scratch / "elsewhere")

    def fit(*more: Any) -> Any:
        env.keras.utils.set_random_seed(11)
        task = models.classifier(env)
        task.model.build((None, models.FEATURES))
        data = sharded(env, *arrays_of(task))
        backup = env.keras.callbacks.BackupAndRestore(folder, save_freq=save_freq)
        callbacks = [backup, *more]
        return report(task.model, task.model.fit(data, epochs=4, verbose=0, callbacks=callbacks))

    with contextlib.suppress(CutOffError):
        fit(Cut())
    return fit()


def failing_save(env: Env) -> Any:
    """A save that raises in the middle, over a complete artifact."""
    from spark_strategy.keras.artifacts import artifact
    from spark_strategy.keras.place import Place

    path = Path(env.path("kept.txt"))
    if env.is_chief:
        path.write_text("complete")
    try:
        with artifact(str(path), Place(env.is_chief, str(env.scratch))) as target:
            Path(target).write_text("half")
            Path(target, "no folder").write_text("fails: the target is a file")
    except OSError:
        return None


def travelling(env: Env) -> Any:
    """A pickled value with models in it, made under the strategy; and what they predict."""
    from spark_strategy.keras.transport import dumps

    shift, keras = 0.25, env.keras

    class Net(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.inner = keras.layers.Dense(models.CLASSES, activation="softmax")

        def call(self, x: Any) -> Any:
            return self.inner(x) + shift

    model = Net()
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    task = models.Task(model, *models.table())
    data = sharded(env, *arrays_of(task))
    task.model.fit(data, epochs=1, verbose=0)
    layers = env.keras.layers
    functional = env.keras.Sequential(
        [env.keras.Input((models.FEATURES,)), layers.Lambda(lambda x: x + shift), layers.Dense(1)]
    )
    value = {"models": [task.model, (functional,)], "note": "both"}
    with_batch_norm = models.batch_norm(env, synchronized=False).model
    with_batch_norm.fit(data, epochs=1, verbose=0)
    if env.is_chief:  # a chief alone must not wait for others
        value["normalized"] = with_batch_norm
    return (
        dumps(value),
        task.model.predict(task.x, verbose=0),
        int(model.optimizer.iterations.numpy()),
    )


def arrived(env: Env, pickled: bytes) -> Any:
    """What the pickled models are worth in a process without a strategy."""
    import cloudpickle

    if env.rank is not None:
        return None
    value = cloudpickle.loads(pickled)
    first, (second,) = value["models"]
    x, y = models.table()
    steps = int(first.optimizer.iterations.numpy())
    predicted = first.predict(x, verbose=0)
    first.fit(x, y, verbose=0)
    return predicted, steps, second.predict(x, verbose=0).shape, value["note"]
