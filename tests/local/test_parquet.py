"""Parquet that the ranks read themselves: every row once, in the same steps, only what is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.ml.linalg import Vectors, VectorUDT
from pyspark.sql import SparkSession
from pyspark.sql.types import StructType

from spark_strategy import Column, Launcher, MultiWorker, get_context
from spark_strategy.data.paths import FileRoot
from spark_strategy.errors import DataError, PlanError, SparkStrategyError
from spark_strategy.worker import listing

pytestmark = pytest.mark.usefixtures("leaves_nothing")

ROWS = 1500


def seen(folder: str, **options: Any) -> list[list[list[int]]]:
    """The ids of each batch of two epochs."""
    rows = get_context().parquet(folder, batch_size=64, features="id", **options)
    return [[batch.numpy().tolist() for batch in rows] for _ in range(2)]


def everything(uneven: str, one: str) -> Any:
    """Ids in order and shuffled, of uneven files and of one row group; a fit on two columns."""
    import keras

    found = {
        "ordered": seen(uneven),
        "shuffled": seen(uneven, shuffle=300, seed=3),
        "one": seen(one),
        "short": seen(one, drop_remainder=True),
    }
    rows = get_context().parquet(uneven, batch_size=64, features=["a", "b"], label="y")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), "mse", weighted_metrics=["mae"])
    model.fit(rows, epochs=2, verbose=0)
    return found, int(model.optimizer.iterations.numpy()), int(rows.cardinality())


def write(path: Path, ids: range, group_rows: int) -> None:
    """A file of rows whose y is twice a."""
    a = np.asarray(ids, np.float32) / ROWS
    table = pa.table(
        {"id": list(ids), "a": a, "b": 1 - a, "y": 2 * a, "other": ["x" * 50] * len(a)}
    )
    pq.write_table(table, path, row_group_size=group_rows)


def test_every_row_is_read_once_by_one_rank(spark: SparkSession, tmp_path: Path) -> None:
    """Files and row groups of uneven sizes; one row group for two ranks; shuffled; fit."""
    uneven, one = tmp_path / "uneven", tmp_path / "one"
    uneven.mkdir()
    one.mkdir()
    write(uneven / "a.parquet", range(1000), 170)
    write(uneven / "b.parquet", range(1000, 1001), 10)
    write(uneven / "c.parquet", range(0), 10)
    write(uneven / "d.parquet", range(1001, ROWS), 1000)
    (uneven / "_SUCCESS").touch()
    write(one / "a.parquet", range(ROWS), ROWS)
    values = (
        Launcher(MultiWorker(2), spark=spark, logs=None)
        .run(everything, str(uneven), str(one))
        .values
    )

    steps = -(-ROWS // 64)
    for name in ("ordered", "shuffled", "one", "short"):
        ranks = [value[0][name] for value in values]
        for epoch in range(2):
            pairs = list(zip(ranks[0][epoch], ranks[1][epoch], strict=True))
            sizes = [len(a) + len(b) for a, b in pairs]
            assert sizes == [64] * (steps - 1) + ([ROWS % 64] if name != "short" else [])
            ids = [x for a, b in pairs for x in a + b]
            assert len(set(ids)) == len(ids)
            assert name == "short" or sorted(ids) == list(range(ROWS))
        assert (ranks[0][0] == ranks[0][1]) == (name != "shuffled")
    assert [value[1:] for value in values] == [(2 * steps, steps)] * 2


def elements(folder: str) -> Any:
    """One batch of all that Spark wrote there."""
    rows = get_context().parquet(
        folder,
        batch_size=100,
        features={
            "number": "n",
            "when": "t",
            "text": "s",
            "array": "x",
            "vector": "v",
            "some": "r",
        },
        label="year",
        columns={"r": Column(ragged=True), "n": Column(fill=-1)},
    )
    ((x, y),) = list(rows)
    found = {name: value.numpy() for name, value in x.items() if name != "some"}
    return found | {"some": x["some"].to_list(), "year": y.numpy()}


def test_what_spark_wrote_is_read_as_spark_feeds_it(spark: SparkSession, tmp_path: Path) -> None:
    """Nulls, timestamps, arrays, vectors, a partition column; a map that nobody asks for."""
    rows = [
        (k, k or None, f"s{k}", [0.5, float(k)], [1] * k, {"a": 1}, 2013 + k % 2,
         Vectors.dense([1, k]) if k % 3 else Vectors.sparse(2, {1: float(k)}))
        for k in range(6)
    ]  # fmt: skip
    names = "id long, n int, s string, x array<double>, r array<int>, m map<string, int>, year int"
    schema = StructType.fromDDL(names).add("v", VectorUDT())
    frame = spark.createDataFrame(rows, schema).selectExpr(
        "*", "timestamp_micros(id * 1000001) as t"
    )
    frame.repartition(1).sortWithinPartitions("id").write.partitionBy("year").parquet(
        str(tmp_path / "rows")
    )

    launcher = Launcher(MultiWorker(1), spark=spark, logs=None)
    found = launcher.run(elements, str(tmp_path / "rows")).value

    order = [0, 2, 4, 1, 3, 5]
    assert found["year"].tolist() == [2013] * 3 + [2014] * 3
    assert found["number"].tolist() == [k or -1 for k in order]
    assert found["when"].tolist() == [k * 1000001 for k in order]
    assert found["text"].tolist() == [f"s{k}".encode() for k in order]
    assert found["array"].tolist() == [[0.5, k] for k in order]
    assert found["vector"].tolist() == [[1 if k % 3 else 0, k] for k in order]
    assert found["some"] == [[1] * k for k in order]


def refusals(folder: str) -> list[str]:
    """What is said of requests that make no sense."""
    found = []
    for options in (
        {"features": "nope"},
        {"features": "id", "columns": {"zz": Column(fill=0)}},
        {"batch_size": 0},
    ):
        with pytest.raises(PlanError) as caught:
            get_context().parquet(folder, **{"batch_size": 4, **options})
        found.append(str(caught.value))
    (Path(folder) / "a.parquet").write_text("no Parquet")
    with pytest.raises(PlanError) as caught:
        get_context().parquet(folder, batch_size=4)
    return [*found, str(caught.value)]


def test_what_makes_no_sense_is_named(spark: SparkSession, tmp_path: Path) -> None:
    """With what there is instead."""
    write(tmp_path / "a.parquet", range(10), 10)
    launcher = Launcher(MultiWorker(1), spark=spark, logs=None)
    column, declared, size, content = launcher.run(refusals, str(tmp_path)).value

    assert "no column 'nope'" in column
    assert "the files have id, a, b, y, other" in column
    assert "no column 'zz'" in declared
    assert "batch_size is the global batch size" in size
    assert "a.parquet is no Parquet file" in content


def test_a_row_that_is_no_tensor_is_a_data_error(spark: SparkSession, tmp_path: Path) -> None:
    """Also after TensorFlow has carried it; a time in nanoseconds is not rounded."""
    times = pa.array([1_700_000_000_000_000_000, 1_700_000_000_000_000_001], pa.timestamp("ns"))
    pq.write_table(pa.table({"t.1": times, "id": [1, 2]}), tmp_path / "a.parquet")

    def train(folder: str) -> list[int]:
        rows = get_context().parquet(folder, batch_size=2, features="t.1", label="id")
        return [int(x) for x, _ in rows.unbatch()]

    with pytest.raises(DataError, match=r"Column 't\.1' .*since 1970.*microseconds") as raised:
        Launcher(MultiWorker(1), spark=spark, logs=None).run(train, str(tmp_path))
    assert "in train" in str(raised.value)


@pytest.mark.parametrize(
    ("mark", "kind", "file"),
    [
        ("_delta_log/00000000000000000000.json", "Delta Lake", "part-0.parquet"),
        ("_delta_log/00000000000000000000.json", "Delta Lake", "year=2013/part-0.parquet"),
        ("metadata/v1.metadata.json", "Iceberg", "data/year=2013/part-0.parquet"),
        (".hoodie/hoodie.properties", "Hudi", "2013/01/part-0.parquet"),
    ],
)
def test_a_table_with_a_log_of_its_own_is_not_read_as_parquet(
    tmp_path: Path, mark: str, kind: str, file: str
) -> None:
    """Rows that were deleted would come back; the folder, one below it, and a pattern are refused.

    Files that are named one by one are taken: the table's log may have named them.
    """
    data = tmp_path / "table" / file
    for path in (data, tmp_path / "table" / mark):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    root = FileRoot()
    for pattern in (f"{tmp_path}/table", str(data.parent), f"{data.parent}/*.parquet"):
        with pytest.raises(PlanError, match=rf"{tmp_path}/table is a {kind} table") as caught:
            listing.rows_of_tables(pattern, root)
        assert f"spark.read.format('{kind.split(maxsplit=1)[0].lower()}').load" in str(caught.value)

    assert [one.path for one in listing.rows_of_tables(str(data), root)] == [str(data)]


def test_a_delta_table_is_refused_to_the_ranks(spark: SparkSession, tmp_path: Path) -> None:
    """The run ends with the reason."""
    (tmp_path / "_delta_log").mkdir()
    write(tmp_path / "old.parquet", range(10), 10)

    with pytest.raises(SparkStrategyError, match="is a Delta Lake table"):
        Launcher(MultiWorker(1), spark=spark).run(seen, str(tmp_path))
