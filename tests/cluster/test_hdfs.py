"""A real HDFS under TensorFlow: data, checkpoints, models, dead DataNodes and NameNodes."""

from __future__ import annotations

import getpass
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hdfs import Hdfs, configuration
from site_of_processes import Site, free_ports

from spark_strategy import filesystem

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

gfile = tf.io.gfile


@pytest.fixture(scope="module")
def hdfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hdfs]:
    """A NameNode and two DataNodes."""
    made = Hdfs(tmp_path_factory.mktemp("hdfs"))
    filesystem.register("hdfs", timeout_s=20)
    yield made
    made.close()


def write(path: str, numbers: range, compression: str = "") -> None:
    """A TFRecord file of Examples with a float feature x."""
    with tf.io.TFRecordWriter(path, compression) as writer:
        for number in numbers:
            feature = tf.train.Feature(float_list=tf.train.FloatList(value=[number]))
            example = tf.train.Example(features=tf.train.Features(feature={"x": feature}))
            writer.write(example.SerializeToString())


def test_files_and_directories(hdfs: Hdfs) -> None:
    """TensorFlow's own calls, and its classes of errors."""
    root = f"{hdfs.uri}/tests/entries"
    gfile.makedirs(f"{root}/a/b")
    with gfile.GFile(f"{root}/a/b/x.txt", "w") as file:
        file.write("hello")
        file.flush()
        # The NameNode knows, so Hadoop's clients see it; hdfs-native reads complete files only.
        assert gfile.stat(f"{root}/a/b/x.txt").length == 5
    with gfile.GFile(f"{root}/a/b/x.txt", "a") as file:
        file.write(" again")
    gfile.copy(f"{root}/a/b/x.txt", f"{root}/a/y.txt")
    gfile.rename(f"{root}/a/y.txt", f"{root}/a/b/x.txt", overwrite=True)
    assert gfile.GFile(f"{root}/a/b/x.txt").read() == "hello again"
    gfile.rename(f"{root}/a/b", f"{root}/a/c")
    assert gfile.glob(f"{root}/*/[c]/x.*") == [f"{root}/a/c/x.txt"]
    assert gfile.stat(f"{root}/a/c/x.txt").length == 11
    assert abs(gfile.stat(f"{root}/a/c/x.txt").mtime_nsec / 1e9 - time.time()) < 600
    for act, kind in (
        (lambda: gfile.GFile(f"{root}/no").read(), tf.errors.NotFoundError),
        (lambda: gfile.remove(f"{root}/no"), tf.errors.NotFoundError),
        (lambda: gfile.remove(f"{root}/a"), tf.errors.FailedPreconditionError),
        (lambda: tf.io.read_file(f"{root}/a"), tf.errors.FailedPreconditionError),
        (lambda: gfile.makedirs(f"{root}/a/c/x.txt/z"), tf.errors.FailedPreconditionError),
    ):
        with pytest.raises(kind, match=root):
            act()
    gfile.rmtree(root)
    assert not gfile.exists(root)


def test_two_workers_train_on_it(hdfs: Hdfs, tmp_path: Path) -> None:
    """Each reads its share; callbacks, models and Spark ML stages are there; default filesystem."""
    import keras

    for kind, compression in (("plain", ""), ("zipped", "GZIP")):
        end = ".gz" if compression else ""
        for number in range(3):
            numbers = range(number * 50, number * 50 + 50)
            write(f"{hdfs.uri}/data/{kind}/part-{number}{end}", numbers, compression)
    home = f"{hdfs.uri}/user/{getpass.getuser()}"
    write(f"{home}/mine/part-0", range(5))
    (tmp_path / "site").mkdir()
    site = Site(tmp_path / "site")
    try:
        # This checkout's library, also where another one is installed.
        places = {"HADOOP_CONF_DIR": str(hdfs.conf), "PYTHONPATH": str(Path(__file__).parents[2])}
        program = site.program("on_hdfs", hdfs.uri, **places)
        answer = program.answer(240)
    finally:
        site.close()
    assert answer["default"] == hdfs.uri
    assert answer["relative"] == [f"{home}/mine/part-0"]
    ranks = answer["ranks"]
    for kind in ("plain", "zipped", "table"):
        own = [rank["seen"][kind] for rank in ranks]
        assert all(own)
        assert sorted(own[0] + own[1]) == [float(x) for x in range(150)]
    assert [rank["epochs_after"] for rank in ranks] == [1, 1]

    result = f"{hdfs.uri}/results"
    names = set(gfile.listdir(result))
    assert {"last.keras", "last.weights.h5", "saved_model", "logs", "log.csv"} <= names
    assert {"epoch-2.keras", "epoch-2.weights.h5"} <= names
    assert not [name for name in names if "partial" in name]
    for name in ("last.keras", "epoch-2.keras"):
        model = keras.saving.load_model(f"{result}/{name}")
        assert float(model.get_weights()[0][0, 0]) == pytest.approx(ranks[0]["weight"])
    served = tf.saved_model.load(f"{result}/saved_model")
    np.testing.assert_allclose(
        served.serve(tf.constant([[1.0]])), model(np.array([[1.0]])), rtol=1e-5
    )
    events = gfile.glob(f"{result}/logs/train/events.*")
    assert len(list(tf.data.TFRecordDataset(events))) > 2
    assert len(gfile.GFile(f"{result}/log.csv").read().splitlines()) == 3

    before, *after = answer["stages"]["weights"]
    assert after == [before, before]
    assert answer["stages"]["epochs"] == 7
    (archive,) = gfile.glob(f"{hdfs.uri}/stages/fitted/stages/*/model.keras")
    weights = keras.saving.load_model(archive).get_weights()
    assert [float(one.sum()) for one in weights] == before


