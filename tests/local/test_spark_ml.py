"""Keras estimators and models are Spark ML stages like any other."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
import tf_keras
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.evaluation import (
    BinaryClassificationEvaluator,
    MulticlassClassificationEvaluator,
    RegressionEvaluator,
)
from pyspark.ml.feature import OneHotEncoder, StringIndexer, VectorAssembler
from pyspark.ml.tuning import ParamGridBuilder, TrainValidationSplit
from pyspark.sql import DataFrame, SparkSession

from spark_strategy import (
    Column,
    KerasClassificationModel,
    KerasClassifier,
    KerasEstimator,
    KerasModel,
    KerasRegressor,
    Launcher,
    MultiWorker,
)
from spark_strategy.errors import PlanError
from spark_strategy.ml.building import build as built

pytestmark = pytest.mark.timeout(240)

LAUNCHER = Launcher(MultiWorker(1), logs=None, timeout_s=150)
ROWS = 240


def build(units: int = 8) -> Any:
    """Four numbers to two probabilities."""
    import keras as k

    hidden = k.layers.Dense(units, activation="relu")
    model = k.Sequential([k.Input((4,)), hidden, k.layers.Dense(2, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def line(rate: float = 0.1) -> Any:
    """Two numbers to one."""
    import keras as k

    model = k.Sequential([k.Input((2,)), k.layers.Dense(1)])
    model.compile(k.optimizers.Adam(rate), "mse")
    return model


@pytest.fixture(scope="module")
def frame(spark: SparkSession) -> DataFrame:
    """Two numbers, a word, an answer, and a number that depends on them, or else has no weight."""
    random = np.random.default_rng(0)
    a, b = random.normal(size=(2, ROWS))
    words = np.where(b > 0, "u", np.where(b > -1, "v", "w"))
    rows = {"a": a, "b": b, "word": words, "answer": np.where(a + b > 0, "yes", "no")}
    counts = np.arange(ROWS) % 10 != 7
    rows |= {"y": np.where(counts, 3 * a - b, 100.0), "w": counts.astype(float)}
    rows |= {"held": np.arange(ROWS) % 4 == 0}
    return spark.createDataFrame(pd.DataFrame(rows)).persist()


def stages() -> list[Any]:
    """Spark's own stages, which make sparse and dense vectors."""
    return [
        StringIndexer(inputCol="answer", outputCol="label"),
        StringIndexer(inputCol="word", outputCol="index"),
        OneHotEncoder(inputCols=["index"], outputCols=["hot"]),
        VectorAssembler(inputCols=["a", "b", "hot"], outputCol="features"),
    ]


def classifier() -> KerasClassifier:
    """An estimator with another optimizer than its function's."""
    return KerasClassifier(
        model=build,
        buildArgs={"units": 8},
        launcher=LAUNCHER,
        batchSize=16,
        epochs=4,
        seed=1,
        optimizer=keras.optimizers.Adam(0.03),
        idleTimeout=30.0,
    )


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    """All stages."""
    return Pipeline(stages=[*stages(), classifier()])


@pytest.fixture(scope="module")
def fitted(pipeline: Pipeline, frame: DataFrame) -> PipelineModel:
    """The same, fitted."""
    return pipeline.fit(frame)


def test_a_pipeline_classifies(fitted: PipelineModel, frame: DataFrame) -> None:
    """Columns stay and three are appended; Spark's evaluators read them; the bits are Keras's."""
    scored = fitted.transform(frame)
    added = ["label", "index", "hot", "features", "rawPrediction", "probability", "prediction"]
    assert scored.columns == [*frame.columns, *added]
    accuracy = MulticlassClassificationEvaluator(metricName="accuracy").evaluate(scored)
    assert accuracy > 0.9
    assert BinaryClassificationEvaluator().evaluate(scored) > 0.9
    rows = scored.coalesce(1).select("features", "probability", "prediction").collect()
    matrix = np.array([row.features.toArray() for row in rows], np.float32)
    model = fitted.stages[-1].model
    alone = np.concatenate(
        [model.predict(part, batch_size=1024, verbose=0) for part in np.array_split(matrix, 2)]
    )
    got = np.array([row.probability.toArray() for row in rows])
    np.testing.assert_array_equal(got, alone.astype(np.float64))
    assert [row.prediction for row in rows] == got.argmax(axis=1).tolist()


