"""A consumer of the classic protocol for tests of migration: joins, syncs, sends heartbeats, and
assigns as a leader."""

from __future__ import annotations

from typing import Any

from kbroker.base import errors
from kbroker.coord.group.consumer_protocol import (
    Subscription,
    decode_assignment,
    decode_subscription,
    encode_assignment,
    encode_subscription,
)
from kbroker.coord.group.env import Caller
from kbroker.coord.group.ops.heartbeat import op_heartbeat
from kbroker.coord.group.ops.join import op_join
from kbroker.coord.group.ops.leave import op_leave
from kbroker.coord.group.ops.sync import op_sync
from kbroker.coord.result import Answer
from kbroker.wire.schema.heartbeat import HeartbeatRequest
from kbroker.wire.schema.join_group import (
    JoinGroupRequest,
    JoinGroupRequestProtocol,
    JoinGroupResponse,
)
from kbroker.wire.schema.leave_group import LeaveGroupRequest, MemberIdentity
from kbroker.wire.schema.sync_group import SyncGroupRequest, SyncGroupRequestAssignment

from tests.coord.consumer_kit import ConsumerKit

SESSION_MS = 30_000
REBALANCE_MS = 60_000


class ClassicClient:
    """`member_id` is the broker's to give. `joining`: an answer to a join that waits. `cooperative`
    keeps what it has over a rebalance, as cooperative-sticky does."""

    def __init__(
        self,
        kit: ConsumerKit,
        name: str,
        *topics: str,
        instance: str | None = None,
        protocols: tuple[str, ...] = ("range",),
        cooperative: bool = False,
        group: str = "g",
    ) -> None:
        self.kit = kit
        self.group = group
        self.caller = Caller(name, "/127.0.0.1", 9)
        self.topics = list(topics)
        self.instance = instance
        self.protocols = protocols
        self.cooperative = cooperative
        self.member_id = ""
        self.generation = -1
        self.owned: dict[str, list[int]] = {}
        self.leads = False
        self.members: dict[str, list[str]] = {}
        self.protocol = ""
        self.joining: Answer[JoinGroupResponse] | None = None

    # Requests

    def send_join(self) -> Answer[JoinGroupResponse]:
        if not self.cooperative:
            self.owned = {}
        metadata = encode_subscription(
            Subscription(3, self.topics, None, self.owned, self.generation, None)
        )
        request = JoinGroupRequest(
            group_id=self.group,
            session_timeout_ms=SESSION_MS,
            rebalance_timeout_ms=REBALANCE_MS,
            member_id=self.member_id,
            group_instance_id=self.instance,
            protocol_type="consumer",
            protocols=[
                JoinGroupRequestProtocol(name=name, metadata=metadata) for name in self.protocols
            ],
        )
        self.joining = self.kit.write(lambda shard: op_join(shard, self.caller, request))
        return self.joining

    def take_join(self) -> int:
        """The error code; what a join that is answered told."""
        answer, self.joining = self.joining, None
        assert answer is not None
        if answer.error is not None:
            return answer.error.code
        response = answer.result()
        if response.error_code == errors.MEMBER_ID_REQUIRED:
            self.member_id = response.member_id
            self.send_join()
            return self.take_join() if self.joining.done else errors.NONE
        if response.error_code == errors.NONE:
            self.member_id = response.member_id
            self.generation = response.generation_id
            self.protocol = response.protocol_name or ""
            self.leads = response.leader == self.member_id
            self.members = {}
            for member in response.members:
                subscription = decode_subscription(member.metadata)
                assert subscription is not None
                self.members[member.member_id] = subscription.topics
        return int(response.error_code)

    def join(self) -> int:
        """Joins where nobody is waited for."""
        self.send_join()
        return self.take_join()

    def send_sync(self) -> Answer[Any]:
        request = SyncGroupRequest(
            group_id=self.group,
            generation_id=self.generation,
            member_id=self.member_id,
            group_instance_id=self.instance,
            protocol_type="consumer",
            protocol_name=self.protocol,
            assignments=self._assign() if self.leads else [],
        )
        return self.kit.write(lambda shard: op_sync(shard, self.caller, request))

    def take_sync(self, answer: Answer[Any]) -> int:
        if answer.error is not None:
            return answer.error.code
        response = answer.result()
        if response.error_code == errors.NONE:
            self.owned = decode_assignment(response.assignment) or {}
        return int(response.error_code)

    def sync(self) -> int:
        return self.take_sync(self.send_sync())

    def beat(self) -> int:
        request = HeartbeatRequest(
            group_id=self.group,
            generation_id=self.generation,
            member_id=self.member_id,
            group_instance_id=self.instance,
        )
        answer = self.kit.write(lambda shard: op_heartbeat(shard, request))
        if answer.error is not None:
            return answer.error.code
        return int(answer.result().error_code)

    def leave(self) -> int:
        request = LeaveGroupRequest(
            group_id=self.group,
            members=[MemberIdentity(member_id=self.member_id, group_instance_id=self.instance)],
        )
        response = self.kit.call(lambda shard: op_leave(shard, self.caller, request))
        self.owned = {}
        return int(response.members[0].error_code)

    # What a consumer's poll loop does

    def poll(self) -> None:
        """One heartbeat and what follows from it, in a group of the new protocol."""
        if self.beat() == errors.REBALANCE_IN_PROGRESS:
            assert self.join() == errors.NONE
            self.sync()

    def _assign(self) -> list[SyncGroupRequestAssignment]:
        """Round robin over all partitions."""
        assigned: dict[str, dict[str, list[int]]] = {member: {} for member in self.members}
        turn = 0
        image = self.kit.image
        for topic in sorted({topic for topics in self.members.values() for topic in topics}):
            readers = sorted(member for member, topics in self.members.items() if topic in topics)
            if topic not in image.topics:
                continue
            for partition in range(len(image.topics[topic].partitions)):
                mine = assigned[readers[turn % len(readers)]]
                mine.setdefault(topic, []).append(partition)
                turn += 1
        return [
            SyncGroupRequestAssignment(
                member_id=member, assignment=encode_assignment(partitions, 3)
            )
            for member, partitions in assigned.items()
        ]


def classic_group(kit: ConsumerKit, *clients: ClassicClient) -> None:
    """All of them in one stable generation."""
    for client in clients:
        client.send_join()
        while client.joining is not None and client.joining.done and not client.member_id:
            assert client.joining.result().error_code == errors.MEMBER_ID_REQUIRED
            client.member_id = client.joining.result().member_id
            client.send_join()
    for _ in range(4):
        kit.advance(kit.config.group_initial_rebalance_delay_ms)
        for client in clients:
            if client.joining is not None and client.joining.done:
                assert client.take_join() == errors.NONE
            elif client.joining is None and client.beat() == errors.REBALANCE_IN_PROGRESS:
                client.send_join()
    syncs = [(client, client.send_sync()) for client in clients]
    for client, answer in syncs:
        assert client.take_sync(answer) == errors.NONE
