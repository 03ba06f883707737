"""One group shard under the real runtime, for tests of the consumer protocol: a manual clock, a log
in memory, metadata that a test changes, and clients that speak to it as real ones do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from kbroker.base import errors
from kbroker.base.clock import ManualClock
from kbroker.base.config import BrokerConfig
from kbroker.base.errors import KafkaError
from kbroker.base.group_config import GroupConfig
from kbroker.base.rng import SeededRng
from kbroker.coord.group.consumer.group import ConsumerGroup
from kbroker.coord.group.consumer.member import ConsumerMember, pairs
from kbroker.coord.group.env import Caller, GroupEnv
from kbroker.coord.group.ops.consumer_heartbeat import op_consumer_heartbeat
from kbroker.coord.group.serde import decode_record
from kbroker.coord.group.shard import GroupShard
from kbroker.coord.result import Answer
from kbroker.coord.runtime import CoordinatorRuntime
from kbroker.meta.image import ClusterImage, PartitionImage, TopicImage
from kbroker.wire.schema.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
    TopicPartitions,
)

from tests.coord.memory_log import MemoryLog

INDEX = 0
CALLER = Caller("client", "/127.0.0.1", 1)
SESSION_MS = 45_000
REBALANCE_MS = 300_000


def topic_id(name: str) -> bytes:
    return name.encode().ljust(16, b"\0")


class _Handle:
    def cancel(self) -> None:
        pass


class ConsumerKit:
    """`configure()` changes the broker's configuration; `topics()` the metadata."""

    def __init__(self, **config: str) -> None:
        self.clock = ManualClock()
        self.log = MemoryLog()
        self.config = BrokerConfig({"node.id": "0"})
        self.configure(**config)
        self.group_overrides: dict[str, dict[str, str]] = {}
        self.image = ClusterImage(version=1)
        self.env = GroupEnv(
            clock=self.clock,
            rng=SeededRng(1),
            config=lambda: self.config,
            group_config=lambda group_id: GroupConfig(
                self.config, self.group_overrides.get(group_id, {})
            ),
            image=lambda: self.image,
        )
        self.runtime: CoordinatorRuntime[GroupShard] = CoordinatorRuntime(
            writer=self.log,
            clock=self.clock,
            arm=lambda delay_ms, fn: _Handle(),
            commit_timeout_ms=lambda: 5_000,
        )
        self.shard = GroupShard(self.env, self.runtime.begin_loading(INDEX))
        self.runtime.activate(INDEX, self.shard)

    # The world

    def configure(self, **config: str) -> None:
        named = {name.replace("_", "."): value for name, value in config.items()}
        self.config = BrokerConfig({"node.id": "0", **named})

    def topics(self, **counts: int) -> None:
        """Makes, grows, or (0) deletes topics; names in Python's spelling."""
        put = [self._topic(name, count) for name, count in counts.items() if count]
        removed = [name for name, count in counts.items() if not count]
        self.image = self.image.with_topics(self.image.version + 1, put=put, removed=removed)

    def _topic(self, name: str, count: int) -> TopicImage:
        old = self.image.topics.get(name)
        identity = topic_id(name) if old is None else old.topic_id
        partitions = tuple(PartitionImage(index, 0, 0, (0,), (0,)) for index in range(count))
        return TopicImage(name, identity, partitions)

    def advance(self, ms: int) -> None:
        """Time passes; timers that are due run."""
        self.clock.advance(ms)
        self.runtime.run_due()

    def restart(self) -> None:
        """The shard is read back from its log, as after a crash."""
        self.runtime.deactivate(INDEX)
        shard = GroupShard(self.env, self.runtime.begin_loading(INDEX))
        for key, value in self.log.records(INDEX):
            record = decode_record(key, value)
            assert record is not None
            shard.replay(record)
        self.shard = shard
        self.runtime.activate(INDEX, shard)

    # Operations

    def write(self, op: Callable[[GroupShard], Any]) -> Answer[Any]:
        return self.runtime.write(INDEX, op)

    def call(self, op: Callable[[GroupShard], Any]) -> Any:
        return self.write(op).result()

    def heartbeat(
        self,
        member_id: str,
        epoch: int,
        *,
        group: str = "g",
        owned: dict[str, Iterable[int]] | None = None,
        caller: Caller = CALLER,
        **fields: Any,
    ) -> ConsumerGroupHeartbeatResponse:
        """`owned` None: not said. Other fields as the request has them."""
        request = ConsumerGroupHeartbeatRequest(
            group_id=group,
            member_id=member_id,
            member_epoch=epoch,
            topic_partitions=None
            if owned is None
            else [
                TopicPartitions(topic_id=topic_id(name), partitions=list(partitions))
                for name, partitions in owned.items()
            ],
            **fields,
        )
        response: ConsumerGroupHeartbeatResponse = self.call(
            lambda shard: op_consumer_heartbeat(shard, caller, request)
        )
        return response

    def join(self, member_id: str, *topics: str, **fields: Any) -> ConsumerGroupHeartbeatResponse:
        if "subscribed_topic_regex" not in fields or topics:
            fields.setdefault("subscribed_topic_names", list(topics))
        fields.setdefault("rebalance_timeout_ms", REBALANCE_MS)
        return self.heartbeat(member_id, 0, owned={}, **fields)

    def client(self, member_id: str, *topics: str, **fields: Any) -> Client:
        client = Client(self, member_id)
        client.join(*topics, **fields)
        return client

    # What is there now

    def group(self, group_id: str = "g") -> ConsumerGroup:
        group = self.shard.groups[group_id]
        assert isinstance(group, ConsumerGroup)
        return group

    def member(self, member_id: str) -> ConsumerMember:
        return self.group().members[member_id]

    def has_group(self, group_id: str = "g") -> bool:
        return group_id in self.shard.groups


