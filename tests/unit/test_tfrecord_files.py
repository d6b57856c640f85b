"""Reading TFRecord files in pieces, whatever is in them; paths, folders and options."""

from __future__ import annotations

import gzip
import io
import json
import tracemalloc
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_strategy.data.paths import FileRoot
from spark_strategy.errors import DataError, PlanError
from spark_strategy.tfrecord.codec import codec
from spark_strategy.tfrecord.decoding import decode_batch
from spark_strategy.tfrecord.encoding import encode_batch
from spark_strategy.tfrecord.features import Feature, features_of
from spark_strategy.tfrecord.files import Place, file_root_here
from spark_strategy.tfrecord.inference import Survey
from spark_strategy.tfrecord.listing import find_files
from spark_strategy.tfrecord.options import Mode, parse_options
from spark_strategy.tfrecord.partitions import folder_of, partition_types
from spark_strategy.tfrecord.reading import Plan, read_file
from spark_strategy.tfrecord.records import Piece, is_gzip, read_pieces
from spark_strategy.tfrecord.wire import Message


def array_of(kind: Any) -> dict[str, Any]:
    """Spark's JSON of an array."""
    return {"type": "array", "elementType": kind, "containsNull": True}


KINDS = {
    "a": "long", "b": "boolean", "c": "integer", "d": "decimal(5,2)", "e": "string", "f": "float",
    "g": array_of("binary"), "h": array_of("double"), "i": array_of("date"),
}  # fmt: skip
NESTED = {"l": array_of(array_of("string")), "m": array_of(array_of("float"))}


def features(kinds: dict[str, Any]) -> list[Feature]:
    """Features of a schema given as names and types."""
    fields = [{"name": name, "type": kind, "nullable": True} for name, kind in kinds.items()]
    return features_of({"fields": fields})


def rows(raw: bytes, **options: int) -> tuple[list[bytes], str | None]:
    """The records of a file's bytes, and its damage."""
    found, damage = [], None
    for piece in read_pieces(io.BytesIO(raw), most=3, **options):
        for (start, size), problem in zip(
            piece.scan.records.tolist(), piece.scan.problems, strict=True
        ):
            if not problem:
                found.append(bytes(piece.data[start : start + size]))
        damage = piece.damage
    return found, damage


def framed(bodies: list[bytes]) -> bytes:
    """A file of these records."""
    batch = pa.record_batch([pa.array(bodies, pa.binary())], ["x"])
    return bytes(encode_batch(batch, features({"x": "binary"}), Message.RAW))


@settings(max_examples=200)
@given(st.lists(st.binary(max_size=50), max_size=8), st.integers(1, 200), st.booleans())
def test_records_are_whole_whatever_the_chunks(
    bodies: list[bytes], chunk: int, compressed: bool
) -> None:
    """Cut anywhere, plain or GZIP, all records come in order."""
    raw = framed(bodies)
    found = rows(gzip.compress(raw) if compressed else raw, chunk_bytes=chunk)
    assert found == (bodies, None)


@settings(max_examples=150)
@given(st.lists(st.binary(max_size=30), max_size=4), st.data(), st.booleans())
def test_damage_never_gives_a_record_that_was_not_written(
    bodies: list[bytes], data: st.DataObject, compressed: bool
) -> None:
    """A file cut or changed at one place ends early or lacks records; no chunk size matters."""
    raw = gzip.compress(framed(bodies)) if compressed else framed(bodies)
    at = data.draw(st.integers(0, max(len(raw) - 1, 0)))
    changed = bytes([raw[at] ^ 64]) + raw[at + 1 :] if raw else b""
    damaged = raw[:at] + data.draw(st.sampled_from([b"", changed]))
    found, _ = rows(damaged, chunk_bytes=data.draw(st.integers(1, 100)))
    for body in found:
        assert body in bodies


@settings(max_examples=500)
@given(st.binary(max_size=200), st.integers(1, 50))
def test_any_bytes_are_read_to_an_end(raw: bytes, chunk: int) -> None:
    """No crash and no hang on bytes that are no TFRecord file."""
    rows(raw, chunk_bytes=chunk)


