"""DescribeGroups: a classic group with its members, as their bytes were sent. A read.

What is not a classic group does not exist for this API: groups of the consumer protocol have one of
their own.
"""

from __future__ import annotations

from typing import Final

from kbroker.base import errors
from kbroker.coord.group.classic import ClassicGroup, State
from kbroker.coord.group.env import Caller
from kbroker.coord.group.shard import GroupShard
from kbroker.wire.schema.describe_groups import DescribedGroup, DescribedGroupMember

_NOT_FOUND_FROM: Final = 6


def op_describe(shard: GroupShard, caller: Caller, group_id: str) -> DescribedGroup:
    group = shard.groups.get(group_id)
    if not isinstance(group, ClassicGroup):
        dead = DescribedGroup(group_id=group_id, group_state=State.DEAD.value)
        if caller.api_version >= _NOT_FOUND_FROM:
            why = "not found" if group is None else "not a classic group"
            dead.error_code = errors.GROUP_ID_NOT_FOUND
            dead.error_message = f"Group {group_id} is {why}."
            if group is None:
                dead.error_message = f"Group {group_id} not found."
        return dead
    # What members said and were given is of the generation that goes on, if one does.
    protocol = group.protocol if group.state is State.STABLE else None
    return DescribedGroup(
        group_id=group_id,
        group_state=group.state_name,
        protocol_type=group.protocol_type,
        protocol_data=protocol or "",
        members=[
            DescribedGroupMember(
                member_id=member.member_id,
                group_instance_id=member.instance_id,
                client_id=member.client_id,
                client_host=member.client_host,
                member_metadata=b"" if protocol is None else member.protocols[protocol],
                member_assignment=member.assignment,
            )
            for member in group.members.values()
        ],
    )
