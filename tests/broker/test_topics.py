"""TopicService: validation, visibility, and that a crash at any point leaves whole topics only."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from kbroker.base import errors
from kbroker.base.config import BrokerConfig
from kbroker.base.config_ops import ConfigOp, OpType
from kbroker.base.errors import KafkaError
from kbroker.base.limits import PARTITIONS_PER_REQUEST_MAX
from kbroker.base.rng import SeededRng
from kbroker.broker.metadata import open_metadata
from kbroker.broker.producer_ids import BLOCK_SIZE, ProducerIdBlocks
from kbroker.broker.topics import NewTopic, TopicImage
from kbroker.meta import keys
from kbroker.meta.store.base import Put, StoreDamaged, StoreError
from kbroker.meta.store.lmdb import LmdbStore
from kbroker.meta.store.memory import MemoryStore

from kcore.errors import CoreError
from kcore.files.meta_properties import MetaProperties, load_meta_properties, store_meta_properties
from kcore.files.partition_metadata import store_partition_metadata
from kcore.files.topic_ids import encode_id
from tests.broker.admin_support import NODE_ID, Admin, run


async def refused(awaitable: Awaitable[Any]) -> int:
    with pytest.raises(KafkaError) as failure:
        await awaitable
    assert failure.value.message
    return failure.value.code


SET, DELETE, APPEND = OpType.SET, OpType.DELETE, OpType.APPEND


def test_a_topic_is_there_with_its_logs_when_the_call_returns() -> None:
    async def test() -> None:
        admin = await Admin.open({"num.partitions": "2"})
        before = admin.topics.image
        topic = await admin.topics.create_topic("a", configs={"retention.ms": "5"})
        assert admin.topics.image.topics["a"] is topic
        assert admin.topics.image.topics_by_id[topic.topic_id] is topic
        assert admin.topics.image.version > before.version
        assert not before.topics, "an image never changes"
        assert admin.logs.ids == {("a", 0): topic.topic_id, ("a", 1): topic.topic_id}
        assert admin.logs.configs["a", 0].retention_ms == 5

    run(test)


@pytest.mark.parametrize(
    ("new", "code"),
    [
        (NewTopic("a"), errors.TOPIC_ALREADY_EXISTS),
        (NewTopic(""), errors.INVALID_TOPIC_EXCEPTION),
        (NewTopic("../x"), errors.INVALID_TOPIC_EXCEPTION),
        (NewTopic("a_b"), errors.INVALID_TOPIC_EXCEPTION),
        (NewTopic("x" * 250), errors.INVALID_TOPIC_EXCEPTION),
        (NewTopic("n", 0), errors.INVALID_PARTITIONS),
        (NewTopic("n", -2), errors.INVALID_PARTITIONS),
        (NewTopic("n", PARTITIONS_PER_REQUEST_MAX + 1), errors.POLICY_VIOLATION),
        (NewTopic("n", 1, 0), errors.INVALID_REPLICATION_FACTOR),
        (NewTopic("n", 1, -2), errors.INVALID_REPLICATION_FACTOR),
        (NewTopic("n", 1, 2), errors.INVALID_REPLICATION_FACTOR),
        (NewTopic("n", 1, -1, {0: [1]}), errors.INVALID_REQUEST),
        (NewTopic("n", -1, 1, {0: [1]}), errors.INVALID_REQUEST),
        (NewTopic("n", assignments={1: [1]}), errors.INVALID_REPLICA_ASSIGNMENT),
        (NewTopic("n", assignments={0: [1], 2: [1]}), errors.INVALID_REPLICA_ASSIGNMENT),
        (NewTopic("n", assignments={0: []}), errors.INVALID_REPLICA_ASSIGNMENT),
        (NewTopic("n", assignments={0: [2]}), errors.INVALID_REPLICA_ASSIGNMENT),
        (NewTopic("n", assignments={0: [1, 1]}), errors.INVALID_REPLICA_ASSIGNMENT),
        (NewTopic("n", configs={"retention.ms": "x"}), errors.INVALID_CONFIG),
        (NewTopic("n", configs={"retention.m": "1"}), errors.INVALID_CONFIG),
        (NewTopic("n", configs={"retention.ms": None}), errors.INVALID_CONFIG),
    ],
)  # fmt: skip
def test_what_is_no_topic(new: NewTopic, code: int) -> None:
    async def test() -> None:
        admin = await Admin.open()
        await admin.topics.create_topics([NewTopic("a"), NewTopic("a.b")])
        before = admin.topics.image
        for validate_only in (True, False):
            (outcome,) = await admin.topics.create_topics([new], validate_only=validate_only)
            assert isinstance(outcome, KafkaError) and outcome.code == code, outcome
            assert outcome.message
        assert admin.topics.image is before and len(admin.logs.ids) == 2

    run(test)


def test_one_bad_topic_does_not_stop_the_others() -> None:
    async def test() -> None:
        admin = await Admin.open()
        wanted = [NewTopic("a"), NewTopic("b", 0), NewTopic("c.d"), NewTopic("c_d"), NewTopic("e")]
        outcomes = await admin.topics.create_topics(wanted)
        codes = [o.code if isinstance(o, KafkaError) else 0 for o in outcomes]
        assert codes == [0, errors.INVALID_PARTITIONS, 0, errors.INVALID_TOPIC_EXCEPTION, 0]
        assert sorted(admin.topics.image.topics) == ["a", "c.d", "e"]
        assert admin.store.revision == 1, "one transaction for all"

    run(test)


def test_a_request_makes_so_many_partitions_and_no_more() -> None:
    async def test() -> None:
        admin = await Admin.open()
        half = PARTITIONS_PER_REQUEST_MAX // 2
        wanted = [NewTopic("a", half), NewTopic("b", half), NewTopic("c", 1)]
        outcomes = await admin.topics.create_topics(wanted, validate_only=True)
        assert [isinstance(outcome, TopicImage) for outcome in outcomes] == [True, True, False]

    run(test)


def test_validate_only_creates_nothing() -> None:
    async def test() -> None:
        admin = await Admin.open()
        topic = await admin.topics.create_topic("a", 3, validate_only=True)
        assert len(topic.partitions) == 3
        await admin.topics.create_topic("b", 1)
        await admin.topics.create_partitions("b", 2, validate_only=True)
        op = ConfigOp(SET, "retention.ms", "5")
        await admin.topics.edit_topic_configs("b", [op], validate_only=True)
        op = ConfigOp(SET, "log.retention.ms", "5")
        await admin.topics.edit_broker_configs("", [op], validate_only=True)
        assert admin.store.revision == 1 and list(admin.logs.ids) == [("b", 0)]
        assert admin.topics.topic_config("b").retention_ms == 604_800_000

    run(test)


def test_a_deleted_topic_is_gone_and_its_name_free() -> None:
    async def test() -> None:
        admin = await Admin.open()
        first = await admin.topics.create_topic("a.b", 2)
        await admin.topics.delete_topic("a.b")
        assert not admin.topics.image.topics and not admin.topics.image.topics_by_id
        assert not admin.logs.ids
        assert (
            await admin.store.range(keys.TOPICS) == await admin.store.range(keys.PARTITIONS) == []
        )
        assert admin.woken == [(first.topic_id, 0), (first.topic_id, 1)]
        assert admin.dropped == ["a.b"]
        again = await admin.topics.create_topic("a_b", 1)
        assert again.topic_id != first.topic_id
        await admin.topics.delete_topic(again.topic_id)
        assert await refused(admin.topics.delete_topic("a_b")) == errors.UNKNOWN_TOPIC_OR_PARTITION
        assert await refused(admin.topics.delete_topic(again.topic_id)) == errors.UNKNOWN_TOPIC_ID

    run(test)


def test_internal_topics_can_be_deleted_and_not_grown() -> None:
    """As in Kafka the one, which starts a cluster's groups afresh; not as in Kafka the other, which
    would move every key to another place."""

    async def test() -> None:
        admin = await Admin.open({"offsets.topic.num.partitions": "2"})
        await admin.topics.ensure_topics(["__consumer_offsets"])
        code = await refused(admin.topics.create_partitions("__consumer_offsets", 4))
        assert code == errors.INVALID_TOPIC_EXCEPTION
        await admin.topics.delete_topic("__consumer_offsets")
        assert not admin.topics.image.topics

    run(test)


def test_deletion_can_be_forbidden() -> None:
    async def test() -> None:
        closed = await Admin.open({"delete.topic.enable": "false"})
        await closed.topics.create_topic("a", 1)
        assert await refused(closed.topics.delete_topic("a")) == errors.TOPIC_DELETION_DISABLED
        assert "a" in closed.topics.image.topics

    run(test)


def test_partitions_are_added() -> None:
    async def test() -> None:
        admin = await Admin.open()
        topic = await admin.topics.create_topic("a", 2, configs={"retention.ms": "5"})
        grown = await admin.topics.create_partitions("a", 4)
        assert (grown.topic_id, grown.configs) == (topic.topic_id, topic.configs)
        assert [partition.index for partition in grown.partitions] == [0, 1, 2, 3]
        assert sorted(admin.logs.ids) == [("a", 0), ("a", 1), ("a", 2), ("a", 3)]
        await admin.topics.create_partitions("a", 5, [[NODE_ID]])
        cases: list[tuple[int, list[list[int]] | None, int]] = [
            (5, None, errors.INVALID_PARTITIONS),
            (4, None, errors.INVALID_PARTITIONS),
            (0, None, errors.INVALID_PARTITIONS),
            (-1, None, errors.INVALID_PARTITIONS),
            (6, [], errors.INVALID_REPLICA_ASSIGNMENT),
            (6, [[1], [1]], errors.INVALID_REPLICA_ASSIGNMENT),
            (6, [[2]], errors.INVALID_REPLICA_ASSIGNMENT),
            (6, [[]], errors.INVALID_REPLICA_ASSIGNMENT),
            (PARTITIONS_PER_REQUEST_MAX + 6, None, errors.POLICY_VIOLATION),
        ]
        for count, assignments, code in cases:
            assert await refused(admin.topics.create_partitions("a", count, assignments)) == code
        code = await refused(admin.topics.create_partitions("nothing", 4))
        assert code == errors.UNKNOWN_TOPIC_OR_PARTITION
        assert len(admin.topics.image.topics["a"].partitions) == 5

    run(test)


def test_topic_configs_act_at_once_and_survive() -> None:
    async def test() -> None:
        admin = await Admin.open()
        await admin.topics.create_topic("a", 1, configs={"segment.bytes": "2048"})
        ops = [ConfigOp(SET, "retention.ms", "5"), ConfigOp(APPEND, "cleanup.policy", "compact")]
        await admin.topics.edit_topic_configs("a", ops)
        name, config = admin.logs.configured[-1]
        assert (name, config.retention_ms, config.segment_bytes) == ("a", 5, 2048)
        assert config.cleanup_policy == ("delete", "compact")
        await admin.topics.replace_topic_configs("a", {"retention.ms": "6"})
        assert admin.logs.configured[-1][1].segment_bytes == 1 << 30
        again = await Admin.open(store=admin.store)
        assert again.topics.topic_config("a").retention_ms == 6
        assert again.topics.topic_config("a").cleanup_policy == ("delete",)
        for ops, code in [
            ([ConfigOp(SET, "retention.ms", "x")], errors.INVALID_CONFIG),
            ([ConfigOp(APPEND, "retention.ms", "1")], errors.INVALID_CONFIG),
            ([ConfigOp(SET, "nothing", "1")], errors.INVALID_CONFIG),
        ]:
            assert await refused(admin.topics.edit_topic_configs("a", ops)) == code
        code = await refused(admin.topics.edit_topic_configs("b", []))
        assert code == errors.UNKNOWN_TOPIC_OR_PARTITION

    run(test)


def test_broker_configs_reach_the_topics_that_inherit_them() -> None:
    async def test() -> None:
        admin = await Admin.open({"log.retention.ms": "100"})
        await admin.topics.create_topics(
            [NewTopic("inherits"), NewTopic("own", configs={"retention.ms": "7"})]
        )
        await admin.topics.edit_broker_configs("", [ConfigOp(SET, "log.retention.ms", "200")])
        assert [(name, c.retention_ms) for name, c in admin.logs.configured] == [("inherits", 200)]
        await admin.topics.edit_broker_configs("1", [ConfigOp(SET, "log.retention.ms", "300")])
        assert admin.services.config.log_retention_ms == 300
        assert admin.topics.topic_config("inherits").retention_ms == 300
        again = await Admin.open({"log.retention.ms": "100"}, store=admin.store)
        assert again.services.config.log_retention_ms == 300
        await admin.topics.edit_broker_configs("1", [ConfigOp(DELETE, "log.retention.ms", None)])
        assert admin.topics.topic_config("inherits").retention_ms == 200
        assert admin.topics.topic_config("own").retention_ms == 7
        for name, op in [
            ("", ConfigOp(SET, "num.partitions", "2")),
            ("", ConfigOp(SET, "ssl.keystore.password", "x")),
            ("", ConfigOp(SET, "log.retention.ms", "x")),
            ("1", ConfigOp(SET, "nothing", "1")),
        ]:
            code = await refused(admin.topics.edit_broker_configs(name, [op]))
            assert code == errors.INVALID_REQUEST

    run(test)


def test_a_log_that_cannot_be_made_takes_its_topic_back_and_no_other() -> None:
    async def test() -> None:
        admin = await Admin.open()
        admin.logs.fail_on = ("bad", 1)
        outcomes = await admin.topics.create_topics(
            [NewTopic("good", 2), NewTopic("bad", 3), NewTopic("fine", 1)]
        )
        codes = [o.code if isinstance(o, KafkaError) else 0 for o in outcomes]
        assert codes == [0, errors.KAFKA_STORAGE_ERROR, 0]
        assert sorted(admin.logs.ids) == [("fine", 0), ("good", 0), ("good", 1)]
        again = await Admin.open(store=admin.store)
        assert sorted(again.topics.image.topics) == ["fine", "good"]
        admin.logs.fail_on = ("good", 3)
        code = await refused(admin.topics.create_partitions("good", 5))
        assert code == errors.KAFKA_STORAGE_ERROR
        assert sorted(admin.logs.ids) == [("fine", 0), ("good", 0), ("good", 1)]
        again = await Admin.open(store=admin.store)
        assert len(again.topics.image.topics["good"].partitions) == 2
        admin.logs.fail_on = None
        await admin.topics.create_topic("bad", 3)
        await admin.topics.create_partitions("good", 5)

    run(test)


class FailingStore(MemoryStore):
    failing = False

    def _persist(self, changes: Any, revision: int) -> None:
        if self.failing:
            raise StoreError("no space left")


def test_a_store_that_fails_changes_nothing() -> None:
    async def test() -> None:
        store = FailingStore()
        admin = await Admin.open(store=store)
        await admin.topics.create_topic("a", 1)
        before, store.failing = admin.topics.image, True
        calls = [
            admin.topics.create_topic("b", 1),
            admin.topics.delete_topic("a"),
            admin.topics.create_partitions("a", 2),
            admin.topics.replace_topic_configs("a", {"retention.ms": "1"}),
            admin.topics.replace_broker_configs("", {"log.retention.ms": "1"}),
        ]
        for call in calls:
            assert await refused(call) == errors.KAFKA_STORAGE_ERROR
        assert admin.topics.image is before
        assert list(admin.logs.ids) == [("a", 0)] and not admin.logs.configured

    run(test)


class Crash(BaseException):
    """The process ends here."""


def test_a_crash_between_metadata_and_logs_leaves_a_whole_topic() -> None:
    """The commit comes first: whatever logs are missing, the next start knows it has to make."""

    async def test() -> None:
        for crash_at in range(4):
            admin = await Admin.open()
            calls = 0

            def crash(crash_at: int = crash_at) -> None:
                nonlocal calls
                calls += 1
                if calls > crash_at:
                    raise Crash

            admin.logs.on_create = crash
            if crash_at < 3:
                with pytest.raises(Crash):
                    await admin.topics.create_topic("a", 3)
            else:
                await admin.topics.create_topic("a", 3)
            again = await Admin.open(store=admin.store)
            topic = again.topics.image.topics["a"]
            assert [partition.index for partition in topic.partitions] == [0, 1, 2]
            assert set(admin.logs.ids.values()) <= {topic.topic_id}

    run(test)


def test_a_crash_in_a_deletion_brings_nothing_back() -> None:
    """The metadata goes first: directories that are left have an id that no topic has."""

    async def test() -> None:
        admin = await Admin.open()
        topic = await admin.topics.create_topic("a", 2)

        def crash(name: str, index: int) -> None:
            raise Crash

        admin.logs.delete = crash  # type: ignore[method-assign,assignment]
        with pytest.raises(Crash):
            await admin.topics.delete_topic("a")
        again = await Admin.open(store=admin.store, seed=2)
        assert not again.topics.image.topics
        reborn = await again.topics.create_topic("a", 2)
        assert reborn.topic_id != topic.topic_id

    run(test)


def test_changes_at_once_happen_one_after_the_other() -> None:
    async def test() -> None:
        admin = await Admin.open()
        names = [f"t{n % 5}" for n in range(20)]
        outcomes = await asyncio.gather(
            *(admin.topics.create_topic(name, 2) for name in names), return_exceptions=True
        )
        assert sum(isinstance(outcome, TopicImage) for outcome in outcomes) == 5
        await asyncio.gather(*(admin.topics.ensure_topics(names) for _ in range(3)))
        assert len(admin.logs.ids) == 10

    run(test)


def test_producer_ids_never_repeat_whatever_crashes() -> None:
    async def test() -> None:
        store = MemoryStore()
        first, second = ProducerIdBlocks(store), ProducerIdBlocks(store)
        seen = [
            await blocks.allocate() for _ in range(BLOCK_SIZE + 1) for blocks in (first, second)
        ]
        after_crash = ProducerIdBlocks(store)
        seen += [await after_crash.allocate() for _ in range(3)]
        seen += await asyncio.gather(*(after_crash.allocate() for _ in range(BLOCK_SIZE)))
        assert len(set(seen)) == len(seen)
        assert min(seen) == 0

    run(test)


def test_producer_ids_of_a_failing_store_are_worth_a_retry() -> None:
    async def test() -> None:
        store = FailingStore()
        store.failing = True
        code = await refused(ProducerIdBlocks(store).allocate())
        assert code == errors.COORDINATOR_NOT_AVAILABLE and errors.is_retriable(code)

    run(test)


# Opening


def on_disk(data_dir: Path, **static: str) -> BrokerConfig:
    return BrokerConfig({"log.dirs": str(data_dir), **static})


def opened(test: Callable[[Any], Awaitable[None]], config: BrokerConfig, seed: int = 1) -> None:
    async def main() -> None:
        metadata = await open_metadata(config, rng=SeededRng(seed))
        try:
            await test(metadata)
        finally:
            metadata.close()

    asyncio.run(main())


def test_the_cluster_id_is_made_once(tmp_path: Path) -> None:
    found: list[str] = []

    async def note(metadata: Any) -> None:
        found.append(metadata.cluster_id)

    opened(note, on_disk(tmp_path), seed=1)
    written = load_meta_properties(tmp_path / "meta.properties")
    opened(note, on_disk(tmp_path), seed=2)
    assert found == [written.cluster_id] * 2 and len(found[0]) == 22
    assert written.node_id == NODE_ID
    # A crash between the store and the file: the file is made again, with the same id.
    (tmp_path / "meta.properties").unlink()
    opened(note, on_disk(tmp_path), seed=3)
    assert load_meta_properties(tmp_path / "meta.properties").cluster_id == found[0] == found[2]


def test_a_directory_of_another_cluster_or_node_is_refused(tmp_path: Path) -> None:
    async def nothing(_: Any) -> None:
        pass

    opened(nothing, on_disk(tmp_path))
    with pytest.raises(StoreError, match="another node"):
        opened(nothing, on_disk(tmp_path, **{"node.id": "2"}))
    other = encode_id(bytes(range(16)))
    store_meta_properties(tmp_path / "meta.properties", MetaProperties(other, NODE_ID))
    with pytest.raises(StoreError, match="another cluster"):
        opened(nothing, on_disk(tmp_path))


def test_logs_without_metadata_are_adopted(tmp_path: Path) -> None:
    """A store that was moved away because it was damaged, or a directory of Apache Kafka."""
    ids = {name: bytes([n]) * 16 for n, name in enumerate(("orders", "a-1", "split"), 1)}
    kraft = "__cluster_metadata-0"
    for name in (
        "orders-0",
        "orders-2",
        "a-1-0",
        "split-0",
        "split-1",
        "plain-0",
        kraft,
        "__consumer_offsets-4",
    ):
        (tmp_path / name).mkdir()
    for name in ("orders-0", "orders-2"):
        store_partition_metadata(tmp_path / name / "partition.metadata", ids["orders"])
    store_partition_metadata(tmp_path / "a-1-0" / "partition.metadata", ids["a-1"])
    store_partition_metadata(tmp_path / "split-0" / "partition.metadata", ids["split"])
    store_partition_metadata(tmp_path / "split-1" / "partition.metadata", ids["orders"])
    (tmp_path / "orders-1.0123456789abcdef0123456789abcdef-delete").mkdir()
    (tmp_path / "plain-1").write_text("a file")
    other = encode_id(bytes(range(16)))
    store_meta_properties(tmp_path / "meta.properties", MetaProperties(other, NODE_ID))

    async def check(metadata: Any) -> None:
        topics = metadata.topics.image.topics
        assert {name: len(topic.partitions) for name, topic in topics.items()} == {
            "orders": 3, "a-1": 1, "plain": 1, "__consumer_offsets": 5,
        }  # fmt: skip
        assert topics["orders"].topic_id == ids["orders"]
        assert metadata.cluster_id == other
        # Nothing of theirs is deleted, or taken for a repeat of what they have.
        config = metadata.topics.topic_config("plain")
        assert (config.retention_ms, config.retention_bytes) == (-1, -1)
        assert await metadata.producer_ids.allocate() >= 1 << 32
        # Offsets that are kept in full for ever would only ever take longer to load.
        assert metadata.topics.topic_config("__consumer_offsets").cleanup_policy == ("compact",)

    opened(check, on_disk(tmp_path))
    opened(check, on_disk(tmp_path), seed=2)


def test_metadata_that_does_not_fit_together_is_refused(tmp_path: Path) -> None:
    async def fill(metadata: Any) -> None:
        topic = await metadata.topics.create_topic("a", 2)
        await metadata.store.txn(deletes=[keys.partition_key(topic.topic_id, 1)])

    opened(fill, on_disk(tmp_path))
    with pytest.raises(StoreDamaged, match="partition 1 of topic a is missing"):
        opened(fill, on_disk(tmp_path))


@pytest.mark.parametrize("value", [b"", b"[]", b"{}", b"\xff", b'{"id":1}', b"[" * 100_000])
@pytest.mark.parametrize(
    "key", [b"topics/a", b"cluster", b"configs/brokers/1", b"partitions/x/y", b"topics/\xff"]
)
def test_values_that_are_no_metadata_are_refused(tmp_path: Path, key: bytes, value: bytes) -> None:
    async def fill() -> None:
        store = LmdbStore.open(str(tmp_path / "metadata"))
        await store.txn(puts=[Put(key, value)])
        store.close()

    async def nothing(_: Any) -> None:
        pass

    asyncio.run(fill())
    readable = {b"cluster": (b'{"id":1}',), b"configs/brokers/1": (b'{"id":1}', b"{}")}
    if value in readable.get(key, ()):
        opened(nothing, on_disk(tmp_path))
        return
    with pytest.raises(CoreError):
        opened(nothing, on_disk(tmp_path))


def test_listeners_hear_of_changes_that_can_be_seen_already() -> None:
    async def test() -> None:
        admin = await Admin.open()
        heard: list[object] = []

        def broken() -> None:
            raise RuntimeError("a listener's own fault")

        admin.topics.on_changed.append(broken)
        admin.topics.on_changed.append(lambda: heard.append(sorted(admin.topics.image.topics)))
        admin.topics.on_deleted.append(lambda gone: heard.extend(topic.name for topic in gone))
        await admin.topics.create_topics([NewTopic("a"), NewTopic("b")])
        await admin.topics.create_partitions("a", 2)
        await admin.topics.delete_topics(["a", "none"])
        assert heard == [["a", "b"], ["a", "b"], "a", ["b"]]
        heard.clear()
        await admin.topics.create_topics([NewTopic("c")], validate_only=True)
        await admin.topics.create_topics([NewTopic("b")])
        await admin.topics.create_partitions("b", 9, validate_only=True)
        await admin.topics.edit_topic_configs("b", [ConfigOp(SET, "retention.ms", "1")])
        await admin.topics.delete_topics(["none"])
        assert heard == [], "nothing came or went"

    run(test)
