"""ConsumerGroupDescribe (69), versions 0 to 1: groups of the consumer protocol in full (KIP-848).

* v1: member_type, 0 for a member that speaks the classic protocol and 1 for one of this.

Groups of the classic protocol are GROUP_ID_NOT_FOUND here and described by DescribeGroups.
ACLs: Describe on the groups; Describe on the topics of their members.
"""

from __future__ import annotations

from kbroker.base import errors
from kbroker.base.errors import KafkaError
from kbroker.broker.context import RequestContext
from kbroker.broker.operations import group_operations
from kbroker.broker.registry import handles
from kbroker.coord.group.ops.consumer_describe import op_consumer_describe
from kbroker.wire import apis
from kbroker.wire.schema.consumer_group_describe import (
    ConsumerGroupDescribeRequest,
    ConsumerGroupDescribeResponse,
    DescribedGroup,
)


@handles(apis.CONSUMER_GROUP_DESCRIBE, 0, 1)
async def handle(
    ctx: RequestContext, req: ConsumerGroupDescribeRequest
) -> ConsumerGroupDescribeResponse:
    offered = "consumer" in ctx.services.config.group_coordinator_rebalance_protocols
    groups = []
    for group_id in dict.fromkeys(req.group_ids):  # a name said twice is answered once
        if offered:
            group = await _describe(ctx, group_id)
        else:
            group = DescribedGroup(group_id=group_id, error_code=errors.UNSUPPORTED_VERSION)
        if not group.error_code:
            group.authorized_operations = group_operations(req.include_authorized_operations)
        groups.append(group)
    return ConsumerGroupDescribeResponse(groups=groups)


async def _describe(ctx: RequestContext, group_id: str) -> DescribedGroup:
    try:
        if not group_id:
            raise KafkaError(errors.INVALID_GROUP_ID)
        described: DescribedGroup = await ctx.services.groups.read(
            group_id, lambda shard: op_consumer_describe(shard, group_id)
        )
        return described
    except KafkaError as refused:
        return DescribedGroup(
            group_id=group_id, error_code=refused.code, error_message=refused.message
        )
