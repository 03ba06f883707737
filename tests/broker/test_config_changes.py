"""Dynamic configuration: which layer wins, that every key acts when it is altered, and that all of
it is there after a restart.

Goal: "topic > this broker > all brokers > static > default" with Kafka's synonyms, for every pair
of a broker key and its topic-level twin. Method: a table of the keys themselves, real partitions in
memory under a clock that stands still.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import kbroker
import pytest
from kbroker.base import errors
from kbroker.base.clock import ManualClock
from kbroker.base.config import (
    BrokerConfig,
    ConfigSource,
    Key,
    TopicConfig,
    UpdateMode,
)
from kbroker.base.config_ops import ConfigOp, OpType
from kbroker.base.errors import KafkaError
from kbroker.base.rng import SeededRng
from kbroker.broker.topics import TopicService
from kbroker.log.config import PartitionConfig
from kbroker.log.manager import LogManager
from kbroker.log.partition_log import PartitionLog
from kbroker.meta.store.memory import MemoryStore
from kbroker.wire import apis, messages
from kbroker.wire.schema import incremental_alter_configs as incremental
from kbroker.wire.schema.consumer_group_heartbeat import ConsumerGroupHeartbeatRequest
from kbroker.wire.schema.find_coordinator import FindCoordinatorRequest

import kcore
from tests.broker.admin_support import NODE_ID, Admin, run
from tests.broker.support import Client
from tests.log.support import InlinePool, batch, sequenced

TWINS = [
    key
    for key in TopicConfig.KEYS.values()
    if key.broker_key and BrokerConfig.KEYS[key.broker_key].mode is not UpdateMode.READ_ONLY
]
CANDIDATES = (
    *("4000", "5000", "6000", "7000", "1", "2", "3", "4", "0.1", "0.2", "0.3", "0.4"),
    *("gzip", "lz4", "snappy", "zstd", "true", "false", "compact", "delete", "compact,delete"),
    *("LogAppendTime", "CreateTime", "sync", "os"),
)


def others(key: Key[Any], value: object) -> Iterator[str]:
    """Texts of values that are not `value`."""
    return (text for text in CANDIDATES if key.takes(text) and key.parse(text) != value)


def ops(**configs: str | None) -> list[ConfigOp]:
    return [
        ConfigOp(OpType.DELETE if text is None else OpType.SET, name.replace("_", "."), text)
        for name, text in configs.items()
    ]


def one(name: str, text: str | None) -> list[ConfigOp]:
    return [ConfigOp(OpType.DELETE if text is None else OpType.SET, name, text)]


@pytest.mark.parametrize("key", TWINS, ids=lambda key: key.name)
def test_the_nearest_layer_wins(key: Key[Any]) -> None:
    """Each layer is set above the one before, seen to act, and taken away again."""
    assert key.broker_key is not None
    twin = key.broker_key

    async def test() -> None:
        first = next(others(key, key.default))
        admin = await Admin.open({twin: first})
        topics = admin.topics
        await topics.create_topic("t", 1)

        def effective() -> tuple[Any, ConfigSource]:
            config = topics.topic_config("t")
            return getattr(config, key.attr), config.synonyms_of(key)[0].source

        seen = [effective()]
        assert seen == [(key.parse(first), ConfigSource.STATIC_BROKER)]
        layers: list[tuple[ConfigSource, Callable[[str | None], Any]]] = [
            (
                ConfigSource.DYNAMIC_DEFAULT_BROKER,
                lambda text: topics.edit_broker_configs("", one(twin, text)),
            ),
            (
                ConfigSource.DYNAMIC_BROKER,
                lambda text: topics.edit_broker_configs(str(NODE_ID), one(twin, text)),
            ),
            (ConfigSource.TOPIC, lambda text: topics.edit_topic_configs("t", one(key.name, text))),
        ]
        for source, change in layers:
            text = next(others(key, seen[-1][0]))
            await change(text)
            seen.append((key.parse(text), source))
            assert effective() == seen[-1]
            assert getattr(admin.logs.configured[-1][1], key.attr) == key.parse(text)
        for _, change in reversed(layers):
            await change(None)
            seen.pop()
            assert effective() == seen[-1]
            assert getattr(admin.logs.configured[-1][1], key.attr) == seen[-1][0]

    run(test)


@pytest.mark.parametrize(
    ("static", "dynamic", "expected"),
    [
        ({}, None, 604_800_000),
        ({"log.retention.hours": "5"}, None, 18_000_000),
        ({"log.retention.hours": "5", "log.retention.minutes": "7"}, None, 420_000),
        ({"log.retention.minutes": "7", "log.retention.ms": "9"}, None, 9),
        ({"log.retention.hours": "-1"}, None, -1),
        ({"log.retention.minutes": "7", "log.retention.ms": "9"}, "11", 11),
        ({"log.retention.hours": "5"}, "-1", -1),
    ],
)
def test_retention_in_milliseconds_goes_before_minutes_before_hours(
    static: dict[str, str], dynamic: str | None, expected: int
) -> None:
    async def test() -> None:
        admin = await Admin.open(static)
        await admin.topics.create_topic("t", 1)
        if dynamic is not None:
            await admin.topics.edit_broker_configs("", one("log.retention.ms", dynamic))
        assert admin.topics.topic_config("t").retention_ms == expected

    run(test)


class Running:
    """A TopicService over a real LogManager that keeps everything in memory."""

    def __init__(self, topics: TopicService, clock: ManualClock) -> None:
        self.topics = topics
        self.clock = clock
        self.logs = LogManager(
            None, settings=topics.config, clock=clock, post=lambda fn: fn(),
            on_advance=lambda _: None, pool=InlinePool(),
        )  # fmt: skip
        services: Any = SimpleNamespace(
            config=topics.config,
            logs=self.logs,
            purgatory=SimpleNamespace(wake=lambda _: None),
            metrics=SimpleNamespace(drop_topic=lambda _: None),
        )
        topics.attach(services)
        topics.on_broker_config.append(self.logs.reconfigure)

    @classmethod
    async def open(cls, **topic_configs: str) -> Running:
        config = BrokerConfig({"node.id": str(NODE_ID), "log.retention.check.interval.ms": "1000"})
        topics = await TopicService.open(MemoryStore(), config, node_id=NODE_ID, rng=SeededRng(1))
        running = cls(topics, ManualClock())
        named = {name.replace("_", "."): text for name, text in topic_configs.items()}
        await topics.create_topic("t", 1, configs=named)
        return running

    @property
    def partition(self) -> PartitionLog:
        found = self.logs.get("t", 0)
        assert found is not None
        return found

    def append(self, data: bytearray) -> int:
        """The error code."""
        now_ms = self.clock.wall_ms()
        return self.partition.append_as_leader(data, now_ms=now_ms).error_code

    @property
    def settings(self) -> PartitionConfig:
        return self.partition.config

    @property
    def log_config(self) -> Any:
        return self.partition.log.config

    def codec_level(self, codec: str) -> int | None:
        """The level that a topic of this codec has now."""
        config = TopicConfig(self.topics.config, {"compression.type": codec})
        return PartitionConfig.from_topic(config).codec_level

    def acknowledged_after(self, data: bytearray) -> int:
        """How far acknowledgements reach right after an append."""
        assert self.append(data) == 0
        return self.partition.high_watermark

    def fill(self, batches: int = 4) -> None:
        for _ in range(batches):
            stamp = [self.clock.wall_ms()]
            assert self.append(batch(b"x" * 500, timestamps=stamp)) == 0

    def tick(self, ms: int = 1000) -> None:
        self.clock.advance(ms)
        self.logs.tick(self.clock.wall_ms())


def stamped(running: Running, shift_ms: int = 0) -> bytearray:
    return batch(b"v" * 2_000, timestamps=[running.clock.wall_ms() + shift_ms])


def stored_codec(running: Running) -> str:
    running.append(stamped(running))
    span = running.partition.read(running.partition.next_offset - 1, 1 << 20)
    assert span is not None
    return kcore.inspect(span).codec


# The cleaner's, which is watched where it is tested.
CLEANER = {name for name in BrokerConfig.KEYS if name.startswith("log.cleaner.")}


def segments_after(running: Running, ms: int = 0) -> int:
    running.fill()
    running.clock.advance(ms)
    running.fill()
    return len(running.partition.log.segments())


def kept_after_retention(running: Running) -> bool:
    running.fill()
    running.partition.log.roll()
    running.fill()
    running.partition.log.roll()
    running.tick(5_000)
    return running.partition.log_start_offset == 0


def producers_after_a_while(running: Running) -> int:
    running.append(sequenced(7, 0, 0, timestamps=[running.clock.wall_ms()]))
    running.tick(5_000)
    # Known: a gap in the sequence is refused. Forgotten: anything goes.
    return running.append(sequenced(7, 0, 5, timestamps=[running.clock.wall_ms()]))


OUT_OF_ORDER = errors.OUT_OF_ORDER_SEQUENCE_NUMBER

# (broker key, its new value, what is watched, before, after)
ACTS: list[tuple[str, str, Callable[[Running], Any], Any, Any]] = [
    ("message.max.bytes", "1000", lambda r: r.append(stamped(r)), 0, errors.MESSAGE_TOO_LARGE),
    ("compression.type", "zstd", stored_codec, "none", "zstd"),
    ("compression.gzip.level", "9", lambda r: r.codec_level("gzip"), -1, 9),
    ("compression.lz4.level", "2", lambda r: r.codec_level("lz4"), 9, 2),
    ("compression.zstd.level", "9", lambda r: r.codec_level("zstd"), 3, 9),
    ("log.segment.bytes", "1500", segments_after, 1, 4),
    ("log.roll.ms", "1000", lambda r: segments_after(r, 2_000), 1, 2),
    ("log.roll.jitter.ms", "9", lambda r: r.log_config.segment_jitter_ms, 0, 9),
    ("log.index.size.max.bytes", "4", segments_after, 1, 8),
    ("log.index.interval.bytes", "7", lambda r: r.log_config.index_interval_bytes, 4096, 7),
    ("log.retention.ms", "2000", kept_after_retention, True, False),
    ("log.retention.bytes", "600", kept_after_retention, True, False),
    ("log.segment.delete.delay.ms", "3", lambda r: r.settings.file_delete_delay_ms, 60_000, 3),
    ("log.flush.interval.messages", "1", lambda r: r.acknowledged_after(batch()), 1, 0),
    ("log.flush.interval.ms", "5", lambda r: r.settings.flush_ms, (1 << 63) - 1, 5),
    ("flush.policy", "sync", lambda r: r.acknowledged_after(batch()), 1, 0),
    ("log.message.timestamp.type", "LogAppendTime", lambda r: r.settings.append_time, False, True),
    ("log.message.timestamp.after.max.ms", "1000",
     lambda r: r.append(stamped(r, 5_000)), 0, errors.INVALID_TIMESTAMP),
    ("log.message.timestamp.before.max.ms", "1000",
     lambda r: r.append(stamped(r, -5_000)), 0, errors.INVALID_TIMESTAMP),
    ("log.cleanup.policy", "compact", lambda r: r.append(stamped(r)), 0, errors.INVALID_RECORD),
    ("producer.id.expiration.ms", "2000", producers_after_a_while, OUT_OF_ORDER, 0),
]  # fmt: skip
# Seen to act elsewhere: the limits on connections in test_server.py, threads at the next start.
ELSEWHERE = {"max.connections", "max.connections.per.ip", "num.recovery.threads.per.data.dir"}


def test_every_key_that_claims_to_act_is_watched() -> None:
    claims = {
        key.name
        for key in BrokerConfig.KEYS.values()
        if key.acts and key.mode is not UpdateMode.READ_ONLY
    }
    assert claims - {row[0] for row in ACTS} - CLEANER == ELSEWHERE


@pytest.mark.parametrize(
    ("name", "text", "watch", "before", "after"), ACTS, ids=[row[0] for row in ACTS]
)
def test_an_altered_broker_key_acts_on_partitions_that_are_open(
    name: str, text: str, watch: Callable[[Running], Any], before: Any, after: Any
) -> None:
    async def test() -> None:
        untouched = await Running.open()
        assert watch(untouched) == before
        running = await Running.open()
        await running.topics.edit_broker_configs("", one(name, text))
        assert watch(running) == after

    run(test)


def test_what_was_altered_is_there_after_a_restart() -> None:
    async def test() -> None:
        admin = await Admin.open()
        session = "consumer.session.timeout.ms"
        strange = "any text: \N{SNOWMAN} / " + "x" * 2_000
        await admin.topics.create_topic("t", 1)
        await admin.topics.edit_topic_configs("t", one("retention.ms", "5"))
        await admin.topics.edit_broker_configs("", one("log.roll.ms", "6"))
        await admin.topics.edit_broker_configs("1", one("message.max.bytes", "7000"))
        await admin.topics.edit_group_configs(strange, one(session, "50000"))
        await admin.topics.edit_group_configs("gone", one(session, "50000"))
        await admin.topics.edit_group_configs("gone", one(session, None))
        again = (await Admin.open(store=admin.store)).topics
        config = again.topic_config("t")
        assert (config.retention_ms, config.segment_ms, config.max_message_bytes) == (5, 6, 7000)
        assert again.group_config(strange).consumer_session_timeout_ms == 50_000
        assert list(again.image.group_configs) == [strange]
        # Another static configuration moves the bounds under what is stored.
        bounds = {
            "group.consumer.min.session.timeout.ms": "55000",
            "group.consumer.session.timeout.ms": "55000",
        }
        strict = (await Admin.open(bounds, store=admin.store)).topics
        assert strict.group_config(strange).consumer_session_timeout_ms == 55_000

    run(test)


def test_a_broker_change_that_contradicts_a_topic_does_no_harm() -> None:
    """A topic's own lower bound above the broker's new upper one: nobody may be left half way."""

    async def test() -> None:
        admin = await Admin.open()
        await admin.topics.create_topic("t", 1, configs={"min.compaction.lag.ms": "5000"})
        await admin.topics.edit_broker_configs("", one("log.cleaner.max.compaction.lag.ms", "9"))
        assert admin.topics.topic_config("t").max_compaction_lag_ms == 9
        assert admin.services.config.log_cleaner_max_compaction_lag_ms == 9
        again = (await Admin.open(store=admin.store)).topics
        assert again.topic_config("t").min_compaction_lag_ms == 5_000
        with pytest.raises(KafkaError) as refused:
            await admin.topics.edit_broker_configs(
                "", one("log.cleaner.min.compaction.lag.ms", "10")
            )
        assert refused.value.code == errors.INVALID_REQUEST

    run(test)


def test_who_listens_gets_the_broker_configuration_after_it_can_be_seen() -> None:
    async def test() -> None:
        admin = await Admin.open()
        heard: list[tuple[int, int]] = []
        admin.topics.on_broker_config.append(
            lambda config: heard.append(
                (config.max_connections, admin.services.config.max_connections)
            )
        )
        await admin.topics.edit_broker_configs("", one("max.connections", "7"), validate_only=True)
        await admin.topics.edit_broker_configs("", one("max.connections", "8"))
        await admin.topics.edit_broker_configs("", one("max.connections", "8"))
        assert heard == [(8, 8)], "told of changes, and of nothing else"

    run(test)


def test_groups_inherit_what_is_dynamic() -> None:
    async def test() -> None:
        admin = await Admin.open()
        own = one("consumer.assignment.interval.ms", "70")
        await admin.topics.edit_group_configs("g", own)
        await admin.topics.edit_broker_configs(
            "", one("group.consumer.assignment.interval.ms", "60")
        )
        intervals = {
            name: admin.topics.group_config(name).consumer_assignment_interval_ms
            for name in ("g", "h")
        }
        assert intervals == {"g": 70, "h": 60}

    run(test)


class Connection:
    """A client of a real broker. Flexible requests and responses have a tag section first."""

    def __init__(self, client: Client) -> None:
        self.client = client

    @classmethod
    async def open(cls, broker: kbroker.Broker) -> Connection:
        host, port = broker.bootstrap.split(":")
        return cls(Client(*await asyncio.open_connection(host, int(port))))

    async def call(self, key: int, version: int, request: Any) -> Any:
        tags = b"\0" if version >= request.FLEXIBLE_FROM else b""
        self.client.send(key, version, 1, tags + messages.encode_request(key, version, request))
        _, body = await self.client.receive()
        return messages.decode_response(key, version, body[len(tags) :])

    async def alter(self, resource_type: int, name: str, **configs: str) -> list[int]:
        wanted = incremental.AlterConfigsResource(
            resource_type=resource_type,
            resource_name=name,
            configs=[
                incremental.AlterableConfig(name=key.replace("_", "."), value=text)
                for key, text in configs.items()
            ],
        )
        request = incremental.IncrementalAlterConfigsRequest(resources=[wanted])
        answer = await self.call(apis.INCREMENTAL_ALTER_CONFIGS, 1, request)
        return [response.error_code for response in answer.responses]


def test_a_running_broker_is_wired_that_way() -> None:
    """Altered by a client: the limit on connections and the expiry of producers are new at once."""

    async def test() -> None:
        async with kbroker.Broker({"kcore.storage": "memory"}) as broker:
            one = await Connection.open(broker)
            codes = await one.alter(4, "", max_connections="1", producer_id_expiration_ms="1")
            assert codes == [errors.NONE]
            refused = await Connection.open(broker)
            refused.client.send(apis.API_VERSIONS, 0, 1)
            assert await refused.client.closed() == b"", "there is one connection already"
            logs = broker._node._logs
            assert logs is not None and logs._host.producer_expiration_ms == 1
            for connection in (refused, one):
                await connection.client.close()

    run(test)


def test_a_group_hears_of_its_configuration_at_the_next_heartbeat() -> None:
    async def test() -> None:
        async with kbroker.Broker({"kcore.storage": "memory"}) as broker:
            one = await Connection.open(broker)
            await one.call(apis.FIND_COORDINATOR, 4, FindCoordinatorRequest(coordinator_keys=["g"]))
            epoch, told = 0, []
            for interval in ("", "6000", "7000"):
                if interval:
                    configs = {"consumer_heartbeat_interval_ms": interval}
                    assert await one.alter(32, "g", **configs) == [errors.NONE]
                answer = await one.call(
                    apis.CONSUMER_GROUP_HEARTBEAT, 1,
                    ConsumerGroupHeartbeatRequest(
                        group_id="g", member_id="m" * 22, member_epoch=epoch,
                        rebalance_timeout_ms=30_000, subscribed_topic_names=["t"],
                        topic_partitions=None if epoch else [],
                    ),
                )  # fmt: skip
                assert answer.error_code == errors.NONE
                epoch = answer.member_epoch
                told.append(answer.heartbeat_interval_ms)
            assert told == [5_000, 6_000, 7_000]
            await one.client.close()

    run(test)
