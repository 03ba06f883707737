"""Apache Kafka beside ours, as its own start script runs it: a full JIT, G1, a heap of 1 GB.

Only where its jars and a JVM are (`python -m ci.peers` fetches them); without them rows have no
peer. It must be warm before anything is compared: the benches send it some seconds of their own
requests first.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.peers import KafkaProcess, java_available, kafka_classpath

FLAGS = ("-server", "-Xms1g", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20",
         "-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent")  # fmt: skip
# The tests' Kafka is made small; this one has Kafka's own defaults where they matter.
PROPERTIES = {
    "num.network.threads": "3",
    "num.io.threads": "8",
    "offsets.topic.num.partitions": "50",
}


def kafka_available() -> bool:
    return java_available() and kafka_classpath() is not None


@contextlib.contextmanager
def running_kafka(properties: Mapping[str, str] | None = None) -> Iterator[KafkaProcess]:
    with tempfile.TemporaryDirectory(prefix="kcore-bench-kafka-") as directory:
        kafka = KafkaProcess(
            Path(directory), {**PROPERTIES, **(properties or {})}, heap="1g", java_flags=FLAGS
        )
        with kafka:
            yield kafka