def test_a_length_of_gigabytes_takes_no_memory() -> None:
    """A right checksum of a wrong length: what is allocated is what is there."""
    raw = bytearray(framed([b"x" * 100]))
    (piece,) = read_pieces(io.BytesIO(framed([b""])), most=1)
    assert len(piece.scan.records) == 1
    huge = (2**31 - 2).to_bytes(8, "little")
    raw[:12] = huge + codec().masked_crc(huge).to_bytes(4, "little")
    tracemalloc.start()
    assert rows(bytes(raw)) == ([], "the file ends within this record")
    assert tracemalloc.get_traced_memory()[1] < 50 << 20
    tracemalloc.stop()


@settings(max_examples=150)
@given(st.lists(st.binary(max_size=80), max_size=4), st.booleans())
def test_any_bytes_as_messages_decode_or_say_why(bodies: list[bytes], nested: bool) -> None:
    """Each record is a row or has a reason; arrays are valid; so is what is inferred."""
    check_decoding(framed(bodies), nested=nested)


@settings(max_examples=150)
@given(st.data(), st.booleans())
def test_damaged_messages_decode_or_say_why(data: st.DataObject, nested: bool) -> None:
    """As above, for Examples with some bytes changed."""
    kinds = {"a": "long", "e": "string", "h": array_of("double"), **(NESTED if nested else {})}
    values = [[1, 300], ["ä", None], [[1.5, 2.5], []], [[["x"], []], None], [[[1.0]], [[2.0], []]]]
    made = features(kinds)
    arrays = [pa.array(v, f.arrow) for v, f in zip(values, made, strict=False)]
    message = Message.SEQUENCE if nested else Message.EXAMPLE
    raw = bytes(encode_batch(pa.record_batch(arrays, [f.name for f in made]), made, message))
    bodies = [bytearray(body) for body in rows(raw)[0]]
    for body in bodies:
        for _ in range(data.draw(st.integers(1, 3))):
            body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    check_decoding(framed([bytes(body) for body in bodies]), nested=nested)


def check_decoding(raw: bytes, *, nested: bool) -> None:
    """Decode and infer; what comes out must be valid Arrow."""
    message = Message.SEQUENCE if nested else Message.EXAMPLE
    wanted = features({**KINDS, **NESTED} if nested else KINDS)
    for piece in read_pieces(io.BytesIO(raw), most=100):
        decoded = decode_batch(piece.data, piece.scan, wanted, message)
        for array, feature in zip(decoded.arrays, wanted, strict=True):
            array.validate(full=True)
            assert array.type == feature.arrow
            assert len(array) == len(piece.scan.records)
            for row in decoded.reasons:
                assert not array[row].is_valid
        survey = Survey(message)
        try:
            survey.add(piece, "here")
            survey.fields()
        except DataError:
            pass


def test_gzip_is_told_from_a_length() -> None:
    """A first record whose length begins as a gzip file does is no gzip file."""
    length = (0x00088B1F).to_bytes(8, "little")
    assert not is_gzip(length + codec().masked_crc(length).to_bytes(4, "little"))
    assert is_gzip(gzip.compress(b"")[:12])


@pytest.mark.parametrize(
    ("path", "default", "url"),
    [
        ("/data/x", "file:///", "file:///data/x"),
        ("file:/data/x", "hdfs://nn:8020", "file:///data/x"),
        ("/data/x", "hdfs://nn:8020/", "hdfs://nn:8020/data/x"),
        ("hdfs:///data/x", "hdfs://nn:8020", "hdfs://nn:8020/data/x"),
        ("hdfs://other/x", "hdfs://nn:8020", "hdfs://other/x"),
        ("x", "hdfs://nn", "hdfs://nn/user/me/x"),
        ("x", "file:///", Path("x").absolute().as_uri()),
    ],
)
def test_paths_are_resolved_as_spark_does(
    monkeypatch: pytest.MonkeyPatch, path: str, default: str, url: str
) -> None:
    """Against the default filesystem, and its home folder."""
    monkeypatch.setenv("HADOOP_USER_NAME", "me")
    assert file_root_here(default).url(path) == url


