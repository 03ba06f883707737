"""DescribeGroups (15), versions 0 to 6: classic groups and their members.

* v3: authorized operations (KIP-430). v4: instance ids. v5: flexible.
* v6: a group that is not there is GROUP_ID_NOT_FOUND; before, it is in state Dead without an error.

ACLs: Describe on each group.
"""

from __future__ import annotations

from kbroker.base.errors import KafkaError
from kbroker.broker.context import RequestContext
from kbroker.broker.groups import caller_of
from kbroker.broker.operations import group_operations
from kbroker.broker.registry import handles
from kbroker.coord.group.ops.describe import op_describe
from kbroker.wire import apis
from kbroker.wire.schema.describe_groups import (
    DescribedGroup,
    DescribeGroupsRequest,
    DescribeGroupsResponse,
)


@handles(apis.DESCRIBE_GROUPS, 0, 6)
async def handle(ctx: RequestContext, req: DescribeGroupsRequest) -> DescribeGroupsResponse:
    response = DescribeGroupsResponse()
    for group_id in dict.fromkeys(req.groups):  # a name said twice is answered once
        described = await _describe(ctx, group_id)
        if not described.error_code:
            described.authorized_operations = group_operations(req.include_authorized_operations)
        response.groups.append(described)
    return response


async def _describe(ctx: RequestContext, group_id: str) -> DescribedGroup:
    caller = caller_of(ctx)
    try:
        return await ctx.services.groups.read(
            group_id, lambda shard: op_describe(shard, caller, group_id)
        )
    except KafkaError as refused:
        return DescribedGroup(group_id=group_id, error_code=refused.code)
