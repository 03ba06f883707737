"""Record batch v2, field by field."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from tests.ref import varint
from tests.ref.codecs import inflate
from tests.ref.crc32c import crc32c

HEADER = struct.Struct(">qiibIhiqqqhii")
APPEND_TIME, TRANSACTIONAL, CONTROL = 8, 16, 32


@dataclass(frozen=True)
class Record:
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]] = field(default_factory=list)


def encode_record(index: int, delta: int, record: Record) -> bytes:
    body = b"\x00" + varint.encode(delta) + varint.encode(index, 32)
    body += _sized(record.key) + _sized(record.value) + varint.encode(len(record.headers), 32)
    for name, value in record.headers:
        body += _sized(name.encode()) + _sized(value)
    return varint.encode(len(body), 32) + body


def encode(
    records: list[Record],
    *,
    attributes: int = 0,
    leader_epoch: int = -1,
    producer: tuple[int, int, int] = (-1, -1, -1),
    max_timestamp: int | None = None,
) -> bytes:
    """An uncompressed batch of records whose offsets follow one another."""
    base = records[0]
    section = b"".join(
        encode_record(i, r.timestamp - base.timestamp, r) for i, r in enumerate(records)
    )
    if max_timestamp is None:
        max_timestamp = max(r.timestamp for r in records)
    return assemble(
        section,
        base_offset=base.offset,
        attributes=attributes,
        leader_epoch=leader_epoch,
        last_offset_delta=len(records) - 1,
        base_timestamp=base.timestamp,
        max_timestamp=max_timestamp,
        producer=producer,
        count=len(records),
    )


def assemble(
    section: bytes,
    *,
    count: int,
    base_offset: int = 0,
    attributes: int = 0,
    leader_epoch: int = -1,
    last_offset_delta: int | None = None,
    base_timestamp: int = 0,
    max_timestamp: int = 0,
    producer: tuple[int, int, int] = (-1, -1, -1),
    magic: int = 2,
) -> bytes:
    """A header around any record section, with the right length and CRC."""
    delta = count - 1 if last_offset_delta is None else last_offset_delta
    covered = struct.pack(
        ">hiqqqhii", attributes, delta, base_timestamp, max_timestamp, *producer, count
    )
    covered += section
    return (
        struct.pack(">qiibI", base_offset, len(covered) + 9, leader_epoch, magic, crc32c(covered))
        + covered
    )


def decode(data: bytes) -> list[Record]:
    """All records of one batch. ValueError when anything is not as it should be."""
    fields = HEADER.unpack_from(data)
    base_offset, length, _, magic, crc, attributes, last_delta, base_ts, max_ts = fields[:9]
    count = fields[12]
    if magic != 2 or length + 12 != len(data) or crc != crc32c(data[21:]):
        raise ValueError("header")
    section = inflate(attributes & 7, data[61:])
    records = []
    pos = 0
    for _ in range(count):
        delta, offset_delta, record, pos = _decode_record(section, pos)
        if not 0 <= offset_delta <= last_delta:
            raise ValueError("offset delta")
        timestamp = max_ts if attributes & APPEND_TIME else base_ts + delta
        records.append(Record(base_offset + offset_delta, timestamp, *record))
    if pos != len(section):
        raise ValueError("bytes follow")
    return records


def _decode_record(
    data: bytes, pos: int
) -> tuple[int, int, tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]], int]:
    length, pos = varint.decode(data, pos, 32)
    end = pos + length
    if length < 0 or end > len(data):
        raise ValueError("length")
    body = data[:end]
    pos += 1  # attributes
    delta, pos = varint.decode(body, pos)
    offset_delta, pos = varint.decode(body, pos, 32)
    key, pos = _read_sized(body, pos)
    value, pos = _read_sized(body, pos)
    header_count, pos = varint.decode(body, pos, 32)
    if header_count < 0:
        raise ValueError("header count")
    headers = []
    for _ in range(header_count):
        name, pos = _read_sized(body, pos)
        if name is None:
            raise ValueError("header without a key")
        header_value, pos = _read_sized(body, pos)
        headers.append((name.decode("utf-8", "replace"), header_value))
    if pos != end:
        raise ValueError("fields")
    return delta, offset_delta, (key, value, headers), end


def _read_sized(data: bytes, pos: int) -> tuple[bytes | None, int]:
    size, pos = varint.decode(data, pos, 32)
    if size == -1:
        return None, pos
    if size < 0 or pos + size > len(data):
        raise ValueError("size")
    return data[pos : pos + size], pos + size


def _sized(value: bytes | None) -> bytes:
    return varint.encode(-1, 32) if value is None else varint.encode(len(value), 32) + value
