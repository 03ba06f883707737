"""A group coordinator's shard under test: the real runtime over a log in memory, a manual clock, a
cluster image made by hand. `kit.check()` compares the live state with what the log replays to.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from kbroker.base import errors
from kbroker.base.clock import ManualClock
from kbroker.base.config import BrokerConfig
from kbroker.base.errors import KafkaError
from kbroker.base.group_config import GroupConfig
from kbroker.base.rng import SeededRng
from kbroker.coord.group.classic import ClassicGroup, State
from kbroker.coord.group.consumer_protocol import Subscription, encode_subscription
from kbroker.coord.group.env import Caller, GroupEnv
from kbroker.coord.group.ops.commit import op_commit
from kbroker.coord.group.ops.delete import op_delete
from kbroker.coord.group.ops.fetch_offsets import AskedTopic, op_fetch_offsets
from kbroker.coord.group.ops.heartbeat import op_heartbeat
from kbroker.coord.group.ops.join import op_join
from kbroker.coord.group.ops.leave import op_leave
from kbroker.coord.group.ops.sync import op_sync
from kbroker.coord.group.shard import GroupShard
from kbroker.coord.result import Answer, Record, Result
from kbroker.coord.runtime import CoordinatorRuntime
from kbroker.coord.timers import Timers
from kbroker.wire.schema.heartbeat import HeartbeatRequest
from kbroker.wire.schema.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from kbroker.wire.schema.leave_group import LeaveGroupRequest, MemberIdentity
from kbroker.wire.schema.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from kbroker.wire.schema.sync_group import SyncGroupRequest, SyncGroupRequestAssignment

from tests.coord.commits import parsed, told
from tests.coord.memory_log import MemoryLog

INDEX = 7
GROUP = "g"
SESSION_MS = 10_000
REBALANCE_MS = 60_000


def subscription(*topics: str) -> bytes:
    return encode_subscription(Subscription(0, list(topics), None, {}, -1, None))


class Image:
    """Topics by name and by id, as many partitions each as `topics` says."""

    def __init__(self, **topics: int) -> None:
        self.version = 1
        self.topics: dict[str, Any] = {}
        self.topics_by_id: dict[bytes, Any] = {}
        for name, count in topics.items():
            self.add(name, count)

    def add(self, name: str, partitions: int) -> Any:
        topic_id = name.encode()[-16:].ljust(16, b"_")
        topic = SimpleNamespace(
            name=name,
            topic_id=topic_id,
            partitions=[SimpleNamespace(index=index) for index in range(partitions)],
        )
        self.topics[name] = self.topics_by_id[topic_id] = topic
        self.version += 1
        return topic

    def remove(self, name: str) -> Any:
        topic = self.topics.pop(name)
        del self.topics_by_id[topic.topic_id]
        self.version += 1
        return topic


class _Armed:
    def cancel(self) -> None:
        pass


class GroupKit:
    def __init__(self, **config: object) -> None:
        """`group_max_size=3` means group.max.size."""
        named = {name.replace("_", "."): str(value) for name, value in config.items()}
        self.config = BrokerConfig(named)
        self.clock = ManualClock()
        self.log = MemoryLog()
        self.image = Image(t=4, u=2)
        self.env = GroupEnv(
            clock=self.clock,
            rng=SeededRng(1),
            config=lambda: self.config,
            group_config=lambda group_id: GroupConfig(self.config),
            image=lambda: self.image,
        )
        self._read = 0
        self.start()

    def start(self) -> None:
        """A coordinator that has just loaded its log."""
        self.runtime: CoordinatorRuntime[GroupShard] = CoordinatorRuntime(
            writer=self.log,
            clock=self.clock,
            arm=lambda delay_ms, fn: _Armed(),
            commit_timeout_ms=lambda: self.config.offsets_commit_timeout_ms,
        )
        self.shard = GroupShard(self.env, self.runtime.begin_loading(INDEX))
        self._replay(self.shard)
        self.runtime.activate(INDEX, self.shard)

    def _replay(self, shard: GroupShard, *, compacted: bool = False) -> None:
        records = self.log.records(INDEX)
        if compacted:  # as the loader reads a log: the last value of each key, in their order
            latest: dict[bytes, bytes | None] = {}
            for key, value in records:
                latest.pop(key, None)
                latest[key] = value
            records = list(latest.items())
        for key, value in records:
            record = shard.decode(key, value)
            assert record is not None
            shard.replay(record)

    # What happens

    def write(self, op: Callable[[GroupShard], Result[Any]]) -> Answer[Any]:
        return self.runtime.write(INDEX, op)

    def read(self, op: Callable[[GroupShard], Any]) -> Answer[Any]:
        return self.runtime.read(INDEX, op)

    def advance(self) -> None:
        """All that was appended is safe."""
        self.log.advance(INDEX)
        self.runtime.on_advance(INDEX)

    def sleep(self, ms: int) -> None:
        """Time passes; each timer runs when it is due."""
        end_ms = self.clock.monotonic_ms() + ms
        for _ in range(10_000):
            self.runtime.run_due()
            due_ms = self.shard.timers.next_due_ms
            if due_ms is None or due_ms > end_ms:
                self.clock.advance(end_ms - self.clock.monotonic_ms())
                self.runtime.run_due()
                return
            self.clock.advance(max(0, due_ms - self.clock.monotonic_ms()))
        raise AssertionError("timers never come to rest")

    # What is there

    def group(self, group_id: str = GROUP) -> ClassicGroup:
        group = self.shard.groups[group_id]
        assert isinstance(group, ClassicGroup)
        return group

    @property
    def state(self) -> State:
        return self.group().state

    def written(self) -> list[Record]:
        """The records appended since this was last asked."""
        found = self.log.records(INDEX)[self._read :]
        self._read += len(found)
        decoded = [self.shard.decode(key, value) for key, value in found]
        return [record for record in decoded if record is not None]

    def replayed(self, *, compacted: bool = False) -> GroupShard:
        shard = GroupShard(self.env, Timers(self.clock, lambda: None))
        self._replay(shard, compacted=compacted)
        return shard

    def check(self) -> None:
        """What is live is what the log says, as far as records say it."""
        replayed = self.replayed()
        assert hard(self.shard) == hard(replayed)
        assert hard(self.shard) == hard(self.replayed(compacted=True))
        for group_id, group in self.shard.groups.items():
            if isinstance(group, ClassicGroup) and group.state in (State.STABLE, State.EMPTY):
                twin = replayed.groups[group_id]
                assert isinstance(twin, ClassicGroup)
                assert settled(group) == settled(twin)

    # Requests without a member

    def commit(
        self, offset: int = 1, *, topic: str = "t", partition: int = 0, group_id: str = GROUP,
        generation: int = -1, member_id: str = "", instance_id: str | None = None,
        version: int = 9, metadata: str | None = "", leader_epoch: int = -1,
        retention_ms: int = -1,
    ) -> Answer[Any]:  # fmt: skip
        part = OffsetCommitRequestPartition(
            partition_index=partition, committed_offset=offset, committed_metadata=metadata,
            committed_leader_epoch=leader_epoch,
        )  # fmt: skip
        known = self.image.topics.get(topic)
        named = OffsetCommitRequestTopic(partitions=[part])
        if version >= 10:
            named.topic_id = known.topic_id if known else bytes(16)
        else:
            named.name = topic
        request = OffsetCommitRequest(
            group_id=group_id, generation_id_or_member_epoch=generation, member_id=member_id,
            group_instance_id=instance_id, retention_time_ms=retention_ms, topics=[named],
        )  # fmt: skip
        return self.write(lambda shard: op_commit(shard, parsed(request, version)))

    def commit_code(self, offset: int = 1, **fields: Any) -> int:
        response = told(self.commit(offset, **fields).result())
        return int(response.topics[0].partitions[0].error_code)

    def committed(self, topic: str = "t", partition: int = 0, group_id: str = GROUP) -> int:
        fetched = self.read(
            lambda shard: op_fetch_offsets(
                shard, caller(8), group_id, [AskedTopic(topic, bytes(16), [partition])]
            )
        ).result()
        return int(fetched[0].partitions[0].offset)

    def leave(
        self, *members: MemberIdentity, version: int = 5, group_id: str = GROUP
    ) -> Answer[Any]:
        request = LeaveGroupRequest(group_id=group_id, members=list(members))
        if version < 3:
            request.member_id = members[0].member_id
        return self.write(lambda shard: op_leave(shard, caller(version), request))

    def delete(self, group_id: str = GROUP) -> Answer[bool]:
        return self.write(lambda shard: op_delete(shard, caller(2), group_id))

    # Members

    def member(self, **fields: Any) -> Member:
        return Member(self, **fields)

    def stable(self, *members: Member) -> None:
        """Brings a new group with these members to its first generation."""
        answers = [member.join() for member in members]
        for _ in range(2):  # once more if there are several
            self.sleep(self.config.group_initial_rebalance_delay_ms)
        self.finish(*members, answers=answers)

    def finish(self, *members: Member, answers: list[Answer[Any]]) -> None:
        """The joins are answered: all sync, the leader last."""
        for member, answer in zip(members, answers, strict=True):
            member.joined(answer.result())
        leader_id = self.group().leader
        leader = next(member for member in members if member.member_id == leader_id)
        parked = [member.sync() for member in members if member is not leader]
        given = {member.member_id: b"for " + member.member_id.encode() for member in members}
        assert code(leader.sync(given)) == errors.NONE
        assert [code(answer) for answer in parked] == [0] * len(parked)


class Member:
    """A client of the classic protocol, as far as a coordinator sees it."""

    def __init__(
        self, kit: GroupKit, *, client_id: str = "c", instance_id: str | None = None,
        version: int = 9, topics: tuple[str, ...] = ("t",), names: tuple[str, ...] = ("range",),
        session_ms: int = SESSION_MS, rebalance_ms: int = REBALANCE_MS, group_id: str = GROUP,
        protocol_type: str = "consumer",
    ) -> None:  # fmt: skip
        self.kit = kit
        self.client_id = client_id
        self.instance_id = instance_id
        self.version = version
        self.session_ms = session_ms
        self.rebalance_ms = rebalance_ms
        self.group_id = group_id
        self.protocol_type = protocol_type
        self.protocols = {name: subscription(*topics) for name in names}
        self.member_id = ""
        self.generation = -1

    def request_join(self, version: int | None = None) -> Answer[Any]:
        request = JoinGroupRequest(
            group_id=self.group_id, session_timeout_ms=self.session_ms,
            rebalance_timeout_ms=self.rebalance_ms, member_id=self.member_id,
            group_instance_id=self.instance_id, protocol_type=self.protocol_type,
            protocols=[
                JoinGroupRequestProtocol(name=name, metadata=metadata)
                for name, metadata in self.protocols.items()
            ],
        )  # fmt: skip
        who = caller(self.version if version is None else version, self.client_id)
        return self.kit.write(lambda shard: op_join(shard, who, request))

    def join(self) -> Answer[Any]:
        """As a client does: takes an id and comes back with it."""
        answer = self.request_join()
        if answer.done and answer.error is None:
            response = answer.result()
            if response.error_code == errors.MEMBER_ID_REQUIRED:
                self.member_id = response.member_id
                return self.request_join()
        return answer

    def joined(self, response: Any) -> Any:
        assert response.error_code == errors.NONE
        self.member_id = response.member_id
        self.generation = response.generation_id
        return response

    def sync(
        self, assignments: dict[str, bytes] | None = None, *, generation: int | None = None,
        protocol_type: str | None = None, protocol_name: str | None = None,
    ) -> Answer[Any]:  # fmt: skip
        request = SyncGroupRequest(
            group_id=self.group_id, member_id=self.member_id,
            generation_id=self.generation if generation is None else generation,
            group_instance_id=self.instance_id, protocol_type=protocol_type,
            protocol_name=protocol_name,
            assignments=[
                SyncGroupRequestAssignment(member_id=member_id, assignment=assignment)
                for member_id, assignment in (assignments or {}).items()
            ],
        )  # fmt: skip
        return self.kit.write(lambda shard: op_sync(shard, caller(5), request))

    def heartbeat(self, *, generation: int | None = None) -> int:
        request = HeartbeatRequest(
            group_id=self.group_id, member_id=self.member_id, group_instance_id=self.instance_id,
            generation_id=self.generation if generation is None else generation,
        )  # fmt: skip
        return code(self.kit.write(lambda shard: op_heartbeat(shard, request)))

    def request_leave(self) -> Answer[Any]:
        who = MemberIdentity(member_id=self.member_id, group_instance_id=self.instance_id)
        return self.kit.leave(who, group_id=self.group_id)

    def leave(self) -> int:
        answer = self.request_leave()
        if answer.error is not None:
            return int(answer.error.code)
        return int(answer.result().members[0].error_code)

    def commit(self, offset: int = 1, **fields: Any) -> int:
        asked: dict[str, Any] = {
            "generation": self.generation, "member_id": self.member_id,
            "instance_id": self.instance_id, "group_id": self.group_id,
        }  # fmt: skip
        return self.kit.commit_code(offset, **{**asked, **fields})


def caller(version: int, client_id: str = "c") -> Caller:
    return Caller(client_id, "/127.0.0.1", version)


def code(answer: Answer[Any]) -> int:
    """The error code of an answer that is there."""
    assert answer.done
    if isinstance(answer.error, KafkaError):
        return answer.error.code
    return int(answer.result().error_code)


def hard(shard: GroupShard) -> dict[str, Any]:
    """All that records say."""
    groups: dict[str, Any] = {}
    for group_id, group in shard.groups.items():
        if isinstance(group, ClassicGroup):
            groups[group_id] = group.recorded
        else:
            groups[group_id] = (group.type_name, group.state_name)
    offsets = {group_id: dict(found) for group_id, found in shard.offsets.groups().items()}
    return {"groups": groups, "offsets": offsets, "count": shard.offsets.count}


def settled(group: ClassicGroup) -> dict[str, Any]:
    """A group that does not rebalance, by its live objects. (One that does is ahead of its record:
    a crash takes it back.)"""
    members = {}
    for member_id, member in group.members.items():
        members[member_id] = (
            member.instance_id, member.client_id, member.client_host,
            member.rebalance_timeout_ms, member.session_timeout_ms,
            member.protocols[group.protocol or ""], member.assignment,
        )  # fmt: skip
    return {
        "state": group.state, "since": group.state_since_ms, "generation": group.generation,
        "protocol_type": group.protocol_type, "protocol": group.protocol, "leader": group.leader,
        "members": members, "statics": group.statics, "subscribed": group.subscribed,
    }  # fmt: skip
