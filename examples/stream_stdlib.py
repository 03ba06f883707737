"""Streams a real data set through a topic and proves that nothing changed on the way.

The data set ships with Python: every line of every module of its standard library, in the order of
the sorted file names, from the start again until there are enough. Each line is one record; line i
goes to partition i modulo the number of partitions. What came back is compared by SHA-256.

    kcore serve &
    python examples/stream_stdlib.py --bootstrap 127.0.0.1:9092 --records 1000000
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

SILENCE_SECONDS_MAX = 30.0


def standard_library_lines() -> Iterator[bytes]:
    """Every line, without end. A file keeps its bytes; an empty line is an empty record."""
    folder = Path(sysconfig.get_path("stdlib"))
    # Packages that were installed later stand in the same folder; they are no part of Python.
    paths = sorted(p for p in folder.rglob("*.py") if "site-packages" not in p.parts)
    while True:
        for path in paths:
            yield from path.read_bytes().splitlines()


class Digest:
    """SHA-256 over each value's size (4 bytes, big-endian) and bytes, in order."""

    def __init__(self) -> None:
        self._sha = hashlib.sha256()

    def add(self, value: bytes) -> None:
        self._sha.update(len(value).to_bytes(4, "big") + value)

    def text(self) -> str:
        return self._sha.hexdigest()


def expected_digests(records: int, partitions: int) -> list[str]:
    digests = [Digest() for _ in range(partitions)]
    for i, line in enumerate(itertools.islice(standard_library_lines(), records)):
        digests[i % partitions].add(line)
    return [digest.text() for digest in digests]


def produce(bootstrap: str, topic: str, records: int, partitions: int, codec: str) -> None:
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "linger.ms": 20,
            "compression.type": codec,
        }
    )
    for i, line in enumerate(itertools.islice(standard_library_lines(), records)):
        while True:
            try:
                producer.produce(topic, line, partition=i % partitions)
                break
            except BufferError:  # the client's queue is full: let it send
                producer.poll(0.1)
        if i % 1_000 == 0:
            producer.poll(0)
    left = producer.flush(SILENCE_SECONDS_MAX)
    if left:
        raise SystemExit(f"{left} records were not acknowledged")


def consume_digest(bootstrap: str, topic: str, partition: int, count: int) -> str:
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "not-used", "enable.auto.commit": False}
    )
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING)])
    digest, seen = Digest(), 0
    try:
        while seen < count:
            messages = consumer.consume(min(10_000, count - seen), timeout=SILENCE_SECONDS_MAX)
            if not messages:
                raise SystemExit(f"partition {partition}: {seen} of {count} records arrived")
            for message in messages:
                if error := message.error():
                    raise SystemExit(f"partition {partition}: {error}")
                digest.add(message.value() or b"")
            seen += len(messages)
    finally:
        consumer.close()
    return digest.text()


def main() -> int:
    parser = argparse.ArgumentParser(description="a data set through a topic, compared by hash")
    parser.add_argument("--bootstrap", default="127.0.0.1:9092")
    parser.add_argument("--topic", default="standard-library")
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--codec", default="lz4", help="none, gzip, snappy, lz4 or zstd")
    options = parser.parse_args()
    bootstrap, topic, partitions = options.bootstrap, options.topic, options.partitions

    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(30)
    started = time.monotonic()
    produce(bootstrap, topic, options.records, partitions, options.codec)
    produced = time.monotonic()
    print(f"produced {options.records} records in {produced - started:.1f} s")

    counts = [len(range(p, options.records, partitions)) for p in range(partitions)]
    found = [consume_digest(bootstrap, topic, p, counts[p]) for p in range(partitions)]
    print(f"consumed them in {time.monotonic() - produced:.1f} s")

    expected = expected_digests(options.records, partitions)
    for partition, (ours, theirs) in enumerate(zip(expected, found, strict=True)):
        print(f"partition {partition}: {'same' if ours == theirs else 'DIFFERENT'} {theirs}")
    return 0 if expected == found else 1


if __name__ == "__main__":
    sys.exit(main())
