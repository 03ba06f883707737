"""ListGroups (16), versions 0 to 5: the groups that this broker coordinates.

* v4: filter by state (KIP-518). v5: filter by type (KIP-848).

While groups are being loaded the answer is COORDINATOR_LOAD_IN_PROGRESS: a list with holes would be
taken for the whole. ACLs: Describe on the cluster, or on each group.
"""

from __future__ import annotations

from kbroker.broker.context import RequestContext
from kbroker.broker.registry import handles
from kbroker.coord.group.ops.list import op_list
from kbroker.wire import apis
from kbroker.wire.schema.list_groups import ListGroupsRequest, ListGroupsResponse


@handles(apis.LIST_GROUPS, 0, 5)
async def handle(ctx: RequestContext, req: ListGroupsRequest) -> ListGroupsResponse:
    listed = await ctx.services.groups.each(lambda shard: op_list(shard, req))
    return ListGroupsResponse(groups=[group for groups in listed for group in groups])
