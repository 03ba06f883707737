"""Each client reads back exactly what it wrote: bytes, keys, headers, nulls, timestamps, sizes.

Goal: a client's own produce and consume by assignment work, with every codec and from every
starting point. Method: the client runs in a process of its own and reports what it saw.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.clients.conftest import DRIVEN_CLIENTS
from tests.clients.driven import DrivenClient, KcatClient, Received, Sent
from tests.support.recent import RECENT_MS

Clients = Callable[[str], DrivenClient]

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
MEBIBYTE = 1 << 20

ZOO = [
    Sent(b"v", b"k", (), RECENT_MS),
    Sent(b"\x00", None, (), RECENT_MS + 1),
    Sent(b"", b"", (("empty", b""),), RECENT_MS + 2),
    Sent(None, b"tombstone", (), RECENT_MS + 3),
    Sent(b"\xff\x00\n\t" * 250, bytes(range(256)), (("h", b"1"), ("h", b"2")), RECENT_MS + 4),
    Sent(b"null header", b"k", (("null", None), ("name", b"value")), RECENT_MS + 5),
    Sent(b"compressible " * 8_000, b"k", (), RECENT_MS + 6),
]


def payload(size: int) -> bytes:
    """Bytes that no codec shrinks much, the same in every run."""
    state, out = 0x2545F491, bytearray()
    for _ in range(min(size, 4096)):
        state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
        out.append(state >> 24)
    return bytes((out * (size // max(1, len(out)) + 1))[:size])


def can_write(name: str, record: Sent) -> bool:
    """kafka-python refuses a header without a value; all of them can read one (test_cross.py)."""
    return name != "kafka_python" or all(value is not None for _, value in record.headers)


def as_sent(records: list[Received]) -> list[Sent]:
    return [Sent(r.value, r.key, r.headers, r.timestamp_ms) for r in records]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("name", DRIVEN_CLIENTS)
def test_every_codec_brings_every_kind_of_record_back(
    name: str, codec: str, clients: Clients, topic: str
) -> None:
    client = clients(name)
    records = [record for record in ZOO if can_write(name, record)]
    offsets = client.produce(topic, records, codec=codec)
    assert offsets == list(range(len(records)))
    received = client.consume(topic, len(records))
    assert as_sent(received) == records
    assert [r.offset for r in received] == offsets


@pytest.mark.parametrize("name", DRIVEN_CLIENTS)
def test_messages_of_one_byte_to_one_mebibyte(name: str, clients: Clients, topic_name: str) -> None:
    client = clients(name)
    config = {"max.message.bytes": str(2 * MEBIBYTE)}
    clients("confluent").call("create_topic", topic=topic_name, partitions=1, config=config)
    sizes = [1, 2, 100, 1023, 4096, 65_537, 262_144, MEBIBYTE - 1, MEBIBYTE]
    records = [Sent(payload(size), None, (), RECENT_MS) for size in sizes]
    assert client.produce(topic_name, records) == list(range(len(sizes)))
    received = client.consume(topic_name, len(sizes))
    assert [len(r.value or b"") for r in received] == sizes
    assert as_sent(received) == records


@pytest.mark.parametrize("name", DRIVEN_CLIENTS)
def test_idempotent_producer(name: str, clients: Clients, topic: str) -> None:
    client = clients(name)
    records = [Sent(b"%d" % i, None, (), RECENT_MS + i) for i in range(2_000)]
    first = client.produce(topic, records[:1_500], idempotent=True)
    second = client.produce(topic, records[1_500:], idempotent=True)
    assert first + second == list(range(2_000))
    assert as_sent(client.consume(topic, 2_000)) == records


@pytest.mark.parametrize("acks", [0, 1])
@pytest.mark.parametrize("name", DRIVEN_CLIENTS)
def test_weaker_acks(name: str, acks: int, clients: Clients, topic: str) -> None:
    client = clients(name)
    records = [Sent(b"%d" % i, b"k", (), RECENT_MS + i) for i in range(100)]
    offsets = client.produce(topic, records, acks=acks)
    if acks == 1:
        assert offsets == list(range(100))
    assert as_sent(client.consume(topic, 100)) == records


@pytest.mark.parametrize("name", DRIVEN_CLIENTS)
def test_consume_from_offset_and_timestamp(name: str, clients: Clients, topic: str) -> None:
    client = clients(name)
    records = [Sent(b"%d" % i, None, (), RECENT_MS + 10 * i) for i in range(300)]
    for begin in range(0, 300, 60):
        client.produce(topic, records[begin : begin + 60])
    # Both inside a batch: a broker answers with whole batches, the client leaves out the front.
    assert as_sent(client.consume(topic, 10, start="offset", value=137)) == records[137:147]
    # Between two records' times: the first record not older than that.
    found = client.consume(topic, 5, start="timestamp", value=RECENT_MS + 10 * 201 - 3)
    assert [r.offset for r in found] == [201, 202, 203, 204, 205]


@pytest.mark.parametrize("name", DRIVEN_CLIENTS)
def test_consume_from_the_end_sees_only_what_comes_later(
    name: str, clients: Clients, topic: str
) -> None:
    client = clients(name)
    writer = clients("kafka_python" if name == "confluent" else "confluent")
    writer.produce(topic, [Sent(b"before", None, (), RECENT_MS)] * 3)
    client.ask_consume(topic, 2, start="end")
    client.wait_event("positioned")
    writer.produce(topic, [Sent(b"after 1"), Sent(b"after 2")])
    assert [(r.offset, r.value) for r in client.consumed()] == [(3, b"after 1"), (4, b"after 2")]


@pytest.mark.parametrize("codec", CODECS)
def test_kcat_brings_records_back(codec: str, kcat: KcatClient, topic: str) -> None:
    records = [
        Sent(b"v", b"k", (("name", b"value"),)),
        Sent(b"line\nline", None),
        Sent(b"compressible " * 8_000, b"key"),
        Sent(payload(1_000_000), b"big"),
    ]
    kcat.produce(topic, records, codec=codec)
    received = kcat.consume(topic, len(records))
    assert [(r.value, r.key or None, r.headers) for r in received] == [
        (r.value, r.key, r.headers) for r in records
    ]
    assert [r.offset for r in received] == [0, 1, 2, 3]


def test_kcat_offsets_timestamps_and_metadata(
    kcat: KcatClient, clients: Clients, topic: str
) -> None:
    records = [Sent(b"%d" % i, None, (), RECENT_MS + 10 * i) for i in range(100)]
    clients("confluent").produce(topic, records)
    assert [r.offset for r in kcat.consume(topic, 3, start="offset", value=41)] == [41, 42, 43]
    found = kcat.consume(topic, 2, start="timestamp", value=RECENT_MS + 495)
    assert [r.offset for r in found] == [50, 51]
    assert kcat.query(topic, RECENT_MS + 301) == 31
    known = {t["topic"]: len(t["partitions"]) for t in kcat.metadata()["topics"]}
    assert known[topic] == 1