class Client:
    """A member that does what it is told: takes what an answer gives it, gives up the rest at once,
    and reports what it has when that changed."""

    def __init__(self, kit: ConsumerKit, member_id: str) -> None:
        self.kit = kit
        self.member_id = member_id
        self.epoch = 0
        self.owned: dict[str, set[int]] = {}
        self.must_report = False

    def join(self, *topics: str, **fields: Any) -> None:
        self.owned = {}
        self._take(self.kit.join(self.member_id, *topics, **fields))

    def beat(self, **fields: Any) -> ConsumerGroupHeartbeatResponse:
        if self.must_report:
            fields.setdefault("owned", self.owned)
        self.must_report = False
        response = self.kit.heartbeat(self.member_id, self.epoch, **fields)
        self._take(response)
        return response

    def leave(self) -> None:
        self.kit.heartbeat(self.member_id, -1)
        self.owned = {}

    def _take(self, response: ConsumerGroupHeartbeatResponse) -> None:
        self.epoch = response.member_epoch
        if response.assignment is not None:
            owned = owned_of(response)
            self.must_report |= owned != self.owned
            self.owned = owned


def owned_of(response: ConsumerGroupHeartbeatResponse) -> dict[str, set[int]]:
    assert response.assignment is not None
    return {
        topic.topic_id.rstrip(b"\0").decode(): set(topic.partitions)
        for topic in response.assignment.topic_partitions
    }


def settle(*clients: Client, rounds: int = 12) -> None:
    """Heartbeats go round until nothing changes any more."""
    for _ in range(rounds):
        for client in clients:
            client.beat()


def check_owners(group: ConsumerGroup) -> None:
    """No partition of two members, and what is derived from the members is as they say."""
    found: dict[tuple[bytes, int], str] = {}
    for member in group.members.values():
        for partition in [*pairs(member.assigned), *pairs(member.pending)]:
            assert partition not in found, f"{partition}: {found[partition]} and {member.member_id}"
            found[partition] = member.member_id
    assert found == dict(group.owners)
    named = {name for member in group.members.values() for name in member.topics}
    matched = {name for resolved in group.regexes.values() for name in resolved.topics}
    assert group.subscribed_topics == named | matched


def code_of(fn: Callable[[], Any]) -> int:
    """The error code that `fn` is refused with; 0 when it is not."""
    try:
        fn()
    except KafkaError as refused:
        return refused.code
    return errors.NONE
