"""The requests of consumer groups, short enough to write scripts of them (tests/peer/lockstep.py).

Every function is one step and returns what the client itself was told, None when it waits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from kbroker.coord.group.consumer_protocol import (
    Subscription,
    encode_assignment,
    encode_subscription,
)
from kbroker.wire import apis
from kbroker.wire.schema import consumer_group_heartbeat as heartbeat_schema
from kbroker.wire.schema.consumer_group_describe import ConsumerGroupDescribeRequest
from kbroker.wire.schema.delete_groups import DeleteGroupsRequest
from kbroker.wire.schema.describe_groups import DescribeGroupsRequest
from kbroker.wire.schema.heartbeat import HeartbeatRequest
from kbroker.wire.schema.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from kbroker.wire.schema.leave_group import LeaveGroupRequest, MemberIdentity
from kbroker.wire.schema.list_groups import ListGroupsRequest
from kbroker.wire.schema.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from kbroker.wire.schema.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
)
from kbroker.wire.schema.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopic,
    OffsetFetchRequestTopics,
)
from kbroker.wire.schema.sync_group import SyncGroupRequest, SyncGroupRequestAssignment
from kbroker.wire.struct import Struct

from tests.peer.lockstep import Pair, topic_id

SESSION_MS = 60_000
REBALANCE_MS = 120_000


def subscription(*topics: str, owned: dict[str, list[int]] | None = None, epoch: int = -1) -> bytes:
    return encode_subscription(Subscription(3, list(topics), None, owned or {}, epoch, None))


def assignment(**partitions: list[int]) -> bytes:
    return encode_assignment(partitions, 1)


RANGE = (("range", subscription("t")),)


class Talk:
    def __init__(self, pair: Pair) -> None:
        self.pair = pair

    def ask(self, client: str, key: int, version: int, request: Struct) -> Any:
        return self.pair.step(client, key, version, request).get(client)

    # The classic protocol

    def join(
        self, client: str, group: str, member: str = "", *, version: int = 9,
        instance: str | None = None, kind: str = "consumer",
        protocols: Iterable[tuple[str, bytes]] = RANGE, session_ms: int = SESSION_MS,
        rebalance_ms: int = REBALANCE_MS,
    ) -> Any:  # fmt: skip
        request = JoinGroupRequest(
            group_id=group, member_id=member, session_timeout_ms=session_ms,
            rebalance_timeout_ms=rebalance_ms, protocol_type=kind, group_instance_id=instance,
            protocols=[
                JoinGroupRequestProtocol(name=name, metadata=data) for name, data in protocols
            ],
        )  # fmt: skip
        return self.ask(client, apis.JOIN_GROUP, version, request)

    def enter(self, client: str, group: str, **rest: Any) -> Any:
        """Fetches a member id and joins with it."""
        sent_back = self.join(client, group, **rest)
        return self.join(client, group, sent_back["member_id"], **rest)

    def enter_waiting(self, client: str, group: str, **rest: Any) -> str:
        """As `enter`, into a group whose members have to join again first."""
        member = str(self.join(client, group, **rest)["member_id"])
        self.join(client, group, member, **rest)
        return member

    def sync(
        self, client: str, group: str, member: str, generation: int, *, version: int = 5,
        instance: str | None = None, kind: str | None = "consumer",
        protocol: str | None = "range", gives: dict[str, bytes] | None = None,
    ) -> Any:  # fmt: skip
        request = SyncGroupRequest(
            group_id=group, member_id=member, generation_id=generation, protocol_type=kind,
            protocol_name=protocol, group_instance_id=instance,
            assignments=[
                SyncGroupRequestAssignment(member_id=to, assignment=data)
                for to, data in (gives or {}).items()
            ],
        )  # fmt: skip
        return self.ask(client, apis.SYNC_GROUP, version, request)

    def beat(
        self, client: str, group: str, member: str, generation: int, *, version: int = 4,
        instance: str | None = None,
    ) -> Any:  # fmt: skip
        request = HeartbeatRequest(
            group_id=group, member_id=member, generation_id=generation, group_instance_id=instance
        )
        return self.ask(client, apis.HEARTBEAT, version, request)

    def leave(
        self, client: str, group: str, *members: str | tuple[str, str | None], version: int = 5
    ) -> Any:
        pairs = [each if isinstance(each, tuple) else (each, None) for each in members]
        request = LeaveGroupRequest(group_id=group)
        if version < 3:
            request.member_id = pairs[0][0]
        else:
            request.members = [
                MemberIdentity(member_id=member, group_instance_id=instance)
                for member, instance in pairs
            ]
        return self.ask(client, apis.LEAVE_GROUP, version, request)

    # Offsets

    def commit(
        self, client: str, group: str, member: str = "", generation: int = -1, *, version: int = 8,
        topics: Sequence[str] = ("t",), partitions: Sequence[int] = (0,), offset: int = 5,
        metadata: str | None = "", instance: str | None = None,
    ) -> Any:  # fmt: skip
        request = OffsetCommitRequest(
            group_id=group, member_id=member, generation_id_or_member_epoch=generation,
            group_instance_id=instance,
            topics=[
                OffsetCommitRequestTopic(
                    **({"topic_id": topic_id(name)} if version >= 10 else {"name": name}),
                    partitions=[
                        OffsetCommitRequestPartition(
                            partition_index=index, committed_offset=offset + index,
                            committed_metadata=metadata,
                            **({"committed_leader_epoch": 7} if version >= 6 else {}),
                        )
                        for index in partitions
                    ],
                )
                for name in topics
            ],
        )  # fmt: skip
        return self.ask(client, apis.OFFSET_COMMIT, version, request)

    def fetch(
        self, client: str, *groups: str, version: int = 9, member: str | None = None,
        epoch: int = -1, topics: Sequence[str] | None = ("t",), partitions: Sequence[int] = (0, 9),
        stable: bool = False,
    ) -> Any:  # fmt: skip
        request = OffsetFetchRequest(require_stable=stable)
        caller: dict[str, Any] = {"member_id": member, "member_epoch": epoch}
        if version < 8:
            request.group_id = groups[0]
            request.topics = (
                None
                if topics is None
                else [  # type: ignore[assignment]
                    OffsetFetchRequestTopic(name=name, partition_indexes=list(partitions))
                    for name in topics
                ]
            )
        else:
            request.groups = [
                OffsetFetchRequestGroup(
                    group_id=group,
                    **(caller if version >= 9 else {}),
                    topics=None if topics is None else [
                        OffsetFetchRequestTopics(
                            **({"topic_id": topic_id(name)} if version >= 10 else {"name": name}),
                            partition_indexes=list(partitions),
                        )
                        for name in topics
                    ],
                )
                for group in groups
            ]  # fmt: skip
        return self.ask(client, apis.OFFSET_FETCH, version, request)

    def forget(
        self, client: str, group: str, *topics: str, partitions: Sequence[int] = (0,)
    ) -> Any:
        request = OffsetDeleteRequest(
            group_id=group,
            topics=[
                OffsetDeleteRequestTopic(
                    name=name,
                    partitions=[
                        OffsetDeleteRequestPartition(partition_index=index) for index in partitions
                    ],
                )
                for name in topics
            ],
        )
        return self.ask(client, apis.OFFSET_DELETE, 0, request)

    # Administration

    def describe(self, *groups: str, version: int = 6, operations: bool = False) -> Any:
        request = DescribeGroupsRequest(groups=list(groups))
        request.include_authorized_operations = operations
        return self.ask("admin", apis.DESCRIBE_GROUPS, version, request)

    def list(
        self, *, version: int = 5, states: Sequence[str] = (), types: Sequence[str] = ()
    ) -> Any:
        request = ListGroupsRequest(states_filter=list(states), types_filter=list(types))
        return self.ask("admin", apis.LIST_GROUPS, version, request)

    def delete(self, *groups: str, version: int = 2) -> Any:
        request = DeleteGroupsRequest(groups_names=list(groups))
        return self.ask("admin", apis.DELETE_GROUPS, version, request)

    # The consumer protocol

    def pulse(
        self, client: str, group: str, member: str, epoch: int, *, version: int = 1,
        owned: Sequence[tuple[str, Sequence[int]] | heartbeat_schema.TopicPartitions] | None = None,
        names: Sequence[str] | None = None, **rest: Any,
    ) -> Any:  # fmt: skip
        """ConsumerGroupHeartbeat. `owned`: names and partitions, OWNED or BEFORE."""
        if owned is not None:
            rest["topic_partitions"] = [
                each
                if isinstance(each, heartbeat_schema.TopicPartitions)
                else heartbeat_schema.TopicPartitions(
                    topic_id=topic_id(each[0]), partitions=list(each[1])
                )
                for each in owned
            ]
        if names is not None:
            rest["subscribed_topic_names"] = list(names)
        request = heartbeat_schema.ConsumerGroupHeartbeatRequest(
            group_id=group, member_id=member, member_epoch=epoch, **rest
        )
        return self.ask(client, apis.CONSUMER_GROUP_HEARTBEAT, version, request)

    def pulse_in(self, client: str, group: str, member: str, *names: str, **rest: Any) -> Any:
        rest.setdefault("rebalance_timeout_ms", REBALANCE_MS)
        return self.pulse(client, group, member, 0, owned=[], names=names, **rest)

    def describe_new(self, *groups: str, version: int = 1, operations: bool = False) -> Any:
        request = ConsumerGroupDescribeRequest(group_ids=list(groups))
        request.include_authorized_operations = operations
        return self.ask("admin", apis.CONSUMER_GROUP_DESCRIBE, version, request)
