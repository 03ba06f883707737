"""Every client reads what every other client wrote.

Goal: what one client wrote means the same to all. Method: each writer writes with a codec of its
own into one topic; each reader reads the whole topic and must see every writer's records.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.clients.conftest import DRIVEN_CLIENTS
from tests.clients.driven import DrivenClient, KcatClient, Received, Sent
from tests.support.recent import RECENT_MS

Clients = Callable[[str], DrivenClient]

RECORDS_EACH = 50
CODEC_OF = {"confluent": "lz4", "kafka_python": "gzip", "aiokafka": "snappy", "java": "zstd"}


def written_by(name: str) -> list[Sent]:
    return [
        Sent(
            f"{name} value {i} ".encode() * (1 + i % 7),
            None if i % 5 == 0 else f"{name}-{i}".encode(),
            (("writer", name.encode()),) if i % 2 else (),
            RECENT_MS + i,
        )
        for i in range(RECORDS_EACH)
    ]


def write_all(clients: Clients, kcat: KcatClient, topic: str) -> list[Sent]:
    expected: list[Sent] = []
    for name, codec in CODEC_OF.items():
        records = written_by(name)
        clients(name).produce(topic, records, codec=codec)
        expected += records
    without_value = [Sent(b"null header", None, (("null", None),), RECENT_MS)]
    clients("confluent").produce(topic, without_value)
    expected += without_value
    lines = [b"kcat line %d" % i for i in range(RECORDS_EACH)]
    kcat.produce_lines(topic, lines, codec="gzip")
    return expected + [Sent(line) for line in lines]


def content(records: list[Sent] | list[Received], reader: str) -> list[tuple[object, ...]]:
    """What `reader` can tell apart: kcat prints "NULL" for a header without a value."""
    if reader != "kcat":
        return [(r.value, r.key, r.headers) for r in records]
    shown = [tuple((name, value or b"NULL") for name, value in r.headers) for r in records]
    return [(r.value, r.key, headers) for r, headers in zip(records, shown, strict=True)]


@pytest.mark.parametrize("reader", [*DRIVEN_CLIENTS, "kcat"])
def test_every_reader_sees_every_writers_records(
    reader: str, clients: Clients, kcat: KcatClient, topic: str
) -> None:
    expected = write_all(clients, kcat, topic)
    if reader == "kcat":
        received = kcat.consume(topic, len(expected))
    else:
        received = clients(reader).consume(topic, len(expected))
    assert content(received, reader) == content(expected, reader)
    assert [r.offset for r in received] == list(range(len(expected)))
    stamped = len(CODEC_OF) * RECORDS_EACH
    sent_times = [record.timestamp_ms for record in expected[:stamped]]
    assert [r.timestamp_ms for r in received[:stamped]] == sent_times
