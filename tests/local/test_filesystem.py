"""fsspec's filesystems inside TensorFlow: the whole C interface, through TensorFlow's own calls."""

from __future__ import annotations

import gzip
import io
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import tensorflow as tf
from fsspec.implementations.local import LocalFileSystem

from spark_strategy import errors, filesystem

gfile = tf.io.gfile
LOCAL = "fsspeclocal"
REMOTE = "fsspecremote"
MEMORY = "fsspecmemory"


class _Remote(LocalFileSystem):
    """A disk whose files have no descriptor, as those of any remote filesystem."""

    protocol = "remote"

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        return _Undescribed(path) if mode == "rb" else super()._open(path, mode, **options)


class _Undescribed(io.FileIO):
    """A file that does not tell its descriptor."""

    def fileno(self) -> int:
        """Nothing."""
        raise io.UnsupportedOperation("fileno")


class _Frozen(LocalFileSystem):
    """A disk that does not answer."""

    protocol = "frozen"
    release = threading.Event()

    def info(self, path: str, **kwargs: Any) -> Any:
        """Wait."""
        self.release.wait(30)
        return super().info(path, **kwargs)


@pytest.fixture(scope="module", autouse=True)
def schemes() -> Iterator[None]:
    """fsspec's disk and memory under names of their own; TensorFlow keeps them for ever."""
    filesystem.register(LOCAL, protocol="file")
    filesystem.register(MEMORY, protocol="memory")
    fsspec.register_implementation("remote", _Remote, clobber=True)
    filesystem.register(REMOTE, protocol="remote")
    yield
    _Frozen.release.set()


@pytest.fixture(params=[LOCAL, MEMORY])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty directory in each of them."""
    uri = f"{request.param}://{tmp_path}"
    gfile.makedirs(uri)
    return uri


def wrote(uri: str, text: str) -> str:
    """The URI of a file with that text."""
    with gfile.GFile(uri, "w") as file:
        file.write(text)
    return uri


def test_entries_are_made_listed_moved_and_removed(root: str) -> None:
    """Directories and files as on any disk of TensorFlow's."""
    gfile.makedirs(f"{root}/a/b")
    gfile.makedirs(f"{root}/a/b")
    one = wrote(f"{root}/a/b/one.txt", "1")
    assert gfile.exists(one)
    assert not gfile.exists(f"{root}/nothing")
    assert gfile.isdir(f"{root}/a")
    assert not gfile.isdir(one)
    assert gfile.stat(one).length == 1
    assert gfile.stat(f"{root}/a").is_directory
    gfile.copy(one, f"{root}/a/two.txt")
    gfile.rename(f"{root}/a/two.txt", f"{root}/a/three.txt")
    wrote(f"{root}/a/four.txt", "four")
    gfile.rename(f"{root}/a/four.txt", f"{root}/a/three.txt", overwrite=True)
    assert sorted(gfile.listdir(f"{root}/a")) == ["b", "three.txt"]
    assert gfile.GFile(f"{root}/a/three.txt").read() == "four"
    gfile.rename(f"{root}/a/b", f"{root}/a/moved")
    assert [names for _, _, names in gfile.walk(root)] == [[], ["three.txt"], ["one.txt"]]
    gfile.remove(f"{root}/a/three.txt")
    gfile.rmtree(f"{root}/a")
    assert gfile.listdir(root) == []


def test_patterns_match_as_tensorflow_matches(tmp_path: Path) -> None:
    """The same answers as TensorFlow's own local files give."""
    for name in ("a1/x.txt", "a1/y.txt", "a2/x.txt", "b/x.txt", "b/[x].txt", "b/.hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    patterns = ("*", "*/*", "a*/x.txt", "a[12]/?.txt", "[^a]/*", "[!a]*/x*", "b/\\[x].txt")
    for pattern in (*patterns, "b/x.txt", "c/*", "b/x.txt/*", "**/x.txt"):
        own = [f"{LOCAL}://{path}" for path in gfile.glob(f"{tmp_path}/{pattern}")]
        assert sorted(gfile.glob(f"{LOCAL}://{tmp_path}/{pattern}")) == sorted(own), pattern


@pytest.mark.parametrize(
    ("act", "kind"),
    [
        (lambda root: gfile.GFile(f"{root}/no").read(), tf.errors.NotFoundError),
        (lambda root: gfile.stat(f"{root}/no"), tf.errors.NotFoundError),
        (lambda root: gfile.remove(f"{root}/no"), tf.errors.NotFoundError),
        (lambda root: gfile.rmtree(f"{root}/no"), tf.errors.NotFoundError),
        (lambda root: gfile.rename(f"{root}/no", f"{root}/x"), tf.errors.NotFoundError),
        (lambda root: gfile.remove(f"{root}/folder"), tf.errors.FailedPreconditionError),
        (lambda root: wrote(f"{root}/folder", ""), tf.errors.FailedPreconditionError),
        (lambda root: tf.io.read_file(f"{root}/folder"), tf.errors.FailedPreconditionError),
    ],
)
def test_errors_are_tensorflows_and_name_the_path(root: str, act: Any, kind: type) -> None:
    """What goes wrong has the class that TensorFlow's own files have for it."""
    gfile.makedirs(f"{root}/folder")
    with pytest.raises(kind, match=root):
        act(root)


def test_files_are_appended_and_seen_after_a_flush(root: str) -> None:
    """As TensorBoard's event files and CSV logs need it."""
    file = gfile.GFile(f"{root}/log", "w")
    file.write("a")
    file.flush()
    if root.startswith(LOCAL):  # fsspec's memory shows a file when it is closed
        assert gfile.GFile(f"{root}/log").read() == "a"
    file.close()
    with gfile.GFile(f"{root}/log", "a") as more:
        more.write("b")
        assert more.tell() == 2
    with gfile.GFile(f"{root}/new", "a") as more:
        more.write("c")
    assert gfile.GFile(f"{root}/log").read() == "ab"
    assert gfile.GFile(f"{root}/new").read() == "c"


@pytest.mark.parametrize("compression", ["", "GZIP"])
@pytest.mark.parametrize("scheme", [LOCAL, REMOTE])
def test_records_are_read_as_from_tensorflows_own_files(
    tmp_path: Path, scheme: str, compression: str
) -> None:
    """Small and large records, small and large reads, several readers of one file at once."""
    random = np.random.default_rng(0)
    sizes = [0, 1, 100, 5_000_000, 12_000_000, *random.integers(0, 50_000, 300).tolist()]
    records = [random.bytes(int(size)) for size in sizes]
    path = f"{scheme}://{tmp_path}/records"
    with tf.io.TFRecordWriter(path, compression) as writer:
        for record in records:
            writer.write(record)
    for buffer_bytes in (None, 1_000, 8 << 20):
        for place in (path, f"{tmp_path}/records"):
            read = tf.data.TFRecordDataset(place, compression, buffer_bytes)
            assert list(read.as_numpy_iterator()) == records

    def count(_: int) -> int:
        return sum(1 for _ in tf.data.TFRecordDataset(path, compression))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(count, range(4))) == [len(records)] * 4
    together = tf.data.Dataset.range(4).interleave(
        lambda _: tf.data.TFRecordDataset(path, compression), cycle_length=4, num_parallel_calls=4
    )
    assert sum(1 for _ in together) == 4 * len(records)


