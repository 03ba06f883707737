"""Heartbeat (12), versions 0 to 4: a member of a classic group is alive.

* v3: static members (KIP-345). REBALANCE_IN_PROGRESS asks the member to join again.

While the group is being loaded the answer is no error: the member has nothing to do about it, and
its session begins anew when the group is there. ACLs: Read on the group.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from kbroker.base import errors
from kbroker.base.errors import KafkaError
from kbroker.broker.context import RequestContext
from kbroker.broker.groups import later
from kbroker.broker.registry import handles
from kbroker.coord.group.ops.heartbeat import op_heartbeat
from kbroker.coord.result import Answer
from kbroker.wire import apis
from kbroker.wire.schema.heartbeat import HeartbeatRequest, HeartbeatResponse


@handles(apis.HEARTBEAT, 0, 4)
def handle(
    ctx: RequestContext, req: HeartbeatRequest
) -> HeartbeatResponse | Coroutine[Any, Any, HeartbeatResponse]:
    try:
        told = ctx.services.groups.run(req.group_id, lambda shard: op_heartbeat(shard, req))
    except KafkaError as refused:
        return _refused(refused.code)
    return _answer_later(told) if isinstance(told, Answer) else told


async def _answer_later(told: Answer[HeartbeatResponse]) -> HeartbeatResponse:
    try:
        return await later(told)
    except KafkaError as refused:
        return _refused(refused.code)


def _refused(error_code: int) -> HeartbeatResponse:
    loads = error_code == errors.COORDINATOR_LOAD_IN_PROGRESS
    return HeartbeatResponse(error_code=errors.NONE if loads else error_code)
