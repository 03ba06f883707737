"""ConsumerGroupHeartbeat (68), versions 0 to 1: membership of the consumer protocol (KIP-848).

* v1: subscribed_topic_regex, and the client names its member (KIP-1082).

What a request does is in coord/group/ops/consumer_heartbeat.py. When `consumer` is not among
`group.coordinator.rebalance.protocols`, the answer is UNSUPPORTED_VERSION, as Kafka's.
ACLs: Read on the group; Describe on the topics that are named.
"""

from __future__ import annotations

from kbroker.base import errors
from kbroker.base.errors import KafkaError
from kbroker.broker.context import RequestContext
from kbroker.broker.groups import caller_of
from kbroker.broker.registry import handles
from kbroker.coord.group.ops.consumer_heartbeat import op_consumer_heartbeat
from kbroker.wire import apis
from kbroker.wire.schema.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
)


@handles(apis.CONSUMER_GROUP_HEARTBEAT, 0, 1)
async def handle(
    ctx: RequestContext, req: ConsumerGroupHeartbeatRequest
) -> ConsumerGroupHeartbeatResponse:
    services = ctx.services
    if "consumer" not in services.config.group_coordinator_rebalance_protocols:
        return ConsumerGroupHeartbeatResponse(error_code=errors.UNSUPPORTED_VERSION)
    caller = caller_of(ctx)
    try:
        return await services.groups.write(
            req.group_id, lambda shard: op_consumer_heartbeat(shard, caller, req)
        )
    except KafkaError as refused:
        return ConsumerGroupHeartbeatResponse(
            error_code=refused.code, error_message=refused.message
        )
