"""The peers themselves: the JVM tools run, and a real Kafka broker starts, dies and comes back."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from confluent_kafka import Producer

from tests.peers import KafkaProcess, require_peer, run_java

pytestmark = pytest.mark.peer


def test_kcat_runs() -> None:
    require_peer("kcat")
    assert "librdkafka" in subprocess.run(["kcat", "-V"], capture_output=True, text=True).stdout


def test_java_tools_run() -> None:
    require_peer("kafka")
    done = run_java("kafka.tools.StorageTool", "random-uuid")
    assert (done.returncode, len(done.stdout.strip()), done.stderr) == (0, 22, "")


def test_a_real_broker_survives_a_kill(tmp_path: Path) -> None:
    require_peer("kafka")
    with KafkaProcess(tmp_path) as kafka:
        producer = Producer({"bootstrap.servers": kafka.bootstrap})
        producer.produce("t", b"one")
        assert producer.flush(20) == 0
        kafka.kill()
        assert not (kafka.data_dir / ".kafka_cleanshutdown").exists()
        kafka.start()
        kafka.stop()
    assert (kafka.data_dir / ".kafka_cleanshutdown").exists()
    assert b"one" in (kafka.data_dir / "t-0" / f"{0:020d}.log").read_bytes()
