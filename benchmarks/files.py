"""Files: TensorFlow's reads through the fsspec plugin, against what is below it, in the same run.

Local: a TFRecord file through fsspec's ``file`` against TensorFlow's own path. HDFS: the bytes of
the same file on a real HDFS (NameNode and two DataNodes on this machine) by tf.data through the
plugin, against hdfs-native's file read in pieces of the same size; and for information, against its
stream, whose chunks of 64 KiB nobody keeps, and ``tf.io.read_file`` against reading the whole file
at once. In turns, the median ratio.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import report

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "cluster"))

LOCAL, HDFS = 0.95, 0.9
SCHEME = "fsspecfile"
READ_BYTES = 4 << 20
RECORD_BYTES = 1000


def main() -> None:
    """Measure both, print, judge."""
    asked = report.arguments(__doc__ or "", rounds=9, mib=256)
    import tensorflow as tf

    from spark_strategy import filesystem

    filesystem.register(SCHEME, protocol="file")
    filesystem.register("hdfs")
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/records"
        with tf.io.TFRecordWriter(path) as writer:
            for _ in range((asked.mib << 20) // RECORD_BYTES):
                writer.write(b"x" * RECORD_BYTES)
        local = ratios(
            asked.rounds, lambda: records(f"{SCHEME}://{path}"), lambda: records(path), "local"
        )
        hdfs = on_hdfs(Path(folder), path, asked.rounds)
    found = {"local": statistics.median(local)}
    found |= {name: statistics.median(one) for name, one in hdfs.items()}
    worst = min(found["local"] / LOCAL, found["hdfs"] / HDFS)
    report.finish(
        "files",
        ratio=worst,
        target=f"local at least {LOCAL}, hdfs at least {HDFS}; 1 is both",
        met=worst >= 1,
        check=asked.check,
        mib=asked.mib,
        **{name: round(value, 3) for name, value in found.items()},
        local_ratios=[round(one, 2) for one in local],
        hdfs_ratios=[round(one, 2) for one in hdfs["hdfs"]],
    )


def ratios(
    rounds: int, ours: Callable[[], float], floor: Callable[[], float], name: str
) -> list[float]:
    """Speed of ours by that of the floor, in turns; the first of each is not counted."""
    ours()
    floor()
    found = []
    for _ in range(rounds):
        below, own = floor(), ours()
        report.progress(f"{name}: floor {below:.2f} s, plugin {own:.2f} s")
        found.append(below / own)
    return found


def records(path: str) -> float:
    """Seconds to read all records."""
    import tensorflow as tf

    began = time.monotonic()
    for _ in tf.data.TFRecordDataset(path, buffer_size=READ_BYTES).batch(1000):
        pass
    return time.monotonic() - began


def on_hdfs(folder: Path, path: str, rounds: int) -> dict[str, list[float]]:
    """The same file on HDFS."""
    import hdfs_native
    import tensorflow as tf
    from hdfs import Hdfs

    hdfs = Hdfs(folder)
    try:
        tf.io.gfile.copy(path, f"{hdfs.uri}/records")
        size = Path(path).stat().st_size
        client = hdfs_native.Client(hdfs.uri)

        def stream() -> float:
            began = time.monotonic()
            assert sum(map(len, client.read("/records"))) == size
            return time.monotonic() - began

        def plugin() -> float:
            began = time.monotonic()
            data = tf.data.FixedLengthRecordDataset(
                f"{hdfs.uri}/records", size // 256, footer_bytes=size % 256, buffer_size=READ_BYTES
            )
            assert sum(1 for _ in data) == 256
            return time.monotonic() - began

        def pieces() -> float:
            began = time.monotonic()
            file, left = client.read("/records"), size
            while left:
                left -= len(file.read(READ_BYTES))
            return time.monotonic() - began

        def at_once() -> float:
            began = time.monotonic()
            assert len(client.read("/records").read()) == size
            return time.monotonic() - began

        def read_file() -> float:
            began = time.monotonic()
            tf.io.read_file(f"{hdfs.uri}/records")
            return time.monotonic() - began

        return {
            "hdfs": ratios(rounds, plugin, pieces, "hdfs, in pieces"),
            "hdfs_stream": ratios(rounds, plugin, stream, "hdfs, stream"),
            "hdfs_at_once": ratios(rounds, read_file, at_once, "hdfs, at once"),
        }
    finally:
        hdfs.close()


if __name__ == "__main__":
    main()