def test_the_fitted_model_says_how_it_was_trained(fitted: PipelineModel) -> None:
    """History, summary and the Keras model; what the estimator was given goes along."""
    model = fitted.stages[-1]
    assert isinstance(model, KerasClassificationModel)
    assert len(model.history["accuracy"]) == 4
    assert model.summary.rows == ROWS
    assert "1 ranks" in str(model.summary)
    assert model.numClasses == 2
    assert type(model.model.optimizer).__name__ == "Adam"
    assert int(model.model.optimizer.iterations.numpy()) == 4 * ROWS // 16
    assert model.getFeaturesCol() == "features"
    with pytest.raises(PlanError, match="not trained by fit"):
        _ = KerasModel(model.model).summary


def test_thresholds_and_left_out_columns(fitted: PipelineModel, frame: DataFrame) -> None:
    """A threshold of nearly 0 makes a class win; an empty name leaves a column out."""
    model = fitted.stages[-1].copy().setThresholds([1e-30, 1.0])
    model.setRawPredictionCol("").setProbabilityCol("")
    before = PipelineModel(fitted.stages[:-1]).transform(frame)
    scored = model.transform(before)
    assert scored.columns == [*before.columns, "prediction"]
    assert {row.prediction for row in scored.select("prediction").collect()} == {0.0}
    assert fitted.stages[-1].getProbabilityCol() == "probability"
    with pytest.raises(PlanError, match="2 classes, and thresholds"):
        model.setThresholds([0.1, 0.2, 0.7]).transform(before)


def test_a_saved_pipeline_works_in_another_process(
    fitted: PipelineModel, frame: DataFrame, tmp_path: Path
) -> None:
    """One that knows nothing of how it was built; Keras alone opens the archive in it."""
    fitted.write().overwrite().save(f"file://{tmp_path}/pipeline")
    fitted.write().overwrite().save(f"file://{tmp_path}/pipeline")
    (archive,) = tmp_path.rglob("model.keras")
    for ours, theirs in zip(
        keras.saving.load_model(archive).get_weights(),
        fitted.stages[-1].model.get_weights(),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)
    frame.coalesce(1).write.parquet(f"file://{tmp_path}/rows")
    program = f"""
        import json, os, sys
        os.environ["PYSPARK_PYTHON"] = sys.executable
        from pyspark.ml import PipelineModel
        from pyspark.sql import SparkSession
        spark = SparkSession.builder.master("local[1]").getOrCreate()
        model = PipelineModel.load("file://{tmp_path}/pipeline")
        scored = model.transform(spark.read.parquet("file://{tmp_path}/rows"))
        found = [row.prediction for row in scored.select("prediction").collect()]
        last = model.stages[-1]
        print(json.dumps([found, last.history["loss"], last.uid, last.getPredictBatchSize()]))
        spark.stop()
    """
    predictions, losses, uid, batch = json.loads(answer(program))
    here = fitted.transform(frame.coalesce(1)).select("prediction").collect()
    assert predictions == [row.prediction for row in here]
    assert losses == fitted.stages[-1].history["loss"]
    assert (uid, batch) == (fitted.stages[-1].uid, 1024)


