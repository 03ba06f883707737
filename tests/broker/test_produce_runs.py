"""Goal: produce requests that are written together are answered, stored and counted as if each had
come alone, and none of it happens before their write has succeeded.

Method: two brokers side by side, one with runs and one with the handler only, get the same bytes;
their answers and, once closed, all their files must be equal. Faults are put into the write.
"""

from __future__ import annotations

import errno
import random
import resource
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kbroker.base import errors
from kbroker.broker.context import ANONYMOUS, RequestContext
from kbroker.broker.dispatch import CloseConnection, Pending
from kbroker.broker.node import flexible_versions
from kbroker.wire import apis, messages
from kbroker.wire.header import encode_request_header
from kbroker.wire.schema.create_topics import CreatableTopic, CreateTopicsRequest
from kbroker.wire.schema.fetch import FetchPartition, FetchRequest, FetchTopic
from kbroker.wire.schema.produce import PartitionProduceData, ProduceRequest, TopicProduceData

from kcore._native.framing import FrameBuffer, ReceivePool
from kcore._native.produce_run import ProduceRuns
from tests.broker.data_support import TOPIC, TOPIC_ID, DataBroker, produced
from tests.log.support import batch

WAIT_MS = 60_000
WAIT_S = 120  # bounds the waits of a test; nothing here takes a hundredth of it
COUNTERS = (
    "produce_requests",
    "failed_produce_requests",
    "messages_in",
    "bytes_in",
    "bytes_rejected",
)
LARGE = b"x" * 5000  # more than is stored through a mapping: it takes a write


class Stream(DataBroker):
    """A broker and one connection to it. `taken`: how many requests each run had."""

    def __init__(self, directory: Path | None, *, runs: bool, most: int = 16) -> None:
        if directory is not None:
            directory.mkdir(exist_ok=True)
        super().__init__(directory)
        self.frames = FrameBuffer(ReceivePool(1 << 20), flexible_versions(), 8 << 20)
        self.runs = ProduceRuns(self.logs.by_name, self.logs.by_id) if runs else None
        self.most = most
        self.taken: list[int] = []
        self.pending: list[Pending] = []

    def send(self, data: bytes) -> list[Any]:
        """One read of the loop: the answers, and why the connection was closed."""
        answers: list[Any] = []
        room = self.frames.get_buffer(-1)
        room[: len(data)] = data
        self.frames.buffer_updated(len(data))
        try:
            while self.frames.next_request():
                answers += self._handled()
        except CloseConnection as why:
            answers.append(str(why))
        self.frames.settle()
        return answers

    def _handled(self) -> list[Any]:
        frames = self.frames
        key, version = frames.api_key, frames.api_version
        if key == apis.PRODUCE and self.runs is not None:  # as Connection does
            count, together = self.runs.handle(frames, self.clock.wall_ms(), self.most)
            if count:
                self.taken.append(count)
                return [part for piece in together for part in split(piece)]
        ctx = RequestContext(
            key, version, frames.correlation_id, frames.client_id, None, self.services, ANONYMOUS,
            "PLAINTEXT", self.clock.wall_ms(),
        )  # fmt: skip
        frame = frames.frame
        assert frame is not None
        parts = self._dispatcher.begin(
            self._dispatcher.row(key, version), ctx, frame, frames.body_pos
        )
        if isinstance(parts, Pending):
            self.pending.append(parts)
            return []
        return [] if parts is None else [b"".join(bytes(part) for part in parts)]


def split(data: bytes) -> Iterator[bytes]:
    while data:
        (size,) = struct.unpack_from(">i", data)
        yield data[: size + 4]
        data = data[size + 4 :]


def request(
    data: bytes | None, number: int = 0, *, version: int = 9, acks: int = 1, index: int = 0,
    topic: str = TOPIC,
) -> bytes:  # fmt: skip
    part = PartitionProduceData(index=index, records=data)
    wanted = TopicProduceData(name=topic, topic_id=TOPIC_ID, partition_data=[part])
    message = ProduceRequest(acks=acks, timeout_ms=1000, topic_data=[wanted])
    return framed(apis.PRODUCE, version, number, message)


def numbered(sequence: int) -> bytes:
    """A batch of producer 7."""
    return bytes(batch(LARGE, producer_id=7, producer_epoch=0, base_sequence=sequence))


