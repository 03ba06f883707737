"""G04: goal: whatever happens, a shard's live state is what its log replays to.

Method: random sequences of requests, refused appends, a high watermark that lags, time that passes,
topics that go and coordinators that restart; after each step live and replayed state are compared.
SEED in the test's id repeats a sequence.
"""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from kbroker.base import errors
from kbroker.coord.group.classic import ClassicGroup, State
from kbroker.coord.group.ops.delete_offsets import op_delete_offsets
from kbroker.coord.group.schema import (
    ConsumerGroupMetadataKey,
    ConsumerGroupMetadataValue,
    GroupMetadataKey,
)
from kbroker.coord.result import Record
from kbroker.wire.schema.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
)

from tests.coord.group_kit import INDEX, GroupKit, Member, caller, subscription

SEQUENCES = 1_000
PER_TEST = 100
STEPS = 50
GROUPS = ("g", "h")
TOPICS = ("t", "u")


class World:
    """Clients that do as clients do, most of the time."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        delay_ms = self.rng.choice([0, 3_000])
        self.kit = GroupKit(
            group_initial_rebalance_delay_ms=delay_ms,
            offsets_retention_minutes=1,
            offsets_retention_check_interval_ms=30_000,
            group_max_size=self.rng.choice([2, 100]),
        )
        self.members: list[Member] = []
        self.joins: dict[Member, Any] = {}
        self.answers: list[Any] = []

    def step(self) -> None:
        self.maybe_fail()
        actions = (
            (self.new_member, 6), (self.join, 4), (self.sync, 6), (self.heartbeat, 4),
            (self.settle, 8),
            (self.leave, 1), (self.commit, 4), (self.admin_commit, 2), (self.pass_time, 6),
            (self.delete_group, 1), (self.delete_offsets, 1), (self.move_watermark, 3),
            (self.restart_static, 2), (self.change, 2), (self.restart, 1), (self.drop_topic, 1),
        )  # fmt: skip
        names = [action for action, _ in actions]
        weights = [weight for _, weight in actions]
        self.rng.choices(names, weights)[0]()
        if self.rng.random() < 0.7:
            self.kit.log.failures.clear()
        self.take_joins()

    def maybe_fail(self) -> None:
        if self.rng.random() < 0.15:
            self.kit.log.failures = [
                self.rng.choice([errors.NOT_ENOUGH_REPLICAS, errors.MESSAGE_TOO_LARGE])
            ] * self.rng.randrange(1, 3)

    def new_member(self) -> None:
        rng = self.rng
        instance_id = f"i{rng.randrange(3)}" if rng.random() < 0.3 else None
        member = self.kit.member(
            group_id=rng.choice(GROUPS), instance_id=instance_id, version=rng.choice([0, 3, 8, 9]),
            names=rng.choice([("range",), ("sticky", "range"), ("range", "sticky"), ("sticky",)]),
            topics=tuple(rng.sample(TOPICS, rng.randrange(1, 3))),
            protocol_type="consumer" if rng.random() < 0.95 else "connect",
            session_ms=rng.choice([10_000, 30_000]), rebalance_ms=rng.choice([10_000, 60_000]),
        )  # fmt: skip
        self.members.append(member)
        self.send_join(member)

    def send_join(self, member: Member) -> None:
        answer = member.join()
        self.answers.append(answer)
        self.joins[member] = answer

    def take_joins(self) -> None:
        for member, answer in list(self.joins.items()):
            if not answer.done:
                continue
            del self.joins[member]
            if answer.error is None and not answer.result().error_code:
                member.joined(answer.result())

    def one(self) -> Member | None:
        return self.rng.choice(self.members) if self.members else None

    def join(self) -> None:
        # Whole groups come back, or else few rebalances would end.
        group_id = self.rng.choice(GROUPS)
        for member in self.members:
            if member.group_id == group_id and self.rng.random() < 0.8:
                self.send_join(member)

    def sync(self) -> None:
        group_id = self.rng.choice(GROUPS)
        group = self.kit.shard.groups.get(group_id)
        for member in self.members:
            if member.group_id != group_id or self.rng.random() < 0.2:
                continue
            given: dict[str, bytes] = {}
            if isinstance(group, ClassicGroup) and member.member_id == group.leader:
                given = {each: self.rng.randbytes(4) for each in group.members}
            self.answers.append(member.sync(given))

    def settle(self) -> None:
        """All of a group do what a rebalance asks of them, if the log lets them."""
        group_id = self.rng.choice(GROUPS)
        ours = [member for member in self.members if member.group_id == group_id]
        for member in ours:
            if member not in self.joins:
                self.send_join(member)
        for _ in range(2):
            self.kit.sleep(3_000)
        self.take_joins()
        group = self.kit.shard.groups.get(group_id)
        if not isinstance(group, ClassicGroup):
            return
        leader = group.leader
        for member in sorted(ours, key=lambda member: member.member_id == leader):
            given = {each: self.rng.randbytes(4) for each in group.members}
            self.answers.append(member.sync(given if member.member_id == leader else None))

    def heartbeat(self) -> None:
        for member in self.members:
            if self.rng.random() < 0.7:
                member.heartbeat()

    def leave(self) -> None:
        leaving = [each for each in self.members if self.rng.random() < 0.3]
        for member in leaving:
            if self.rng.random() < 0.5:
                self.members.remove(member)
            self.answers.append(member.request_leave())

    def commit(self) -> None:
        if (member := self.one()) is not None:
            self.answers.append(
                self.kit.commit(
                    self.rng.randrange(1_000), topic=self.rng.choice(TOPICS),
                    generation=member.generation, member_id=member.member_id,
                    group_id=member.group_id, partition=self.rng.randrange(2),
                )
            )  # fmt: skip

    def admin_commit(self) -> None:
        self.answers.append(
            self.kit.commit(
                self.rng.randrange(1_000), group_id=self.rng.choice(GROUPS), version=4,
                topic=self.rng.choice(TOPICS),
                retention_ms=self.rng.choice([-1, 5_000, 200_000]),
            )
        )  # fmt: skip

    def pass_time(self) -> None:
        self.kit.sleep(self.rng.choice([0, 1, 1, 500, 3_000, 3_000, 11_000, 70_000]))

    def delete_group(self) -> None:
        self.answers.append(self.kit.delete(self.rng.choice(GROUPS)))

    def delete_offsets(self) -> None:
        part = OffsetDeleteRequestPartition(partition_index=self.rng.randrange(2))
        topic = OffsetDeleteRequestTopic(name=self.rng.choice(TOPICS), partitions=[part])
        request = OffsetDeleteRequest(group_id=self.rng.choice(GROUPS), topics=[topic])
        self.answers.append(
            self.kit.write(lambda shard: op_delete_offsets(shard, caller(0), request))
        )

    def move_watermark(self) -> None:
        self.kit.log.holds = self.rng.random() < 0.5
        log = self.kit.log
        low, high = log.high_watermark(INDEX), log.next_offset(INDEX)
        log.advance(INDEX, self.rng.randint(low, high) if log.holds else high)
        self.kit.runtime.on_advance(INDEX)

    def restart_static(self) -> None:
        member = self.one()
        if member is not None and member.instance_id is not None:
            member.member_id = ""
            self.send_join(member)

    def change(self) -> None:
        if (member := self.one()) is not None:
            member.protocols = {"range": subscription(*self.rng.sample(TOPICS, 1)), "sticky": b""}
            self.send_join(member)

    def restart(self) -> None:
        self.kit.log.holds = False
        self.kit.advance()
        self.kit.runtime.deactivate(INDEX)
        self.kit.start()

    def drop_topic(self) -> None:
        topic = self.kit.image.remove("u")
        self.kit.write(lambda shard: shard.op_topics_deleted([topic]))
        self.kit.image.add("u", 2)

    def end(self) -> None:
        """All is safe and everybody had time: nobody waits any more."""
        self.kit.log.failures.clear()
        self.kit.log.holds = False
        self.kit.advance()
        self.kit.sleep(400_000)
        self.kit.sleep(400_000)
        self.kit.check()
        assert [answer for answer in self.answers if not answer.done] == []
        for group in self.kit.shard.groups.values():
            assert isinstance(group, ClassicGroup)
            assert group.state is State.EMPTY and not group.members and not group.pending


def check_bookkeeping(kit: GroupKit) -> None:
    """What a group counts is what it has."""
    for group in kit.shard.groups.values():
        assert isinstance(group, ClassicGroup)
        support: dict[str, int] = {}
        size = 0
        for member in group.members.values():
            for name, metadata in member.protocols.items():
                support[name] = support.get(name, 0) + 1
                size += len(metadata)
        assert (group._support, group.metadata_bytes) == (support, size)
        statics = {m.instance_id: m.member_id for m in group.members.values() if m.instance_id}
        assert group.statics == statics
        assert set(group.joining) <= set(group.members)
        assert set(group.syncing) <= set(group.members)
        assert not set(group.pending) & set(group.members)
        assert (group.leader in group.members) if group.members else True
        if group.state is State.EMPTY:
            assert not group.members and not group.joining and not group.syncing
        if group.state is not State.COMPLETING:
            assert not group.syncing or not group.is_settled
    assert kit.shard.offsets.count == sum(map(len, kit.shard.offsets.groups().values()))


@pytest.mark.parametrize("first", range(0, SEQUENCES, PER_TEST))
def test_live_is_what_replays(first: int) -> None:
    for seed in range(first, first + PER_TEST):
        world = World(seed)
        try:
            for _ in range(STEPS):
                world.step()
                world.kit.check()
                check_bookkeeping(world.kit)
            world.end()
        except BaseException:
            print(f"SEED={seed}")
            raise


def test_a_classic_tombstone_leaves_a_group_of_the_other_kind() -> None:
    """In a compacted log a tombstone may stand behind what came after it in time."""
    shard = GroupKit().shard
    key = ConsumerGroupMetadataKey(group_id="g")
    shard.replay(Record(key, ConsumerGroupMetadataValue(epoch=3)))
    shard.replay(Record(GroupMetadataKey(group="g"), None))
    assert shard.groups["g"].type_name == "consumer"


def test_a_classic_tombstone_leaves_the_offsets() -> None:
    kit = GroupKit()
    kit.commit(7)
    kit.stable(kit.member())
    kit.shard.replay(Record(GroupMetadataKey(group="g"), None))
    assert kit.group().is_unrecorded and kit.committed() == 7


def test_the_sequences_get_everywhere() -> None:
    """A random test that never rebalances proves nothing."""
    seen: dict[str, int] = {}
    for seed in range(60):
        world = World(seed)
        for _ in range(STEPS):
            world.step()
            for group in world.kit.shard.groups.values():
                seen[group.state_name] = seen.get(group.state_name, 0) + 1
        seen["refused"] = seen.get("refused", 0) + world.kit.runtime.failed_writes
        members = [len(record.value.members) for record in world.kit.written() if record.value
                   and hasattr(record.value, "members")]  # fmt: skip
        seen["large"] = seen.get("large", 0) + sum(count > 1 for count in members)
    for name in (
        "Empty",
        "PreparingRebalance",
        "CompletingRebalance",
        "Stable",
        "refused",
        "large",
    ):
        assert seen[name] > 50, seen