@pytest.mark.parametrize("scheme", [LOCAL, REMOTE])
def test_reads_anywhere_give_what_is_there(tmp_path: Path, scheme: str) -> None:
    """Jumps back and forth, beyond the end, over borders of blocks, and in a growing file."""
    content = np.random.default_rng(1).bytes(11_000_003)
    (tmp_path / "file").write_bytes(content)
    file = gfile.GFile(f"{scheme}://{tmp_path}/file", "rb")
    places = [0, 5, 10_999_999, 262_140, 262_144, 4_456_440, 9_000_000, 11_000_003, 0, 131_072]
    for place in places:
        file.seek(place)
        assert file.read(300_000) == content[place : place + 300_000]
    assert bytes(tf.io.read_file(f"{scheme}://{tmp_path}/file").numpy()) == content
    with (tmp_path / "file").open("ab") as more:
        more.write(b"more")
    file.seek(11_000_000)
    assert file.read() == content[-3:] + b"more"


def test_checkpoints_models_and_memory_regions(root: str) -> None:
    """What reads at random and writes in pieces: checkpoints, SavedModel."""
    values = tf.Variable(tf.random.stateless_uniform([300, 300], [1, 2]))
    saved = tf.train.Checkpoint(values=values).save(f"{root}/checkpoints/one")
    other = tf.Variable(tf.zeros([300, 300]))
    tf.train.Checkpoint(values=other).restore(saved).assert_consumed()
    np.testing.assert_array_equal(other, values)

    module = tf.Module()
    module.values = values
    module.add = tf.function(
        lambda x: x + module.values, input_signature=[tf.TensorSpec([300, 300])]
    )
    tf.saved_model.save(module, f"{root}/model")
    again = tf.saved_model.load(f"{root}/model")
    np.testing.assert_array_equal(again.add(values), 2 * values)


def test_what_is_written_elsewhere_is_seen(tmp_path: Path) -> None:
    """Nothing is remembered of directories; other programs read what was written."""
    uri = f"{LOCAL}://{tmp_path}"
    assert gfile.listdir(uri) == []
    (tmp_path / "new").write_text("x")
    assert gfile.listdir(uri) == ["new"]
    with tf.io.TFRecordWriter(f"{uri}/zipped", "GZIP") as writer:
        writer.write(b"record")
    assert gzip.decompress((tmp_path / "zipped").read_bytes())[12:18] == b"record"


def test_no_request_waits_for_ever(tmp_path: Path) -> None:
    """A filesystem that does not answer ends in DeadlineExceededError."""
    fsspec.register_implementation("frozen", _Frozen, clobber=True)
    filesystem.register("frozen", timeout_s=0.2)
    with pytest.raises(tf.errors.DeadlineExceededError, match=r"frozen://.*within 0\.2 s"):
        gfile.stat(f"frozen://{tmp_path}")


def test_a_missing_implementation_is_named() -> None:
    """A scheme is known before its package is there; using it says what to install."""
    filesystem.register("dropbox")
    with pytest.raises(tf.errors.FailedPreconditionError, match="dropbox"):
        gfile.exists("dropbox://x") or gfile.stat("dropbox://x")


@pytest.mark.parametrize("name", ["file", "gs", "ram", "", "no scheme", "s3://"])
def test_only_schemes_are_registered(name: str) -> None:
    """TensorFlow's own stay its own, and a typing error is named."""
    with pytest.raises(errors.PlanError, match="a scheme is a name"):
        filesystem.register(name)