def fetch(offset: int, number: int) -> bytes:
    part = FetchPartition(partition=0, fetch_offset=offset, partition_max_bytes=1 << 20)
    message = FetchRequest(
        topics=[FetchTopic(topic=TOPIC, partitions=[part])], max_bytes=1 << 20, min_bytes=1,
        max_wait_ms=WAIT_MS,
    )  # fmt: skip
    return framed(apis.FETCH, 12, number, message)


def framed(key: int, version: int, number: int, message: Any) -> bytes:
    frame = encode_request_header(key, version, number, "test")
    frame += messages.encode_request(key, version, message)
    return struct.pack(">i", len(frame)) + frame


def results(answers: list[Any], version: int = 9) -> list[tuple[int, int]]:
    """(error code, base offset) of each."""
    skipped = 9 if version >= 9 else 8
    read = [
        produced(messages.decode_response(apis.PRODUCE, version, answer[skipped:]))
        for answer in answers
    ]
    return [(result.error_code, result.base_offset) for result in read]


def files_below(directory: Path) -> dict[str, bytes]:
    found = sorted(path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in found}


def opened(broker: Stream) -> Stream:
    broker.create(partitions=2, segment_bytes="1048576")
    broker.send(request(bytes(batch(b"first"))) + request(bytes(batch(b"first")), index=1))
    broker.taken.clear()
    return broker


@pytest.fixture
def broker() -> Iterator[Stream]:
    """In memory; both partitions have one record."""
    found = opened(Stream(None, runs=True))
    yield found
    found.close()


def ops_of(broker: Stream) -> Any:
    return broker.logs.by_name[TOPIC, 0]._host.ops