def test_the_sessions_root_serves_until_an_option_names_another() -> None:
    """Its home and its HDFS settings, which other filesystems don't get."""
    root = FileRoot.of("hdfs://ns", user="ada", directory="/", hadoop={"dfs.nameservices": "ns"})
    session = {"fileRoot": json.dumps(asdict(root))}
    place = parse_options({}, **session).place("x")
    expected = {"fs.defaultFS": "hdfs://ns", "dfs.nameservices": "ns"}
    assert place == Place("hdfs://ns/user/ada/x", expected)
    assert parse_options({}, **session).place("file:/x") == Place("file:///x", {})
    other = parse_options({"defaultFilesystem": "hdfs://other"}, **session)
    assert other.place("/x") == Place("hdfs://other/x", {"fs.defaultFS": "hdfs://other"})


def test_folders_give_columns_and_hidden_files_are_left_out(tmp_path: Path) -> None:
    """What is written as a folder is read back, null and odd characters included."""
    values = [{"n": 1, "s": "a/b=c"}, {"n": 20, "s": None}]
    for one in values:
        folder = tmp_path / folder_of(one)
        folder.mkdir(parents=True)
        (folder / "part").touch()
        (folder / ".part.crc").touch()
    (tmp_path / "_SUCCESS").touch()
    found = find_files([Place(f"file://{tmp_path}", {})])
    assert [file.partition for file in found] == [
        {"n": str(one["n"]), "s": one["s"]} for one in values
    ]
    assert partition_types(found) == {"n": "integer", "s": "string"}
    (tmp_path / "n=x").mkdir()
    (tmp_path / "n=x" / "part").touch()
    with pytest.raises(PlanError, match="is partitioned by"):
        partition_types(find_files([Place(f"file://{tmp_path}", {})]))


def test_permissive_needs_columns_that_can_be_null() -> None:
    """A row of nulls has no place in a column that is not nullable."""
    plan = Plan(
        [replace(one, nullable=False) for one in features({"a": "long"})],
        frozenset(),
        parse_options({"mode": "permissive"}),
    )
    assert plan.options.mode is Mode.PERMISSIVE
    with pytest.raises(PlanError, match="but a cannot be null"):
        plan.check()


def test_slices_and_nulls_are_encoded_as_they_are(tmp_path: Path) -> None:
    """A batch that is a slice of another: offsets of lists and strings count from its start."""
    made = features({"e": "string", "g": array_of("binary"), "c": "integer"})
    values = [["a", None, "c"], [[b"1"], None, [b"2", b"3"]], [1, None, 3]]
    arrays = [pa.array(v, f.arrow) for v, f in zip(values, made, strict=True)]
    batch = pa.record_batch(arrays, [f.name for f in made])
    path = tmp_path / "f"
    path.write_bytes(b"".join(_halves(batch, made)))
    (file,) = find_files([Place(f"file://{path}", {})])
    read = list(read_file(file, Plan(made, frozenset(), parse_options({}))))
    assert pa.Table.from_batches(read).to_pydict() == batch.to_pydict()
    assert np.sum([one.num_rows for one in read]) == 3


def _halves(batch: pa.RecordBatch, made: list[Feature]) -> Iterator[bytes]:
    for part in (batch.slice(0, 1), batch.slice(1)):
        yield bytes(encode_batch(part, made, Message.EXAMPLE))


def test_options_are_checked() -> None:
    """A value that makes no sense is named with the choices."""
    assert parse_options({"RECORDTYPE": "bytearray"}).message is Message.RAW
    for options, text in (
        ({"compression": "snappy"}, "compression='snappy' is none of"),
        ({"maxFilesPerTrigger": "0"}, "neither a whole number above 0"),
        ({"storageOptions": "[1]"}, "is not a JSON object"),
    ):
        with pytest.raises(PlanError, match=text):
            parse_options(options)


def test_pieces_keep_their_offset() -> None:
    """The place of a record in its file, whichever chunk it came in."""
    pieces: list[Piece] = list(read_pieces(io.BytesIO(framed([b"ab"] * 9)), most=2, chunk_bytes=7))
    starts = [piece.offset + start for piece in pieces for start, _ in piece.scan.records.tolist()]
    assert starts == [12 + 18 * at for at in range(9)]
