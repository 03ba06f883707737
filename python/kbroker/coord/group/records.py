"""Makes the records of classic groups and of offsets. Pure; a tombstone has value None."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from kbroker.coord.group.schema import (
    GroupMetadataKey,
    GroupMetadataValue,
    MemberMetadata,
    OffsetCommitKey,
)
from kbroker.coord.result import Record

if TYPE_CHECKING:
    from kbroker.coord.group.classic import ClassicMember


def group_metadata(
    group_id: str,
    *,
    protocol_type: str,
    generation: int,
    protocol: str | None,
    leader: str | None,
    now_ms: int,
    members: Iterable[MemberMetadata] = (),
) -> Record:
    """A generation of a classic group; without members it is an empty one."""
    value = GroupMetadataValue(
        protocol_type=protocol_type,
        generation=generation,
        protocol=protocol,
        leader=leader,
        current_state_timestamp=now_ms,
        members=list(members),
    )
    return Record(GroupMetadataKey(group=group_id), value)


def member_metadata(member: ClassicMember, protocol: str, assignment: bytes) -> MemberMetadata:
    return MemberMetadata(
        member_id=member.member_id,
        group_instance_id=member.instance_id,
        client_id=member.client_id,
        client_host=member.client_host,
        rebalance_timeout=member.rebalance_timeout_ms,
        session_timeout=member.session_timeout_ms,
        subscription=member.protocols[protocol],
        assignment=assignment,
    )


def new_group(group_id: str, now_ms: int) -> Record:
    """What makes a group exist before it has members."""
    return group_metadata(
        group_id, protocol_type="", generation=0, protocol=None, leader=None, now_ms=now_ms
    )


def group_tombstone(group_id: str) -> Record:
    return Record(GroupMetadataKey(group=group_id), None)


def offset_tombstone(group_id: str, topic: str, partition: int) -> Record:
    return Record(OffsetCommitKey(group=group_id, topic=topic, partition=partition), None)