def answer(program: str) -> str:
    """The last line that another Python prints."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=150,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_estimators_are_saved_with_all_they_were_given(
    spark: SparkSession, pipeline: Pipeline, tmp_path: Path
) -> None:
    """The build function by value, its arguments, the optimizer, the launcher."""
    path = f"file://{tmp_path}/estimator"
    pipeline.write().save(path)
    again = Pipeline.load(path).getStages()[-1]
    assert again.uid == pipeline.getStages()[-1].uid
    assert again.getBuildArgs() == {"units": 8}
    assert again.getLauncher().topology == MultiWorker(1)
    assert float(again.getOverrides()["optimizer"].learning_rate.numpy()) == pytest.approx(0.03)
    assert again.getModel()(units=3).count_params() == 4 * 3 + 3 + 3 * 2 + 2
    own = f"file://{tmp_path}/own"
    classifier().save(own)
    with pytest.raises(PlanError, match=r"exists. Choose another path, or write\(\).overwrite"):
        classifier().save(own)
    KerasModel(line()).save(f"file://{tmp_path}/cut")
    (tmp_path / "cut" / "model.keras").unlink()
    with pytest.raises(PlanError, match="is no saved model"):
        KerasModel.load(f"file://{tmp_path}/cut")


@keras.saving.register_keras_serializable("test_spark_ml")
class Halving(keras.layers.Layer):
    """A layer that another process does not know."""

    def call(self, x: Any) -> Any:
        """Half the input."""
        return x / 2


def test_custom_objects_that_are_missing_are_named(spark: SparkSession, tmp_path: Path) -> None:
    """With what to do about it; in a process that has them the model loads."""
    path = f"file://{tmp_path}/custom"
    KerasModel(keras.Sequential([keras.Input((2,)), Halving()])).save(path)
    assert KerasModel.load(path).model.layers[0].name.startswith("halving")
    keras.saving.get_custom_objects().pop("test_spark_ml>Halving")
    with pytest.raises(PlanError, match=r"Halving[\s\S]*register_keras_serializable") as raised:
        KerasModel.load(path)
    assert "custom_objects" in str(raised.value)
    with keras.saving.custom_object_scope({"test_spark_ml>Halving": Halving}):
        assert KerasModel.load(path).model.count_params() == 0


# The validator leaves its thread pool to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed running multiprocessing pool:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_grid_over_build_arguments_of_a_regressor(frame: DataFrame) -> None:
    """In parallel: fits wait for each other instead of for slots, and the better one wins.

    With weights, and rows to validate with. ``examples/flights_pipeline.py``, which is tested as
    well, has a CrossValidator over a classifier.
    """
    estimator = KerasRegressor(
        model=line,
        launcher=LAUNCHER,
        featuresCol=["a", "b"],
        labelCol="y",
        weightCol="w",
        validationIndicatorCol="held",
        batchSize=16,
        epochs=10,
        seed=3,
        idleTimeout=5.0,
    )
    evaluator = RegressionEvaluator(labelCol="y", weightCol="w", metricName="rmse")
    grid = ParamGridBuilder().addGrid(estimator.buildArg("rate"), [1e-4, 0.1]).build()
    split = TrainValidationSplit(
        estimator=estimator,
        estimatorParamMaps=grid,
        evaluator=evaluator,
        parallelism=2,
        seed=1,
    )
    found = split.fit(frame)
    assert found.validationMetrics[1] < found.validationMetrics[0]
    best = found.bestModel
    assert float(best.model.optimizer.learning_rate.numpy()) == pytest.approx(0.1)
    assert len(best.history["val_loss"]) == 10
    scored = best.transform(frame)
    assert scored.schema["prediction"].dataType.simpleString() == "double"
    assert evaluator.evaluate(scored) < 0.3


def test_a_pipeline_model_scores_a_stream(
    spark: SparkSession, fitted: PipelineModel, frame: DataFrame, tmp_path: Path
) -> None:
    """The same predictions as in a batch."""
    frame.write.parquet(f"file://{tmp_path}/in")
    rows = spark.readStream.schema(frame.schema).parquet(f"file://{tmp_path}/in")
    query = (
        fitted.transform(rows)
        .writeStream.format("memory")
        .queryName("classified")
        .option("checkpointLocation", str(tmp_path / "checkpoint"))
        .trigger(availableNow=True)
        .start()
    )
    assert query.awaitTermination(90)
    counts = spark.table("classified").groupBy("prediction").count().collect()
    here = fitted.transform(frame).groupBy("prediction").count().collect()
    assert sorted(counts) == sorted(here)


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"epochs": 0}, "a whole number of at least 1 is needed, found 0"),
        ({"batchSize": "many"}, "many"),
        ({"featuresCol": []}, "a column's name, a list of names, or a dictionary"),
        ({"model": "mlp"}, "a compiled Keras model or a function"),
        ({"launcher": 2}, r"a Launcher is needed, as in Launcher\(MultiWorker\(2\)\)"),
        ({"onError": "skip"}, "one of raise, null is needed, found 'skip'"),
        ({"columns": {"x": Column}}, "a Column is needed"),
        ({"idleTimeout": 0}, "a number of seconds above 0"),
    ],
)
def test_parameters_are_checked_when_they_are_set(params: dict[str, Any], text: str) -> None:
    """By the constructor, by setParams, and with the parameter's name, as pyspark.ml does."""
    (name,) = params
    for set_them in (
        lambda: KerasEstimator(**params),
        lambda: KerasEstimator().setParams(**params),
    ):
        with pytest.raises(TypeError, match=text) as raised:
            set_them()
        assert f'"{name}"' in str(raised.value)


