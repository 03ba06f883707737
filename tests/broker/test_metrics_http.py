"""Goal: a scrape shows what happened under Kafka's names; the little HTTP server is hard to hurt.

Method: a memory broker in this process, real requests, the page parsed by Prometheus' own parser.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable

import pytest
from kbroker.base import limits
from kbroker.base.config import BrokerConfig, ConfigError
from kbroker.base.metrics import LATENCY_BUCKETS, BrokerMetrics, RequestMetrics
from kbroker.broker.node import Node
from prometheus_client.parser import text_string_to_metric_families

from tests.broker.support import WAIT_S, Client, run


def with_node(test: Callable[[Node], Awaitable[None]], **keys: str) -> None:
    async def main() -> None:
        static = {
            "kcore.storage": "memory",
            "listeners": "PLAINTEXT://127.0.0.1:0",
            "metrics.listener": "127.0.0.1:0",
            **{key.replace("_", "."): value for key, value in keys.items()},
        }
        node = Node(BrokerConfig(static))
        await node.start()
        try:
            await test(node)
        finally:
            await node.stop()

    run(main)


async def http(node: Node, request: bytes) -> tuple[int, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", node.metrics_port)
    writer.write(request)
    async with asyncio.timeout(WAIT_S):
        try:
            answer = await reader.read(-1)
        except ConnectionResetError:  # closed with our request unread
            answer = b""
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]) if head else 0, body


async def scrape(node: Node) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    status, body = await http(node, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    assert status == 200
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


async def talk(node: Node) -> None:
    """Makes topic `t` with one partition, and is a client with a name."""
    host, _, port = node.bootstrap.rpartition(":")
    client = Client(*await asyncio.open_connection(host, int(port)))
    topic = struct.pack(">ih", 1, 1) + b"t\x01"
    client.send_bytes(Client.frame(3, 4, 1, topic))
    await client.receive()
    tagged = struct.pack(">hhih", 18, 3, 2, 4) + b"test\x00" + b"\x07my-app\x041.2" + b"\x00"
    client.send_bytes(struct.pack(">i", len(tagged)) + tagged)
    await client.receive()
    await client.close()


def test_the_page_has_kafkas_names_and_our_numbers() -> None:
    async def test(node: Node) -> None:
        await talk(node)
        page = await scrape(node)
        where = (("partition", "0"), ("topic", "t"))
        assert page["kafka_log_log_logendoffset", where] == 0
        assert page["kafka_server_replicamanager_partitioncount", ()] == 1
        assert page["kafka_server_replicamanager_leadercount", ()] == 1
        assert page["kafka_server_replicamanager_underreplicatedpartitions", ()] == 0
        assert page["kafka_controller_kafkacontroller_activecontrollercount", ()] == 1
        asked = (("request", "Metadata"),)
        assert page["kafka_network_requestmetrics_requests_total", asked] == 1
        assert page["kafka_network_requestmetrics_totaltimems_count", asked] == 1
        assert page["kafka_network_requestmetrics_totaltimems_sum", asked] > 0
        assert page["kafka_server_brokertopicmetrics_messagesin_total", (("topic", ""),)] == 0
        assert page["kafka_server_socket_server_metrics_connection_creation_total", ()] == 1
        who = (("name", "my-app"), ("version", "1.2"))
        assert page["kafka_server_socket_server_metrics_client_software_total", who] == 1
        assert page["process_resident_memory_bytes", ()] > 0

    with_node(test)


@pytest.mark.client
def test_produced_and_fetched_bytes_are_counted() -> None:
    def client(bootstrap: str) -> None:
        from confluent_kafka import Consumer, Producer, TopicPartition

        producer = Producer({"bootstrap.servers": bootstrap})
        for _ in range(10):
            producer.produce("t", b"x" * 100)
        assert producer.flush(WAIT_S) == 0
        consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "g"})
        consumer.assign([TopicPartition("t", 0, 0)])
        assert len(consumer.consume(10, WAIT_S)) == 10
        consumer.close()

    async def test(node: Node) -> None:
        await asyncio.to_thread(client, node.bootstrap)
        page = await scrape(node)
        for topic in ("t", ""):
            of = (("topic", topic),)
            assert page["kafka_server_brokertopicmetrics_messagesin_total", of] == 10
            assert page["kafka_server_brokertopicmetrics_bytesin_total", of] > 1_000
            assert page["kafka_server_brokertopicmetrics_bytesout_total", of] > 1_000
            assert page["kafka_server_brokertopicmetrics_totalfetchrequests_total", of] >= 1
        where = (("partition", "0"), ("topic", "t"))
        assert page["kafka_log_log_logendoffset", where] == 10
        assert page["kafka_log_log_size", where] > 1_000

    with_node(test)


def test_healthz_says_what_is_wrong() -> None:
    async def test(node: Node) -> None:
        request = b"GET /healthz HTTP/1.0\r\n\r\n"
        assert await http(node, request) == (200, b"ok\n")
        assert node._logs is not None
        node._logs.disk.failure = "fdatasync: I/O error"
        assert await http(node, request) == (503, b"fdatasync: I/O error\n")

    with_node(test)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 404),
        (b"GET /../etc/passwd HTTP/1.1\r\n\r\n", 404),
        (b"POST /metrics HTTP/1.1\r\n\r\n", 405),
        (b"nonsense\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nA: " + b"x" * limits.HTTP_REQUEST_BYTES_MAX, 431),
        (b"GET /healthz?x=1 HTTP/1.1\r\n\r\n", 200),
    ],
)
def test_other_requests_are_refused(request_bytes: bytes, status: int) -> None:
    async def test(node: Node) -> None:
        assert (await http(node, request_bytes))[0] == status

    with_node(test)


def test_more_connections_than_allowed_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HTTP_CONNECTIONS_MAX", 0)

    async def test(node: Node) -> None:
        assert await http(node, b"GET /healthz HTTP/1.1\r\n\r\n") == (0, b"")

    with_node(test)


def test_it_is_off_by_default_and_loopback_only() -> None:
    async def off(node: Node) -> None:
        assert node.metrics_port is None

    with_node(off, metrics_listener="")
    with pytest.raises(ConfigError, match=r"allow\.insecure\.listener"):
        with_node(off, metrics_listener="0.0.0.0:0")


def test_requests_fall_into_buckets_of_powers_of_two() -> None:
    metrics = RequestMetrics()
    for elapsed_us in (0, 1, 2, 3, 4, 1023, 1024, 1 << 40):
        metrics.observe(elapsed_us)
    assert metrics.count == 8
    assert metrics.buckets[:4] == [1, 1, 2, 1]
    assert metrics.buckets[10] == 1 and metrics.buckets[11] == 1
    assert metrics.buckets[LATENCY_BUCKETS - 1] == 1


def test_a_deleted_topic_stays_in_the_brokers_totals() -> None:
    metrics = BrokerMetrics()
    metrics.topic("a").bytes_in += 5
    metrics.topic("b").bytes_in += 7
    metrics.drop_topic("a")
    metrics.drop_topic("never there")
    assert list(metrics.topics()) == ["b"]
    assert metrics.totals().bytes_in == 12


def test_groups_are_counted() -> None:
    async def test(node: Node) -> None:
        from kbroker.coord.group.schema import OffsetCommitKey, OffsetCommitValue
        from kbroker.coord.result import Record, Result

        await scrape(node)  # groups are there when somebody has asked for them
        groups = node._groups
        assert groups is not None
        await groups.ensure_topic()
        for name in ("a", "b"):
            key = OffsetCommitKey(group=name, topic="t", partition=0)
            record = Record(key, OffsetCommitValue(offset=1))
            await groups.write(name, lambda _, record=record: Result(None, [record]))
        page = await scrape(node)
        old, new = "kafka_coordinator_group_groupmetadatamanager", "kafka_server_group_coordinator"
        assert page[f"{old}_numgroups", ()] == page[f"{old}_numgroupsempty", ()] == 2
        assert page[f"{old}_numoffsets", ()] == 2
        assert page[f"{new}_metrics_group_count", (("protocol", "classic"),)] == 2
        assert page[f"{new}_metrics_num_partitions", (("state", "active"),)] == 3
        assert page[f"{new}_metrics_event_writes_total", ()] == 2

    with_node(test, offsets_topic_num_partitions="3")