@pytest.mark.usefixtures("leaves_nothing_here")
def test_ranks_know_the_drivers_name_services(hdfs: Hdfs, site: Site, tmp_path: Path) -> None:
    """Only the driver has Hadoop's configuration; the first NameNode of two does not answer.

    Every public path is on the default filesystem: a rank's files and models, the evaluator's
    checkpoints and events, what predict is given, and Spark ML's stages.
    """
    (dead,) = free_ports(1)
    names = "org.apache.hadoop.hdfs.server.namenode.ha.ConfiguredFailoverProxyProvider"
    (tmp_path / "core-site.xml").write_text(configuration(fs_defaultFS="hdfs://ns1"))
    settings = {
        "dfs_nameservices": "ns1",
        "dfs_ha_namenodes_ns1": "nn1,nn2",
        "dfs_namenode_rpc-address_ns1_nn1": f"127.0.0.1:{dead}",
        "dfs_namenode_rpc-address_ns1_nn2": hdfs.uri.partition("//")[2],
        "dfs_client_failover_proxy_provider_ns1": names,
    }
    (tmp_path / "hdfs-site.xml").write_text(configuration(**settings))

    program = site.program("name_service_on_hdfs", "hdfs://ns1", HADOOP_CONF_DIR=str(tmp_path))
    answer = program.answer(240)

    rank, home = answer["rank"], f"hdfs://ns1/user/{getpass.getuser()}"
    assert rank["conf"] == "/nowhere"
    assert rank["files"]
    assert all(path.startswith(f"{home}/table/part-") for path in rank["files"])
    assert rank["rows"] == 20
    assert rank["there"]
    kernel = pytest.approx(rank["kernel"])
    assert answer["evaluated"] == [["hdfs://ns1/watched/epoch-1.keras", {"kernel": kernel}]]
    assert answer["scores"] == [kernel] * 3
    assert answer["kept"][0] == answer["kept"][1]
    assert gfile.glob(f"{hdfs.uri}/events/events.*")


@pytest.mark.usefixtures("leaves_nothing_here")
def test_spark_and_tensorflow_share_records_on_it(hdfs: Hdfs, site: Site) -> None:
    """What Spark writes over other rows it reads back, and so do two workers, each its share."""
    program = site.program("tfrecord_on_hdfs", hdfs.uri, HADOOP_CONF_DIR=str(hdfs.conf))
    answer = program.answer(200)
    rows = [[number, f"ü{number}", [float(number), float(-number)]] for number in range(300)]
    assert answer["before"] == 7
    assert answer["schema"] == "struct<id:bigint,name:string,pair:array<float>>"
    assert answer["back"] == rows
    assert len(answer["names"]) == 4
    assert all(name.endswith(".tfrecord.gz") for name in answer["names"])
    first, second = answer["ranks"]
    assert first["share"]
    assert second["share"]
    assert sorted(first["share"] + second["share"]) == rows
    assert [first["steps"], second["steps"]] == [5, 5]
    assert sorted(first["whole"]) == sorted(second["whole"]) == rows
    folder = f"{hdfs.uri}/user/{getpass.getuser()}/records"
    names = gfile.listdir(folder)
    assert sorted(names) == sorted([*answer["names"], "_SUCCESS"])


def test_reading_goes_on_when_a_datanode_dies(hdfs: Hdfs) -> None:
    """The other one has every block."""
    path = f"{hdfs.uri}/tests/replicated"
    record = b"x" * 100_000
    with tf.io.TFRecordWriter(path) as writer:
        for _ in range(400):
            writer.write(record)
    records = iter(tf.data.TFRecordDataset(path))
    assert next(records).numpy() == record
    hdfs.datanodes[0].process.send_signal(signal.SIGKILL)
    hdfs.datanodes[0].process.wait(20)
    assert sum(1 for one in records if one.numpy() == record) == 399
    assert sum(1 for _ in tf.data.TFRecordDataset(path)) == 400


def test_a_namenode_that_is_away_is_a_clear_error(hdfs: Hdfs) -> None:
    """Frozen or dead: within the deadline, with the path. Last, as there is no way back."""
    filesystem.register("hdfs", timeout_s=3)
    path = f"{hdfs.uri}/tests/replicated"
    hdfs.namenode.process.send_signal(signal.SIGSTOP)
    for end in (signal.SIGSTOP, signal.SIGKILL):
        hdfs.namenode.process.send_signal(end)
        began = time.monotonic()
        with pytest.raises(
            (tf.errors.DeadlineExceededError, tf.errors.UnavailableError), match=path
        ):
            gfile.stat(path)
        assert time.monotonic() - began < 10
