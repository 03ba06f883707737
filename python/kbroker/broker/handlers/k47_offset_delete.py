"""OffsetDelete (47), version 0: forgets offsets of topics that a group does not read (KIP-496).

ACLs: Delete on the group, Read on each topic.
"""

from __future__ import annotations

from kbroker.broker.context import RequestContext
from kbroker.broker.groups import caller_of
from kbroker.broker.registry import handles
from kbroker.coord.group.ops.delete_offsets import op_delete_offsets
from kbroker.wire import apis
from kbroker.wire.schema.offset_delete import OffsetDeleteRequest, OffsetDeleteResponse


@handles(apis.OFFSET_DELETE, 0, 0)
async def handle(ctx: RequestContext, req: OffsetDeleteRequest) -> OffsetDeleteResponse:
    caller = caller_of(ctx)
    return await ctx.services.groups.write(
        req.group_id, lambda shard: op_delete_offsets(shard, caller, req)
    )
