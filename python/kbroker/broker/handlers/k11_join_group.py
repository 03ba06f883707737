"""JoinGroup (11), versions 0 to 9: a member enters a classic group; answered when all are there.

* v1: rebalance timeout. v4: new members are sent back once, with an id (KIP-394).
* v5: static members (KIP-345). v7: protocol type in the answer. v8: a reason (KIP-800).
* v9: a static leader that comes back need not assign (KIP-814).

The answer waits for the other members, up to their rebalance timeout. ACLs: Read on the group.
"""

from __future__ import annotations

from kbroker.base.errors import KafkaError
from kbroker.broker.context import RequestContext
from kbroker.broker.groups import caller_of
from kbroker.broker.registry import handles
from kbroker.coord.group.ops.join import op_join
from kbroker.wire import apis
from kbroker.wire.schema.join_group import JoinGroupRequest, JoinGroupResponse

_NULL_PROTOCOL_FROM = 7


@handles(apis.JOIN_GROUP, 0, 9)
async def handle(ctx: RequestContext, req: JoinGroupRequest) -> JoinGroupResponse:
    caller = caller_of(ctx)
    try:
        response = await ctx.services.groups.write(
            req.group_id, lambda shard: op_join(shard, caller, req)
        )
    except KafkaError as refused:
        response = JoinGroupResponse(error_code=refused.code, member_id=req.member_id)
    if response.error_code and ctx.api_version >= _NULL_PROTOCOL_FROM:
        response.protocol_name = None
    return response