def test_params_copy_and_explain_as_in_pyspark() -> None:
    """Setters return the stage; a copy is independent; build arguments are parameters."""
    estimator = classifier().setEpochs(7).setColumns({"features": Column(shape=(2, 2, 1))})
    other = estimator.copy({estimator.epochs: 9, estimator.buildArg("units"): 2})
    assert (estimator.getEpochs(), other.getEpochs()) == (7, 9)
    assert (estimator.getBuildArgs(), other.getBuildArgs()) == ({"units": 8}, {"units": 2})
    assert other.getColumns() == {"features": Column(shape=(2, 2, 1))}
    explained = estimator.explainParams()
    assert "epochs: how often every row is seen (>= 1). (default: 1, current: 7)" in explained
    assert "buildArg_units" in explained
    assert estimator.getOnError() == "raise"
    assert KerasEstimator().getBatchSize() == 32


@pytest.mark.parametrize("library", [keras, tf_keras], ids=["keras", "tf_keras"])
def test_overrides_are_of_the_models_own_keras(library: Any) -> None:
    """What is not overridden stays as the model was compiled."""
    model = library.Sequential([library.Input((2,)), library.layers.Dense(1)])
    model.compile(library.optimizers.SGD(0.5), library.losses.Huber())
    faster = {"optimizer": library.optimizers.Adam(0.25)}
    made = [built(model, {}, given, None)() for given in (faster, {"loss": "mae"})]
    assert [type(one.optimizer) for one in made] == [library.optimizers.Adam, type(model.optimizer)]
    assert [float(one.optimizer.learning_rate.numpy()) for one in made] == [0.25, 0.5]
    assert type(made[0].loss) is library.losses.Huber
    assert made[1].loss == "mae"


def test_what_cannot_be_built_is_refused_before_anything_runs(frame: DataFrame) -> None:
    """A wrong build argument, no model, a model that is not compiled."""
    asked: dict[str, Any] = {"featuresCol": ["a", "b"], "labelCol": "y", "launcher": LAUNCHER}
    plain = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    for params, text in (
        ({"model": line, "buildArgs": {"units": 3}}, "line.* cannot be called with buildArgs"),
        ({}, "no model yet"),
        ({"model": plain}, "is not compiled"),
        ({"model": plain, "buildArgs": {"units": 3}}, "are for a function"),
    ):
        with pytest.raises(PlanError, match=text):
            KerasEstimator(**asked, **params).fit(frame)
