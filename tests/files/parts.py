"""Builds batches and whole partition directories the obvious way: the oracle has no code in common
with the engine but the CRC."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

from kcore._native.crc32c import crc32c
from kcore.files import names
from kcore.files.epoch_checkpoint import EpochEntry, store_epoch_checkpoint
from kcore.files.partition_metadata import store_partition_metadata
from kcore.files.producer_snapshot import ProducerEntry, store_producer_snapshot
from kcore.files.txn_index import AbortedTxn, store_txn_index

TOPIC_ID = bytes(range(16))
START_MS = 1_700_000_000_000
INDEX_INTERVAL_BYTES = 256


def varint(number: int) -> bytes:
    raw = (number << 1) ^ (number >> 63)
    out = bytearray()
    while raw > 0x7F:
        out.append(raw & 0x7F | 0x80)
        raw >>= 7
    return bytes([*out, raw])


def sized(data: bytes | None) -> bytes:
    return varint(-1) if data is None else varint(len(data)) + data


def record(delta: int, key: bytes | None, value: bytes | None, timestamp_delta: int = 0) -> bytes:
    body = b"\0" + varint(timestamp_delta) + varint(delta) + sized(key) + sized(value)
    body += varint(1) + sized(b"h") + sized(b"\xff") if delta == 0 and value else varint(0)
    return varint(len(body)) + body


def batch(
    base_offset: int,
    values: list[bytes | None],
    *,
    timestamp: int = START_MS,
    attributes: int = 0,
    producer: tuple[int, int, int] = (-1, -1, -1),
    leader_epoch: int = 0,
    key: bytes | None = b"k",
    offset_count: int | None = None,
) -> bytes:
    records = b"".join(record(index, key, value) for index, value in enumerate(values))
    count = offset_count if offset_count is not None else len(values)
    tail = struct.pack(
        ">hiqqqhii", attributes, count - 1, timestamp, timestamp, *producer, len(values)
    )
    tail += records
    head = struct.pack(">qiib", base_offset, len(tail) + 9, leader_epoch, 2)
    return head + struct.pack(">I", crc32c(tail)) + tail


def marker(base_offset: int, producer: tuple[int, int], commit: bool, timestamp: int) -> bytes:
    return batch(
        base_offset,
        [struct.pack(">hi", 0, 3)],
        key=struct.pack(">hh", 0, int(commit)),
        attributes=0x30,
        producer=(*producer, -1),
        timestamp=timestamp,
    )


@dataclass
class Segment:
    """One segment's bytes, with its indexes by Kafka's rule."""

    base_offset: int
    log: bytes = b""
    index: bytes = b""
    time_index: bytes = b""
    _since_entry: int = 0
    _max: tuple[int, int] = (-1, 0)
    _last_timed: int = -1

    def add(self, data: bytes, timestamp: int, last_offset: int) -> None:
        if timestamp > self._max[0]:
            self._max = (timestamp, last_offset)
        if self._since_entry > INDEX_INTERVAL_BYTES:
            self.index += struct.pack(">ii", last_offset - self.base_offset, len(self.log))
            self._time_entry()
            self._since_entry = 0
        self._since_entry += len(data)
        self.log += data

    def close(self) -> None:
        self._time_entry()

    def _time_entry(self) -> None:
        timestamp, offset = self._max
        if timestamp > self._last_timed:
            self.time_index += struct.pack(">qi", timestamp, offset - self.base_offset)
            self._last_timed = timestamp


@dataclass
class Partition:
    """A partition with two closed segments and an active one; transactions, an abort that spans
    segments, epochs that change, timestamps that go back."""

    directory: Path
    segments: list[Segment] = field(default_factory=list)
    next_offset: int = 0

    @classmethod
    def write(cls, root: Path, name: str = "orders-3") -> Partition:
        partition = cls(root / name)
        partition.directory.mkdir(parents=True)
        for base_round in range(3):
            partition._round(base_round)
        partition._store()
        return partition

    def path(self, base_offset: int, suffix: str) -> Path:
        return self.directory / names.make_segment_name(base_offset, suffix)

    def _add(self, data: bytes, count: int, timestamp: int) -> None:
        self.segments[-1].add(data, timestamp, self.next_offset + count - 1)
        self.next_offset += count

    def _round(self, number: int) -> None:
        """17 offsets: 5 plain batches of 3 and a transaction; round 0 leaves one open for round
        1."""
        self.segments.append(Segment(self.next_offset))
        clock = START_MS + number * 1000
        for index in range(5):
            timestamp = clock + (index * 7) % 5
            values: list[bytes | None] = [b"v" * 40, None, b""]
            data = batch(self.next_offset, values, timestamp=timestamp, leader_epoch=number)
            self._add(data, 3, timestamp)
        if number < 2:
            data = batch(
                self.next_offset, [b"txn"], timestamp=clock, attributes=0x10,
                producer=(500, 0, number), leader_epoch=number,
            )  # fmt: skip
            self._add(data, 1, clock)
        if number == 1:
            data = marker(self.next_offset, (500, 0), False, clock + 9)
            data = data[:12] + struct.pack(">i", number) + data[16:]
            self._add(data, 1, clock + 9)

    def _store(self) -> None:
        for segment in self.segments:
            segment.close()
            self.path(segment.base_offset, ".log").write_bytes(segment.log)
            self.path(segment.base_offset, ".index").write_bytes(segment.index)
            self.path(segment.base_offset, ".timeindex").write_bytes(segment.time_index)
        bases = [segment.base_offset for segment in self.segments]
        store_txn_index(self.path(bases[1], ".txnindex"), [AbortedTxn(500, 15, 32, 33)])
        open_txn = ProducerEntry(500, 0, 0, 15, 0, START_MS, -1, 15)
        closed = ProducerEntry(500, 0, 1, 31, 0, START_MS + 1000, 3, -1)
        store_producer_snapshot(self.path(bases[1], ".snapshot"), [open_txn])
        store_producer_snapshot(self.path(bases[2], ".snapshot"), [closed])
        store_producer_snapshot(self.path(self.next_offset, ".snapshot"), [closed])
        epochs = [EpochEntry(number, base) for number, base in enumerate(bases)]
        store_epoch_checkpoint(self.directory / names.LEADER_EPOCH_CHECKPOINT, epochs)
        store_partition_metadata(self.directory / names.PARTITION_METADATA, TOPIC_ID)
