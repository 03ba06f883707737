"""The same commands on Apache Kafka: what they say of one broker they say of the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from kbroker.cli.connection import Connection
from kbroker.cli.lookup import offsets

from tests.cli.conftest import Kcore
from tests.peers import KafkaProcess, require_peer

PROPERTIES = {
    "group.initial.rebalance.delay.ms": "0",
    "group.coordinator.append.linger.ms": "0",  # groups are told of once they are written
}
WAIT_S = 60


@pytest.fixture(scope="module")
def on_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kcore]:
    require_peer("kafka")
    with KafkaProcess(tmp_path_factory.mktemp("kafka"), PROPERTIES) as kafka:
        yield Kcore(kafka.bootstrap)


def soon(look: Callable[[], Any], wanted: Any) -> None:
    """Kafka's broker learns of what its controller has acknowledged a little later."""
    end = time.monotonic() + WAIT_S
    while (seen := look()) != wanted and time.monotonic() < end:
        pass  # each look is a command of its own
    assert seen == wanted


@pytest.mark.peer
def test_topics_and_records(on_kafka: Kcore) -> None:
    on_kafka("topic", "create", "orders", "-p", "2", "-c", "retention.ms=600000")
    soon(lambda: ["orders", "2", "1", "0"] in on_kafka("topic", "list").rows, True)
    lines = '{"key":"a","value":"1","partition":0}\n{"key":"b","value":null,"partition":1}\n'
    on_kafka("produce", "orders", "--json", "-q", stdin=lines)
    shown = on_kafka("consume", "orders", "-e", "-f", "%p %o %k %S\n").out
    assert sorted(shown.splitlines()) == ["0 0 a 1", "1 0 b -1"]
    on_kafka("topic", "alter", "orders", "-c", "cleanup.policy=compact", "-d", "retention.ms")

    def described() -> Any:
        return on_kafka("topic", "describe", "orders", "-o", "json").json[0]

    soon(lambda: described()["configs"], {"cleanup.policy": "compact"})
    assert [(part["start"], part["end"]) for part in described()["partitions"]] == [(0, 1)] * 2
    on_kafka("topic", "partitions", "orders", "3")
    on_kafka("topic", "delete", "orders", "-y")


@pytest.mark.peer
@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_groups(on_kafka: Kcore, protocol: str) -> None:
    topic, group = f"read-{protocol}", f"readers-{protocol}"
    on_kafka("topic", "create", topic, "-c", "min.insync.replicas=1")
    on_kafka("produce", topic, "-q", stdin="x\n" * 10)
    read = on_kafka(
        "consume", topic, "-g", group, "--group-protocol", protocol, "--from", "start", "-n", "6"
    )
    assert read.out == "x\n" * 6
    assert [group, "Empty", protocol] in on_kafka("group", "list").rows
    (told,) = on_kafka("group", "describe", group, "-o", "json").json
    assert (told["state"], told["type"], told["lag"], told["members"]) == ("Empty", protocol, 4, [])

    reset = ("group", "reset", group, "-t", topic)
    assert on_kafka(*reset, "--shift-by", "-2").rows == [[topic, "0", "6", "4", "-2", "10", "6"]]
    assert on_kafka(*reset, "--to", "start", "--execute").rows[0][2:4] == ["6", "0"]
    assert on_kafka(*reset, "--to", "end", "-o", "json").json[0]["before"] == 0
    on_kafka("group", "delete-offsets", group, "-t", topic, "-y")
    assert on_kafka("group", "delete", group, "-y").out == f"{group} deleted\n"
    assert "there is no group" in on_kafka("group", "describe", group, code=1).err


@pytest.mark.peer
def test_configurations_and_the_cluster(on_kafka: Kcore) -> None:
    for what, name, key in (
        ("broker", "default", "log.retention.ms"),
        ("broker", "1", "log.cleaner.threads"),
        ("group", "anybody", "consumer.session.timeout.ms"),
    ):
        value = {"log.cleaner.threads": "2"}.get(key, "50000")
        on_kafka("config", "set", what, name, f"{key}={value}")
        got = ("config", "get", what, name, key, "-o", "json")
        soon(lambda got=got: [entry["value"] for entry in on_kafka(*got).json], [value])
        on_kafka("config", "set", what, name, "--delete", key)
    (broker,) = on_kafka("cluster", "info", "-o", "json").json["brokers"]
    assert broker["address"] == on_kafka.bootstrap


@pytest.mark.peer
def test_a_bench(on_kafka: Kcore) -> None:
    told = on_kafka("bench", "-n", "500", "--size", "10", "-o", "json").json
    assert told["produced"]["records"] == told["consumed"]["records"] == 500
    assert not [row for row in on_kafka("topic", "list").rows if row[0].startswith("kcore-bench")]


class YoungTopic:
    """An administrator of partitions that are not led when they are first asked about."""

    def __init__(self, code: int, refusals: int) -> None:
        self._code = code
        self._refusals = refusals

    def list_offsets(self, wanted: dict[Any, Any], **_: Any) -> dict[Any, Any]:
        futures = {}
        for part in wanted:
            future: Future[Any] = Future()
            if part.partition == 1 and self._refusals > 0:
                self._refusals -= 1
                future.set_exception(KafkaException(KafkaError(self._code)))
            else:
                future.set_result(type("Told", (), {"offset": 7}))
            futures[part] = future
        return futures


def ask(admin: YoungTopic, timeout_s: float) -> dict[tuple[str, int], int]:
    young: Any = admin
    return offsets(Connection("127.0.0.1:1", (), timeout_s), young, [("t", 0), ("t", 1)], None)


@pytest.mark.parametrize(
    "code", [KafkaError.LEADER_NOT_AVAILABLE, KafkaError.NOT_LEADER_FOR_PARTITION]
)
def test_a_partition_that_is_not_led_yet_is_asked_again(code: int) -> None:
    assert ask(YoungTopic(code, 2), 600) == {("t", 0): 7, ("t", 1): 7}


def test_other_refusals_and_long_waits_are_failures() -> None:
    with pytest.raises(Exception, match="offsets of t-1"):
        ask(YoungTopic(KafkaError.TOPIC_AUTHORIZATION_FAILED, 1), 600)
    with pytest.raises(Exception, match="offsets of t-1"):
        ask(YoungTopic(KafkaError.NOT_LEADER_FOR_PARTITION, 10**9), 0.001)
