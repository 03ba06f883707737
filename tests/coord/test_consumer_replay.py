"""Goal: what a broker reads back after a crash is what it had, whatever happened before.

Method: random histories of one group with members of both protocols that join, beat, lose answers,
go silent, come back static, and leave, while topics come, grow and go, writes are refused, and time
passes. After each step no partition has two owners and no client of the new protocol has what the
group does not count as its own; at the end, and now and then, the log is replayed into a second
shard, which must equal the live one.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from kbroker.base import errors
from kbroker.base.errors import KafkaError
from kbroker.coord.group.classic import ClassicGroup, State
from kbroker.coord.group.consumer.group import ConsumerGroup
from kbroker.coord.group.consumer.member import pairs
from kbroker.coord.group.ops.commit import op_commit
from kbroker.coord.group.ops.delete import op_delete
from kbroker.coord.group.serde import decode_record
from kbroker.coord.group.shard import GroupShard
from kbroker.coord.timers import Timers
from kbroker.wire.schema.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)

from tests.coord.classic_client import ClassicClient
from tests.coord.commits import parsed
from tests.coord.consumer_kit import (
    CALLER,
    INDEX,
    Client,
    ConsumerKit,
    check_owners,
    settle,
    topic_id,
)

STEPS = 60
HISTORIES_PER_TEST = 50


def replayed(kit: ConsumerKit) -> GroupShard:
    shard = GroupShard(kit.env, Timers(kit.clock, lambda: None))
    for key, value in kit.log.records(INDEX):
        record = decode_record(key, value)
        assert record is not None
        shard.replay(record)
    return shard


def projection(shard: GroupShard, other: GroupShard) -> dict[str, Any]:
    """Hard state. A classic group between two records is ahead of its log, so it counts only when
    `shard` or `other` has it settled."""
    found: dict[str, Any] = {}
    for group_id, group in shard.groups.items():
        if isinstance(group, ConsumerGroup):
            found[group_id] = {
                name: dict(getattr(group, name))
                for name in ("members", "targets", "statics", "owners", "regexes")
            } | {
                "epoch": group.epoch,
                "assignment": group.assignment_epoch,
                "hash": group.metadata_hash,
                "subscribed": group.subscribed_topics,
            }
        else:
            assert isinstance(group, ClassicGroup)
            twin = other.groups.get(group_id)
            states = {group.state, twin.state if isinstance(twin, ClassicGroup) else None}
            found[group_id] = "classic"
            if states <= {State.STABLE, State.EMPTY}:
                members = {id: member.assignment for id, member in group.members.items()}
                found[group_id] = (group.generation, group.protocol, group.leader, members)
    found["offsets"] = {
        group_id: dict(offsets) for group_id, offsets in shard.offsets.groups().items()
    }
    return found


class History:
    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.kit = ConsumerKit(group_consumer_assignors=self.rng.choice(["uniform,range", "range"]))
        self.kit.topics(t=4, u=3)
        self.clients: list[Client] = []
        self.fields: dict[str, dict[str, Any]] = {}
        self.joined = 0
        for name in "abc":
            client = Client(self.kit, name)
            self.clients.append(client)
            self.fields[name] = {"instance_id": "i-" + name} if name == "c" else {}
        self.classics = [
            ClassicClient(self.kit, "k0", "t"),
            ClassicClient(self.kit, "k1", "t", "u", cooperative=True),
            ClassicClient(self.kit, "k2", "u", instance="i-k2"),
        ]

    def run(self) -> None:
        actions: list[tuple[int, Callable[[], None]]] = [
            (6, self.join),
            (30, self.beat),
            (4, self.lose_answer),
            (3, self.leave),
            (3, self.subscribe),
            (20, self.classic),
            (2, self.classic_leaves),
            (4, self.metadata),
            (4, self.time),
            (4, self.refuse),
            (3, self.commit),
            (1, self.delete),
            (1, self.compare),
        ]
        weights = [weight for weight, _ in actions]
        for _ in range(STEPS):
            (_, action), *_ = self.rng.choices(actions, weights)
            try:
                action()
            except KafkaError as refused:
                assert refused.code != errors.UNKNOWN_SERVER_ERROR, refused
            self.check()
        self.compare()

    # Members of the new protocol

    def _call(self, client: Client, fn: Callable[[], Any]) -> None:
        try:
            fn()
        except KafkaError as refused:
            if refused.code in (
                errors.FENCED_MEMBER_EPOCH,
                errors.UNKNOWN_MEMBER_ID,
                errors.FENCED_INSTANCE_ID,
                errors.GROUP_ID_NOT_FOUND,
            ):
                client.epoch, client.owned = 0, {}
            raise

    def join(self) -> None:
        client = self.rng.choice(self.clients)
        fields = dict(self.fields[client.member_id.split("-")[0]])
        if "instance_id" in fields and self.rng.random() < 0.5:
            if client.epoch > 0 and self.rng.random() < 0.7:
                self._call(client, lambda: self.kit.heartbeat(client.member_id, -2, **fields))
            client.epoch, client.owned = 0, {}
            self.joined += 1
            client.member_id = f"c-{self.joined}"
        if self.rng.random() < 0.3:
            fields["subscribed_topic_regex"] = self.rng.choice(["t", "t|u", "v.*"])
        topics = self.rng.choice([("t",), ("t", "u"), ("u", "v")])
        self._call(client, lambda: client.join(*topics, **fields))

    def _joined(self) -> Client | None:
        joined = [client for client in self.clients if client.epoch > 0]
        return self.rng.choice(joined) if joined else None

    def beat(self) -> None:
        client = self._joined()
        if client is not None:
            full = {"owned": client.owned} if self.rng.random() < 0.2 else {}
            self._call(client, lambda: client.beat(**full))

    def lose_answer(self) -> None:
        """The client asks in full the next time, as clients do after an error."""
        client = self._joined()
        if client is not None:
            owned, epoch = client.owned, client.epoch
            self._call(client, client.beat)
            client.owned, client.epoch, client.must_report = owned, epoch, True

    def leave(self) -> None:
        client = self._joined()
        if client is not None:
            self._call(client, client.leave)
            client.epoch = 0

    def subscribe(self) -> None:
        client = self._joined()
        if client is not None:
            names = self.rng.choice([["t"], ["u"], ["t", "u", "v"]])
            self._call(client, lambda: client.beat(subscribed_topic_names=names))

    # Members of the classic protocol

    def classic(self) -> None:
        client = self.rng.choice(self.classics)
        if client.joining is not None:
            if client.joining.done and client.take_join():
                client.member_id, client.generation = "", -1
            return
        if client.generation < 0 or self.rng.random() < 0.2:
            client.send_join()
        elif self.rng.random() < 0.5:
            answer = client.send_sync()
            if answer.done:
                client.take_sync(answer)
        else:
            code = client.beat()
            if code == errors.REBALANCE_IN_PROGRESS:
                client.send_join()
            elif code:
                client.member_id, client.generation, client.owned = "", -1, {}

    def classic_leaves(self) -> None:
        client = self.rng.choice(self.classics)
        if client.generation >= 0:
            client.leave()
            client.member_id, client.generation = "", -1

    # The world

    def metadata(self) -> None:
        name = self.rng.choice("tuv")
        topics = self.kit.image.topics
        count = len(topics[name].partitions) if name in topics else 0
        self.kit.topics(**{name: self.rng.choice([0, count + 1, count + 2])})

    def time(self) -> None:
        self.kit.advance(self.rng.choice([1_000, 5_000, 20_000, 70_000]))

    def refuse(self) -> None:
        self.kit.log.failures = [self.rng.choice([0, 0, errors.NOT_ENOUGH_REPLICAS])]

    def commit(self) -> None:
        client = self._joined()
        member, epoch = ("", -1) if client is None else (client.member_id, client.epoch)
        part = OffsetCommitRequestPartition(partition_index=0, committed_offset=self.joined)
        request = OffsetCommitRequest(
            group_id="g",
            member_id=member,
            generation_id_or_member_epoch=epoch,
            topics=[OffsetCommitRequestTopic(name="t", partitions=[part])],
        )
        self.kit.call(lambda shard: op_commit(shard, parsed(request)))

    def delete(self) -> None:
        self.kit.call(lambda shard: op_delete(shard, CALLER, "g"))

    # What must hold

    def check(self) -> None:
        group = self.kit.shard.groups.get("g")
        if not isinstance(group, ConsumerGroup):
            return
        check_owners(group)
        for client in self.clients:
            member = group.members.get(client.member_id)
            if member is None or client.epoch not in (
                member.member_epoch,
                member.previous_member_epoch,
            ):
                continue
            mine = {*pairs(member.assigned), *pairs(member.pending)}
            for name, partitions in client.owned.items():
                assert {(topic_id(name), partition) for partition in partitions} <= mine

    def compare(self) -> None:
        live, again = self.kit.shard, replayed(self.kit)
        assert projection(again, live) == projection(live, again)


@pytest.mark.parametrize("batch", range(20))
def test_the_replayed_state_is_the_live_one(batch: int) -> None:
    for seed in range(batch * HISTORIES_PER_TEST, (batch + 1) * HISTORIES_PER_TEST):
        try:
            History(seed).run()
        except Exception as failed:
            failed.add_note(f"SEED={seed}")
            raise


@pytest.mark.parametrize("seed", range(20))
def test_every_history_ends_with_everybody_settled(seed: int) -> None:
    """Whatever happened: members that go on with heartbeats share all partitions."""
    history = History(seed)
    history.run()
    kit = history.kit
    kit.log.failures = []
    for _ in range(2):  # the end of one member's session may begin another's anew
        kit.advance(400_000)
    kit.topics(t=5, u=2)
    live = [Client(kit, name) for name in ("x", "y")]
    for client in live:
        client.join("t", "u")
    settle(*live)
    owned = [(name, p) for client in live for name, ps in client.owned.items() for p in ps]
    assert sorted(owned) == [*[("t", p) for p in range(5)], *[("u", p) for p in range(2)]]
    assert kit.group().state_name == "Stable"
