"""Start-up to the first Metadata answer, memory of an idle broker, disk of empty partitions.

Peers: the time Python itself needs (`import asyncio`), and Apache Kafka where its jars are at hand.
CPU is told too: on a machine that others use, the time of a start is mostly theirs.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from broker_process import BrokerProcess, running_broker

START_ROW = "start-up to the first Metadata answer"
START_CPU_ROW = "CPU of a start-up to the first Metadata answer"
STARTS = 15


@pytest.fixture(autouse=True)
def compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Python may not keep what it compiles, a start is mostly its compiler."""
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)


def test_start_ours(benchmark: Any, row: Any, tmp_path: Path) -> None:
    row(START_ROW, "ours", target="<= 1.25x import asyncio")
    brokers: list[BrokerProcess] = []

    def prepare() -> tuple[tuple[BrokerProcess], dict[str, Any]]:
        for old in brokers:
            old.stop()
        brokers[:] = [BrokerProcess(tmp_path / "data")]
        return (brokers[0],), {}

    benchmark.pedantic(BrokerProcess.start, setup=prepare, rounds=11, warmup_rounds=1)
    brokers[0].stop()


def test_start_python_asyncio(benchmark: Any, row: Any) -> None:
    row(START_ROW, "import asyncio")
    command = [sys.executable, "-c", "import asyncio"]
    benchmark.pedantic(subprocess.run, args=(command,), rounds=11, warmup_rounds=1)


def test_start_cpu_ours(row: Any, record_value: Any, tmp_path: Path) -> None:
    row(START_CPU_ROW, "ours", target="<= 1.25x import asyncio")
    seen = []
    for _ in range(STARTS):
        broker = BrokerProcess(tmp_path / "data")
        broker.start()
        seen.append(broker.cpu_ns() / 1e6)
        broker.stop()
    record_value(statistics.median(seen), "ms")


def test_start_cpu_python_asyncio(row: Any, record_value: Any) -> None:
    row(START_CPU_ROW, "import asyncio")
    code = "import asyncio, time; print(time.process_time())"
    seen = [
        float(subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE).stdout) * 1e3
        for _ in range(STARTS)
    ]
    record_value(statistics.median(seen), "ms")


def test_idle_memory(row: Any, record_value: Any) -> None:
    row("idle broker, resident memory", "ours", target="<= 40 MB")
    with running_broker() as broker:
        record_value(broker.rss_bytes(), "bytes")


def disk_bytes(directory: Path) -> int:
    blocks = 0
    for root, _, files in os.walk(directory):
        blocks += os.stat(root).st_blocks
        blocks += sum(os.stat(os.path.join(root, name)).st_blocks for name in files)
    return blocks * 512


def test_disk_of_empty_partitions(row: Any, record_value: Any) -> None:
    row("disk used by 100 empty partitions", "ours", target="<= 10 MB")
    from confluent_kafka.admin import AdminClient, NewTopic

    with running_broker() as broker:
        before = disk_bytes(broker.data_dir)
        admin = AdminClient({"bootstrap.servers": broker.bootstrap})
        admin.create_topics([NewTopic("empty", 100, 1)])["empty"].result(30)
        record_value(disk_bytes(broker.data_dir) - before, "bytes")
