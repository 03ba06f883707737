"""Prepared requests: batches of half-random values, the frames that carry them, the answers' sizes.

A value's first half is random, the rest zeros, and no two values of a batch are the same: lz4 makes
1.9 of it, as real payloads do; a repeated pattern would measure nothing but the client.
"""

from __future__ import annotations

import functools
import random
import struct
import time
from dataclasses import dataclass

import kcore
from benches import driver
from benches.compare.model import BATCH_BYTES_MAX, MIB, Cell

HEADER_BYTES = 61
REQUEST_BYTES_MAX = MIB  # a producer's max.request.size: what one request may carry
LAST_OFFSET_DELTA_POS, RECORD_COUNT_POS = 23, 57
# Produce v7 and Fetch v4 answers, length included, without names and records.
PRODUCE_FIXED, PRODUCE_PARTITION = 4 + 4 + 4 + 2 + 4 + 4, 4 + 2 + 8 + 8 + 8
FETCH_FIXED, FETCH_PARTITION = 4 + 4 + 4 + 4 + 2 + 4, 4 + 2 + 8 + 8 + 4 + 4


@dataclass(frozen=True, slots=True)
class Batch:
    data: bytes
    records: int
    payload: int  # bytes of values


@functools.lru_cache(maxsize=8)
def make_batch(value_bytes: int, batch_bytes: int, codec: str) -> Batch:
    """As many values as `batch.size` lets a producer put into one batch (it counts uncompressed
    bytes); one at least."""
    rng = random.Random(value_bytes)
    one = len(kcore.encode([bytes(value_bytes)])) - HEADER_BYTES + 2  # offset deltas may grow
    limit = min(batch_bytes, BATCH_BYTES_MAX)
    count = max(1, (limit - HEADER_BYTES) // one)
    zeros = bytes(value_bytes // 2)
    values = [rng.randbytes(value_bytes - len(zeros)) + zeros for _ in range(count)]
    # Stamped with the present: retention must not find it old.
    now_ms = time.time_ns() // 1_000_000
    data = bytes(kcore.encode(values, timestamps=[now_ms] * count, codec=codec))
    return Batch(data, count, count * value_bytes)


def batch_of(cell: Cell) -> Batch:
    return make_batch(cell.value_bytes, cell.batch_bytes, cell.codec)


@dataclass(frozen=True, slots=True)
class Frames:
    """Requests of one size that are sent in turn, each answered by as many bytes."""

    frames: tuple[bytes, ...]
    answer_bytes: int
    records: int  # of one request
    payload: int

    @property
    def size(self) -> int:
        return len(self.frames[0])


def produce_frames(cell: Cell) -> Frames:
    """As a producer packs them: a batch of each partition in one request as far as they fit, else
    requests for one partition each, in turn."""
    batch = batch_of(cell)
    together = cell.partitions * len(batch.data) <= REQUEST_BYTES_MAX
    indexes = range(cell.partitions)
    groups = [list(indexes)] if together else [[index] for index in indexes]
    frames = tuple(produce_frame(cell.topic, batch.data, group, cell.acks) for group in groups)
    width = len(groups[0])
    answer = PRODUCE_FIXED + len(cell.topic) + width * PRODUCE_PARTITION
    return Frames(frames, answer, batch.records * width, batch.payload * width)


def produce_frame(topic: str, batch: bytes, indexes: list[int], acks: int) -> bytes:
    body = struct.pack(">hhii", -1, acks, 30_000, 1) + struct.pack(">h", len(topic))
    body += topic.encode() + struct.pack(">i", len(indexes))
    parts = [struct.pack(">ii", index, len(batch)) + batch for index in indexes]
    return driver.request(driver.PRODUCE, driver.PRODUCE_VERSION, body + b"".join(parts))


class FetchFrame:
    """A Fetch request for all partitions of a topic, whose offsets are set in place."""

    def __init__(self, topic: str, partitions: int, max_bytes: int, max_wait_ms: int) -> None:
        self.topic = topic
        self.partitions = partitions
        # Tansu knows no bound of a partition: without this one it answers with 50 MiB.
        body = struct.pack(">iiiibi", -1, max_wait_ms, 1, partitions * max_bytes, 0, 1)
        body += struct.pack(">h", len(topic)) + topic.encode() + struct.pack(">i", partitions)
        tail = b"".join(struct.pack(">iqi", index, 0, max_bytes) for index in range(partitions))
        self.frame = bytearray(driver.request(driver.FETCH, driver.FETCH_VERSION, body + tail))
        self._first = len(self.frame) - partitions * 16 + 4

    def at(self, offsets: list[int]) -> bytearray:
        for index, offset in enumerate(offsets):
            struct.pack_into(">q", self.frame, self._first + index * 16, offset)
        return self.frame

    def answer_bytes(self, records_bytes: int) -> int:
        """Of an answer with so many bytes of records for each partition."""
        parts = self.partitions * (FETCH_PARTITION + records_bytes)
        return FETCH_FIXED + len(self.topic) + parts
