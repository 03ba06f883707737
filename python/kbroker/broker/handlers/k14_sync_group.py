"""SyncGroup (14), versions 0 to 5: the leader brings the assignment, every member fetches its own.

* v3: static members (KIP-345). v5: protocol type and name, to find out who talks past the group.

A follower's answer waits for the leader's assignment, and everybody's until it is safe in the log.
ACLs: Read on the group.
"""

from __future__ import annotations

from kbroker.base import errors
from kbroker.base.errors import KafkaError
from kbroker.broker.context import RequestContext
from kbroker.broker.groups import caller_of
from kbroker.broker.registry import handles
from kbroker.coord.group.ops.sync import op_sync
from kbroker.wire import apis
from kbroker.wire.schema.sync_group import SyncGroupRequest, SyncGroupResponse

_PROTOCOL_FROM = 5


@handles(apis.SYNC_GROUP, 0, 5)
async def handle(ctx: RequestContext, req: SyncGroupRequest) -> SyncGroupResponse:
    if ctx.api_version >= _PROTOCOL_FROM and None in (req.protocol_type, req.protocol_name):
        raise KafkaError(errors.INCONSISTENT_GROUP_PROTOCOL)
    caller = caller_of(ctx)
    return await ctx.services.groups.write(req.group_id, lambda shard: op_sync(shard, caller, req))
