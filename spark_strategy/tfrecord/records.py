"""Reads a file of records in bounded pieces."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final, cast

from spark_strategy.tfrecord.codec import codec
from spark_strategy.tfrecord.wire import HEADER_BYTES, Data, Scan, Stop

CHUNK_BYTES: Final = 4 << 20
_GZIP: Final = b"\x1f\x8b\x08"
_ZLIB: Final = "TensorFlow's ZLIB compression, which is not supported: write it as GZIP"
_OTHERS: Final = {
    b"\x78\x01": _ZLIB,
    b"\x78\x5e": _ZLIB,
    b"\x78\x9c": _ZLIB,
    b"\x78\xda": _ZLIB,
    b"PAR1": "Parquet",
    b"Obj\x01": "Avro",
    b"ORC": "ORC",
    b"BZh": "bzip2",
    b"\x28\xb5\x2f\xfd": "zstandard",
    b"PK\x03\x04": "a zip archive",
    b"\x89HDF": "HDF5",
}
_STOPS: Final = {
    Stop.LENGTH_CRC: "the length of this record does not fit its checksum",
    Stop.TRUNCATED: "the file ends within this record",
    Stop.TOO_LONG: "this record claims 2 GiB or more",
}


@dataclass(frozen=True, slots=True)
class Piece:
    """Some records of a file.

    Attributes:
        data: what the spans of the scan point into.
        scan: the records.
        offset: of the data in the file, uncompressed, bytes.
        damage: why nothing behind these records can be read; None while all is well.
    """

    data: Data
    scan: Scan
    offset: int
    damage: str | None = None


def is_gzip(head: bytes) -> bool:
    """Whether a file that begins so is compressed; at least 12 bytes, if it has them.

    The length of a first record may begin as a gzip file does; then its checksum fits.
    """
    if not head.startswith(_GZIP):
        return False
    return len(head) < HEADER_BYTES or codec().masked_crc(head[:8]) != int.from_bytes(
        head[8:12], "little"
    )


def read_pieces(raw: BinaryIO, *, most: int, chunk_bytes: int = CHUNK_BYTES) -> Iterator[Piece]:
    """All records of a file, plain or GZIP, in order.

    Args:
        raw: the file, at its start; it must be able to seek.
        most: records in a piece.
        chunk_bytes: read at once; a longer record takes its own length, once that many bytes are
            there.
    """
    head = raw.read(HEADER_BYTES)
    raw.seek(0)
    stream = cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if is_gzip(head) else raw
    rest, offset, broken = b"", 0, None
    while True:
        # A record longer than a chunk: twice as much each time, so that it is not copied often.
        more, broken = _read(stream, max(chunk_bytes, len(rest)))
        data = memoryview(rest + more if rest else more)
        ended = not more
        while data:
            scan = codec().scan(data, most=most)
            done = scan.stop is not Stop.END or scan.used == len(data)
            final = scan.stop in (Stop.LENGTH_CRC, Stop.TOO_LONG) or (ended and done)
            damage = _STOPS.get(scan.stop) if final else None
            if damage and not offset and not len(scan.records):
                damage = f"{damage}{looks_like(data[:64].tobytes(), scan.stop)}"
            if len(scan.records) or damage:
                yield Piece(data, scan, offset, broken or damage if damage else None)
            data, offset = data[scan.used :], offset + scan.used
            if damage:
                return
            if done:
                break
        rest = bytes(data)
        if ended:
            if broken and not rest:
                yield Piece(b"", codec().scan(b"", most=1), offset, broken)
            return


def looks_like(head: bytes, stop: Stop) -> str:
    """What else a file may be whose first record cannot be read, for a message."""
    if stop is not Stop.LENGTH_CRC and len(head) >= HEADER_BYTES:
        return ""
    kind = next((kind for magic, kind in _OTHERS.items() if head.startswith(magic)), "")
    if not kind:
        text = all(byte >= 32 or byte in b"\t\r\n" for byte in head[:HEADER_BYTES])
        kind = "text" if text and head else ""
    return f", so that this is not a TFRecord file; it looks like {kind}" if kind else ""


def _read(stream: BinaryIO, size: int) -> tuple[bytes, str | None]:
    """The next bytes, none at the end; and why the end came early."""
    try:
        return stream.read(size), None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        return b"", f"the GZIP stream is damaged: {error}"
