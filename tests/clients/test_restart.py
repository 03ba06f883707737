"""A broker that stops or is killed and comes back: clients go on, nothing acknowledged is lost.

Goal: a clean stop and a `kill -9` keep topics, configurations, offsets, records and the state of
idempotent producers (reliability S06). Method: client processes that live through it; a load that
reports every acknowledged record with its offset, compared with all that is there afterwards.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clients.conftest import DRIVEN_CLIENTS, open_client
from tests.clients.driven import DrivenClient, Sent
from tests.clients.served import Broker, ServedBroker, serve_command

BASE_MS = 1_700_000_000_000
PARTITIONS = 3
ACKS_PER_EVENT = 2_000
# A JVM broker takes seconds to come back; there, the test only has to show that it is right.
KILLS = 2 if os.environ.get("KCORE_TEST_BROKER") == "kafka" else 10

NewBroker = Callable[..., Broker]


def state_of(client: DrivenClient, topic: str) -> list[object]:
    config = client.call("describe_config", topic=topic)
    return [client.call("partition_count", topic=topic), client.call("cluster")["id"], config]


@pytest.mark.parametrize("name", DRIVEN_CLIENTS)
def test_clients_live_through_a_restart(name: str, new_broker: NewBroker) -> None:
    broker = new_broker()
    records = [Sent(b"%d" % i, b"k", (), BASE_MS + i) for i in range(300)]
    with (
        open_client(name, broker.bootstrap) as client,
        open_client("confluent", broker.bootstrap) as admin,
    ):
        client.call("create_topic", topic="t", partitions=2, config={"retention.ms": "-1"})
        before = state_of(admin, "t")
        assert client.produce("t", records[:100], idempotent=True) == list(range(100))
        broker.stop()
        broker.start()
        assert client.produce("t", records[100:200], idempotent=True) == list(range(100, 200))
        broker.kill()
        broker.start()
        assert client.produce("t", records[200:], idempotent=True) == list(range(200, 300))
        received = client.consume("t", 300)
        assert [(r.offset, r.value, r.timestamp_ms) for r in received] == [
            (i, record.value, record.timestamp_ms) for i, record in enumerate(records)
        ]
        assert state_of(admin, "t") == before


def run_load_through_kills(
    broker: Broker, client: DrivenClient, stop_file: Path, **load: object
) -> list[list[int]]:
    client.call("create_topic", topic="t", partitions=PARTITIONS, config={})
    client.ask(
        "load",
        topic="t",
        partitions=PARTITIONS,
        stop_file=str(stop_file),
        report_every=ACKS_PER_EVENT,
        **load,
    )
    for _ in range(KILLS):
        # The load goes on at full speed: the kill meets requests in every stage.
        client.drop_events()
        client.wait_event("progress")
        broker.kill()
        broker.start()
    client.drop_events()
    client.wait_event("progress")
    stop_file.touch()
    acked: list[list[int]] = client.answer()
    return acked


@pytest.mark.timeout(300)
@pytest.mark.parametrize("idempotent", [False, True], ids=["acks-1", "idempotent"])
def test_kill_9_under_load_loses_nothing_acknowledged(
    idempotent: bool, new_broker: NewBroker, tmp_path: Path
) -> None:
    broker = new_broker()
    with open_client("confluent", broker.bootstrap) as client:
        load = {"acks": -1 if idempotent else 1, "idempotent": idempotent}
        acked = run_load_through_kills(broker, client, tmp_path / "stop", **load)
        there = [client.call("numbers", topic="t", partition=p) for p in range(PARTITIONS)]
    assert len(acked) > KILLS * ACKS_PER_EVENT
    lost = [row for row in acked if there[row[1]][row[2] : row[2] + 1] != [row[0]]]
    assert not lost, f"{len(lost)} acknowledged records are not at their offset: {lost[:5]}"
    if idempotent:
        for partition, numbers in enumerate(there):
            assert numbers == list(range(partition, len(acked), PARTITIONS))
    broker.stop()
    if isinstance(broker, ServedBroker):
        command = [*serve_command(), "verify", str(broker.data_dir)]
        checked = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert checked.returncode == 0, checked.stdout + checked.stderr
