"""Batches for the storage tests, built from nothing but struct and the crc32c package."""

from __future__ import annotations

import struct

import crc32c


def varint(value: int) -> bytes:
    zigzag = (value << 1) ^ (value >> 63)
    out = bytearray()
    while True:
        low = zigzag & 0x7F
        zigzag >>= 7
        if not zigzag:
            out.append(low)
            return bytes(out)
        out.append(low | 0x80)


def batch(
    count: int = 1,
    size: int = 100,
    *,
    base_offset: int = 0,
    timestamp: int = 1000,
    step_ms: int = 1,
    leader_epoch: int = -1,
    fill: bytes = b"v",
) -> bytearray:
    """A batch of `count` records with values of `size` bytes, times `timestamp + i * step_ms`."""
    records = bytearray()
    for i in range(count):
        value = (fill * size)[:size]
        body = b"\x00" + varint(i * step_ms) + varint(i) + varint(-1) + varint(size) + value
        body += varint(0)
        records += varint(len(body)) + body
    times = [timestamp + i * step_ms for i in range(count)]
    return raw_batch(
        bytes(records),
        count=count,
        base_offset=base_offset,
        base_timestamp=timestamp,
        max_timestamp=max(times),
        leader_epoch=leader_epoch,
    )


def raw_batch(
    records: bytes,
    *,
    count: int,
    base_offset: int = 0,
    base_timestamp: int = 1000,
    max_timestamp: int = 1000,
    leader_epoch: int = -1,
    attributes: int = 0,
    last_offset_delta: int | None = None,
) -> bytearray:
    """A batch around records that are already encoded (and compressed, if `attributes` says so)."""
    delta = count - 1 if last_offset_delta is None else last_offset_delta
    checked = struct.pack(
        ">hiqqqhii", attributes, delta, base_timestamp, max_timestamp, -1, -1, -1, count
    )
    checked += records
    return bytearray(
        struct.pack(">qiib", base_offset, len(checked) + 9, leader_epoch, 2)
        + struct.pack(">I", crc32c.crc32c(checked))
        + checked
    )


def headers(data: bytes) -> list[tuple[int, int, int]]:
    """[(base offset, last offset, position)] of the batches in `data`."""
    found, pos = [], 0
    while pos < len(data):
        base_offset, length = struct.unpack_from(">qi", data, pos)
        (delta,) = struct.unpack_from(">i", data, pos + 23)
        found.append((base_offset, base_offset + delta, pos))
        pos += length + 12
    return found
