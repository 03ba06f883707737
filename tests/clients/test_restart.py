"""A broker that stops or is killed and comes back: clients go on, nothing acknowledged is lost.

Goal: a clean stop and a `kill -9` keep topics, configurations, offsets, records and the state of
idempotent producers (reliability S06). Method: client processes that live through it; a load that
reports every acknowledged record with its offset, compared with all that is there afterwards.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clients.conftest import DRIVEN_CLIENTS, open_client
from tests.clients.deaf_proxy import DeafProxy
from tests.clients.driven import DrivenClient, Sent
from tests.clients.served import Broker, ServedBroker, serve_command
from tests.support.recent import RECENT_MS

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
    records = [Sent(b"%d" % i, b"k", (), RECENT_MS + i) for i in range(300)]
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
        checked = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("name", DRIVEN_CLIENTS)
def test_an_append_whose_answer_was_lost_is_not_made_twice(name: str, tmp_path: Path) -> None:
    """The broker appends, its answer is lost, it is killed, it comes back, the producer tries
    again: only state rebuilt from the log can tell that the batch is there already."""
    with DeafProxy() as proxy:
        # Clients are told the proxy's address, and it alone.
        advertised = {"advertised.listeners": f"PLAINTEXT://127.0.0.1:{proxy.port}"}
        address = f"127.0.0.1:{proxy.port}"
        with ServedBroker(tmp_path, advertised) as broker:
            proxy.lead_to(broker.bootstrap)
            with open_client(name, address) as client:
                lose_an_answer(client, address, broker, proxy)


def lose_an_answer(
    client: DrivenClient, address: str, broker: ServedBroker, proxy: DeafProxy
) -> None:
    client.call("create_topic", topic="t", partitions=1, config={})
    records = [Sent(b"%d" % i, None, (), RECENT_MS) for i in range(120)]
    client.produce("t", records[:100], idempotent=True)
    proxy.mute()
    client.ask_produce("t", records[100:], idempotent=True)
    with open_client("kafka_python", address) as other:
        wait_for_offset(other, "t", 120)
    broker.kill()
    broker.start()
    proxy.cut()
    assert client.answer() == list(range(100, 120))
    with open_client("confluent", address) as other:
        assert [r.value for r in other.consume("t", 120)] == [r.value for r in records]
        assert other.call("list_offset", topic="t", partition=0, which="latest") == 120


def wait_for_offset(client: DrivenClient, topic: str, offset: int) -> None:
    deadline = time.monotonic() + 60
    latest = -1
    while latest < offset and time.monotonic() < deadline:
        # Each look is a request to the broker: that is the pause between two of them.
        latest = client.call("list_offset", topic=topic, partition=0, which="latest")
    assert latest == offset