def one_of(rng: random.Random, sequences: dict[int, list[int]], number: int, version: int) -> bytes:
    """A request of a client that is mostly right."""
    value = bytes(rng.choice([1, 300, 4000, 9000, 30000]))
    fields: dict[str, Any] = {}
    producer_id = rng.choice([-1] + [7] * 9 + [8]) if version > 7 else -1
    if producer_id >= 0:
        seen = sequences.setdefault(producer_id, [0])
        again = rng.random() < 0.05
        fields = {
            "producer_id": producer_id, "producer_epoch": 0,
            "base_sequence": rng.choice(seen[-6:]) if again else seen[-1],
        }  # fmt: skip
    count = rng.choice([1, 1, 3])
    if fields and fields["base_sequence"] == sequences[producer_id][-1]:
        sequences[producer_id].append(fields["base_sequence"] + count)
    data = bytes(batch(*[value] * count, **fields))
    if rng.random() < 0.03:
        data = data[:-1] + b"?"
    return request(
        data, number, version=version, acks=rng.choice([-1, 1, 1, 1]),
        index=rng.choice([0] * 20 + [1, 2]), topic=rng.choice([TOPIC] * 30 + ["none"]),
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(30))
def test_a_broker_with_runs_is_one_without(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    both = [opened(Stream(tmp_path / name, runs=name == "runs")) for name in ("alone", "runs")]
    sequences: dict[int, list[int]] = {}
    for turn in range(25):
        data, version = b"", rng.choice([3, 7, 9, 9, 12, 13])
        for number in range(rng.choice([1, 2, 5, 9])):
            asks = rng.random() < 0.05
            if asks:
                data += fetch(rng.randrange(3), number)
            else:
                data += one_of(rng, sequences, number, version)
        if rng.random() < 0.2:
            data += request(bytes(batch(b"silent")), acks=0, index=rng.choice([0, 0, 0, 5]))
        alone, together = (broker.send(data) for broker in both)
        assert together == alone, turn
    assert max(both[1].taken) > 2
    shown = [
        (part.high_watermark, part.last_stable_offset, part.next_offset, list(part.producers),
         [getattr(part.counters, name) for name in COUNTERS])
        for broker in both for part in broker.logs.all()
    ]  # fmt: skip
    assert [row[:3] + row[4:] for row in shown[:2]] == [row[:3] + row[4:] for row in shown[2:]]
    known = [{entry.producer_id: entry.batches for entry in row[3]} for row in shown]
    assert known[:2] == known[2:]
    for broker in both:
        broker.close()
    assert files_below(tmp_path / "runs") == files_below(tmp_path / "alone")


@pytest.mark.parametrize("version", range(3, 14))
def test_every_version(broker: Stream, version: int) -> None:
    """Before version 7 a request has to be asked for its codec: each is handled alone."""
    data = bytes(batch(b"a", b"b"))
    answers = broker.send(b"".join(request(data, n, version=version) for n in range(4)))
    assert results(answers, version) == [(0, 1), (0, 3), (0, 5), (0, 7)]
    assert [struct.unpack_from(">i", answer, 4)[0] for answer in answers] == [0, 1, 2, 3]
    assert broker.taken == ([4] if version >= 7 else [])


def state(part: Any) -> tuple[Any, ...]:
    (segment,) = part.log.segments()
    counters = part.counters
    return (
        segment.next_offset, segment.size_bytes, segment.max_timestamp, part.next_offset,
        part.high_watermark, part.last_stable_offset, counters.bytes_in, counters.messages_in,
    )  # fmt: skip


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("position", range(5))
@pytest.mark.parametrize("short", [None, 100])
def test_a_write_that_fails(broker: Stream, code: int, position: int, short: int | None) -> None:
    """At each of its parts, for good: every request has the error, and nothing has happened."""
    part = broker.logs.by_name[TOPIC, 0]
    before = state(part)
    ops_of(broker).fail_next("pwrite", code, after=position, short_bytes=short, times=100)
    data = [numbered(n) for n in range(5)]
    answers = broker.send(b"".join(request(one, n) for n, one in enumerate(data)))
    assert results(answers) == [(errors.KAFKA_STORAGE_ERROR, -1)] * 5
    assert broker.taken == []
    assert state(part) == before
    assert part.producers.get(7) is None
    assert ("Input/output error" in part.disk.failure) == bool(part.failure) == (code == errno.EIO)
    ops_of(broker).heal()
    again = results(broker.send(request(data[0])))
    assert again == [(errors.KAFKA_STORAGE_ERROR, -1) if code == errno.EIO else (0, 1)]
    assert len(bytes(part.log.read(0, 1 << 20))) == part.log.size_bytes


@pytest.mark.parametrize("room", [0, 4000, 6000, 12000, 26000, 27000])
def test_a_disk_that_fills_up_in_the_middle(room: int) -> None:
    """What still fits is appended, as alone."""
    both = [opened(Stream(None, runs=runs)) for runs in (False, True)]
    data = [numbered(n) for n in range(5)]
    told = []
    for broker in both:
        used = sum(part.log.segments()[0].size_bytes for part in broker.logs.all())
        ops_of(broker).capacity_bytes = used + room
        answers = broker.send(b"".join(request(one, n) for n, one in enumerate(data)))
        ops_of(broker).capacity_bytes = None
        answers += broker.send(b"".join(request(one, n) for n, one in enumerate(data)))
        part = broker.logs.by_name[TOPIC, 0]
        told.append((answers, bytes(part.log.read(0, 1 << 20)), part.high_watermark))
    assert told[0] == told[1]
    assert both[1].taken


def test_a_real_file_that_may_not_grow(tmp_path: Path) -> None:
    """The write puts a part of itself down before it fails: nothing of that is in the log."""
    broker = opened(Stream(tmp_path, runs=True))
    part = broker.logs.by_name[TOPIC, 0]
    broker.send(request(bytes(batch(b"x" * 40_000))))
    broker.send(request(bytes(batch(LARGE))))  # the file is doubled: it has room for more
    broker.taken.clear()
    end = part.log.size_bytes
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (end + 8000, limits[1]))
    try:
        data = b"".join(request(bytes(batch(LARGE)), n) for n in range(4))
        answers = broker.send(data)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert results(answers) == [(0, 3)] + [(errors.KAFKA_STORAGE_ERROR, -1)] * 3
    assert broker.taken == []
    assert results(broker.send(data)) == [(0, 4), (0, 5), (0, 6), (0, 7)]
    broker.close()


def test_what_ends_a_run(broker: Stream) -> None:
    small, large = bytes(batch(b"a")), bytes(batch(b"x" * 100_000))
    broker.send(request(small) * 3 + request(small, index=1) + request(small) * 2)
    assert broker.taken == [3, 1, 2]
    broker.taken.clear()
    broker.send(request(small) * 2 + request(small[:-1] + b"?") + request(small))
    assert broker.taken == [2, 1]
    broker.taken.clear()
    broker.send(request(large) * 5 + request(bytes(batch(b"x" * 300_000))))
    assert broker.taken == [2, 2, 1, 1]
    broker.taken.clear()
    broker.send(request(small) * 40)
    assert broker.taken == [16, 16, 8]
    broker.taken.clear()
    broker.most = 3
    broker.send(request(small) * 4 + fetch(0, 0) + request(small))
    assert broker.taken == [3, 1, 1]


