"""LeaveGroup (13), versions 0 to 5: members leave a classic group, or are removed from it.

* v3: many members, each with an error of its own (KIP-345); before, one member and one error.
* v5: a reason (KIP-800).

ACLs: Read on the group.
"""

from __future__ import annotations

from kbroker.broker.context import RequestContext
from kbroker.broker.groups import caller_of
from kbroker.broker.registry import handles
from kbroker.coord.group.ops.leave import BATCH_FROM, op_leave
from kbroker.wire import apis
from kbroker.wire.schema.leave_group import LeaveGroupRequest, LeaveGroupResponse


@handles(apis.LEAVE_GROUP, 0, 5)
async def handle(ctx: RequestContext, req: LeaveGroupRequest) -> LeaveGroupResponse:
    caller = caller_of(ctx)
    response = await ctx.services.groups.write(
        req.group_id, lambda shard: op_leave(shard, caller, req)
    )
    if ctx.api_version >= BATCH_FROM:
        return response
    return LeaveGroupResponse(error_code=response.members[0].error_code)
