"""A million real records through a topic, compared by content hash.

Goal: the main job on real input, at size. Method: examples/stream_stdlib.py streams the lines of
Python's standard library (it ships with the machine) as anybody would run it and compares what it
reads back; then a client that had no part in it, the Java one, reads the topic and hashes it too.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from examples.stream_stdlib import expected_digests
from tests.clients.driven import DrivenClient
from tests.clients.served import Broker

ROOT = Path(__file__).resolve().parent.parent.parent
RECORDS = 1_000_000
PARTITIONS = 4


@pytest.mark.peer
def test_a_million_lines_come_back_the_same(
    broker: Broker, topic_name: str, clients: Callable[[str], DrivenClient]
) -> None:
    done = subprocess.run(
        [
            *(sys.executable, str(ROOT / "examples" / "stream_stdlib.py")),
            *("--bootstrap", broker.bootstrap, "--topic", topic_name),
            *("--records", str(RECORDS), "--partitions", str(PARTITIONS)),
        ],
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    expected = expected_digests(RECORDS, PARTITIONS)
    for partition, digest in enumerate(expected):
        assert f"partition {partition}: same {digest}" in done.stdout
    java = clients("java")
    count = RECORDS // PARTITIONS
    found = [
        java.call("digest", topic=topic_name, partition=partition, count=count)
        for partition in range(PARTITIONS)
    ]
    assert found == expected
