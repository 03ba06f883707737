"""FindCoordinator (10), versions 0 to 6: which broker coordinates a group or a transaction.

* v1: key_type (0 group, 1 transaction). v4: many keys, one answer each (KIP-699).
* v6: key_type 2, share groups, whose keys are "group:topic id:partition"; not served.

A key belongs to a partition of its internal topic, and the leader of that partition is its
coordinator. The internal topic of groups is made at the first question, before the answer: no
client has to come back for it. For transactions, which are not served yet, this broker is named.
ACLs: Describe on the group or the transactional id.
"""

from __future__ import annotations

from kbroker.base import errors
from kbroker.base.errors import KafkaError
from kbroker.broker.context import RequestContext
from kbroker.broker.registry import handles
from kbroker.broker.services import BrokerEndpoint
from kbroker.coord.partitioner import partition_of
from kbroker.wire import apis
from kbroker.wire.schema.find_coordinator import (
    Coordinator,
    FindCoordinatorRequest,
    FindCoordinatorResponse,
)

_BATCHED_FROM = 4
_GROUP = 0
_TOPICS = {_GROUP: "__consumer_offsets", 1: "__transaction_state"}
_NOWHERE = -1


@handles(apis.FIND_COORDINATOR, 0, 6)
async def handle(ctx: RequestContext, req: FindCoordinatorRequest) -> FindCoordinatorResponse:
    if req.key_type == _GROUP:
        await ctx.services.groups.ensure_topic()
    if ctx.api_version >= _BATCHED_FROM:
        keys = dict.fromkeys(req.coordinator_keys)
        return FindCoordinatorResponse(
            coordinators=[_answer(ctx, req.key_type, key) for key in keys]
        )
    found = _answer(ctx, req.key_type, req.key)
    return FindCoordinatorResponse(
        error_code=found.error_code,
        error_message=found.error_message,
        node_id=found.node_id,
        host=found.host,
        port=found.port,
    )


def _answer(ctx: RequestContext, key_type: int, key: str) -> Coordinator:
    try:
        broker = _coordinator(ctx, key_type, key)
    except KafkaError as refused:
        return Coordinator(
            key=key,
            node_id=_NOWHERE,
            port=_NOWHERE,
            error_code=refused.code,
            error_message=refused.message,
        )
    return Coordinator(
        key=key, node_id=broker.node_id, host=broker.host, port=broker.port, error_message=None
    )


def _coordinator(ctx: RequestContext, key_type: int, key: str) -> BrokerEndpoint:
    if key_type not in _TOPICS:
        raise KafkaError(errors.INVALID_REQUEST, f"Coordinator type {key_type} is not served.")
    services = ctx.services
    leader = services.node_id
    topic = services.topics.image.topics.get(_TOPICS[key_type])
    if topic is None and key_type == _GROUP:
        raise KafkaError(errors.COORDINATOR_NOT_AVAILABLE)
    if topic is not None:
        leader = topic.partitions[partition_of(key, len(topic.partitions))].leader
    for broker in services.endpoints(ctx.listener):
        if broker.node_id == leader:
            return broker
    raise KafkaError(errors.COORDINATOR_NOT_AVAILABLE)