def test_a_run_ends_where_its_segment_does(tmp_path: Path) -> None:
    both = [opened(Stream(tmp_path / name, runs=name == "runs")) for name in ("alone", "runs")]
    data = b"".join(request(bytes(batch(b"x" * 60_000)), n) for n in range(4))
    for _ in range(10):
        alone, together = (broker.send(data) for broker in both)
        assert together == alone
    segments = [
        [(found.base_offset, found.size_bytes) for found in part.log.segments()]
        for part in (broker.logs.by_name[TOPIC, 0] for broker in both)
    ]
    assert segments[0] == segments[1] and len(segments[0]) == 3
    for broker in both:
        broker.close()


def test_what_is_not_plain_is_not_taken(broker: Stream) -> None:
    for name, config in (
        ("sync", {"flush_policy": "sync"}),
        ("now", {"message_timestamp_type": "LogAppendTime"}),
        ("lz4", {"compression_type": "lz4"}),
    ):
        broker.create(name, **config)
        data = request(bytes(batch(b"a")), topic=name)
        broker.send(data)
        broker.turn()
        broker.send(data * 2)
        assert broker.taken == [], name


def test_a_flush_is_asked_for_when_it_is_due(broker: Stream) -> None:
    broker.create("often", flush_messages="5")
    part = broker.logs.by_name["often", 0]
    data = request(bytes(batch(b"a")), topic="often")
    broker.send(data)
    assert part.log.flushed_offset == 0
    broker.send(data * 3)
    assert part.log.flushed_offset == 0
    broker.send(data * 3)
    broker.turn()
    assert part.log.flushed_offset == 7 and broker.taken == [3, 3]


def test_a_parked_fetch_sees_the_whole_run(broker: Stream) -> None:
    """And nothing of one that was not written."""
    part = FetchPartition(partition=0, fetch_offset=1, partition_max_bytes=1 << 20)
    asked = FetchRequest(
        topics=[FetchTopic(topic=TOPIC, partitions=[part])], max_bytes=1 << 20, min_bytes=1,
        max_wait_ms=1000,
    )  # fmt: skip
    parked = broker.call(apis.FETCH, 12, asked)
    data = b"".join(request(bytes(batch(LARGE)), n) for n in range(3))
    ops_of(broker).fail_next("pwrite", errno.ENOSPC, after=2, times=2)
    assert [code for code, _ in results(broker.send(data))] == [errors.KAFKA_STORAGE_ERROR, 0, 0]
    broker.turn()
    found = parked.answer().responses[0].partitions[0]
    assert (found.high_watermark, found.error_code) == (3, 0)
    assert broker.taken == [2]


def test_answers_of_a_run_wait_for_their_turn() -> None:
    """Through a socket: what a fetch that waits holds back leaves behind it."""
    import kbroker

    with kbroker.BrokerThread({"kcore.storage": "memory", "num.partitions": "2"}) as running:
        host, _, port = running.bootstrap.rpartition(":")
        with (
            socket.create_connection((host, int(port)), timeout=WAIT_S) as one,
            socket.create_connection((host, int(port)), timeout=WAIT_S) as other,
        ):
            created = CreateTopicsRequest(
                topics=[CreatableTopic(name=TOPIC, num_partitions=2, replication_factor=1)]
            )
            one.sendall(framed(apis.CREATE_TOPICS, 4, 99, created))
            now = [time.time_ns() // 1_000_000]
            data = bytes(batch(b"a", timestamps=now))
            one.sendall(request(data, 0) + request(data, 1, index=1))
            one.sendall(fetch(1, 2) + b"".join(request(data, 3 + n, index=1) for n in range(3)))
            assert [answered(one) for _ in range(3)] == [99, 0, 1]
            other.sendall(request(data, 7))
            assert [answered(one) for _ in range(4)] == [2, 3, 4, 5]


def test_the_first_request_brings_them(broker: Stream) -> None:
    assert type(broker._dispatcher.row(apis.PRODUCE, 9).runs) is ProduceRuns


def answered(sock: socket.socket) -> int:
    """The correlation id of the next answer."""
    size, number = struct.unpack(">ii", received(sock, 8))
    received(sock, size - 4)
    return int(number)


def received(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += (part := sock.recv(size - len(data)))
        assert part, "the broker closed the connection"
    return data
