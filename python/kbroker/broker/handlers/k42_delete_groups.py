"""DeleteGroups (42), versions 0 to 2: groups without members, and their offsets.

Old clients pick version 0 and nothing else, so it is offered. ACLs: Delete on each group.
"""

from __future__ import annotations

import asyncio

from kbroker.base import errors
from kbroker.base.errors import KafkaError
from kbroker.broker.context import RequestContext
from kbroker.broker.groups import caller_of
from kbroker.broker.registry import handles
from kbroker.coord.group.ops.delete import op_delete
from kbroker.wire import apis
from kbroker.wire.schema.delete_groups import (
    DeletableGroupResult,
    DeleteGroupsRequest,
    DeleteGroupsResponse,
)


@handles(apis.DELETE_GROUPS, 0, 2)
async def handle(ctx: RequestContext, req: DeleteGroupsRequest) -> DeleteGroupsResponse:
    results = [
        DeletableGroupResult(group_id=group_id, error_code=await _delete(ctx, group_id))
        for group_id in dict.fromkeys(req.groups_names)
    ]
    return DeleteGroupsResponse(results=results)


async def _delete(ctx: RequestContext, group_id: str) -> int:
    caller = caller_of(ctx)
    groups = ctx.services.groups
    try:
        while not await groups.write(group_id, lambda shard: op_delete(shard, caller, group_id)):
            await asyncio.sleep(0)  # more offsets than one write can hold: others first
    except KafkaError as refused:
        return refused.code
    return errors.NONE
