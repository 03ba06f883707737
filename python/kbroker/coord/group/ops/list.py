"""ListGroups: the groups of one shard that are in one of some states and of one of some types.

Names are compared without case. A name that no state or type has matches nothing; no names at all
match everything. A read.
"""

from __future__ import annotations

from kbroker.coord.group.shard import GroupShard
from kbroker.wire.schema.list_groups import ListedGroup, ListGroupsRequest


def op_list(shard: GroupShard, request: ListGroupsRequest) -> list[ListedGroup]:
    states = {name.strip().lower() for name in request.states_filter}
    types = {name.strip().lower() for name in request.types_filter}
    listed = []
    for group in shard.groups.values():
        if types and group.type_name not in types:
            continue
        state = group.state_name
        if states and state.lower() not in states:
            continue
        listed.append(
            ListedGroup(
                group_id=group.group_id,
                protocol_type=group.protocol_type,
                group_state=state,
                group_type=group.type_name,
            )
        )
    return listed
