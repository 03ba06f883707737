"""InitProducerId (22), versions 0 to 6: a producer id for idempotent producing.

* Without a transactional id: a fresh id, epoch 0. v3 may name the id a client has and wants a new
  epoch of; without a transactional id Kafka ignores that and so do we.
* With one: COORDINATOR_NOT_AVAILABLE, which clients retry, because there is no transaction
  coordinator to ask; an empty one is INVALID_REQUEST.
"""

from __future__ import annotations

from kbroker.base import errors
from kbroker.broker.context import RequestContext
from kbroker.broker.registry import handles
from kbroker.wire import apis
from kbroker.wire.schema.init_producer_id import InitProducerIdRequest, InitProducerIdResponse


@handles(apis.INIT_PRODUCER_ID, 0, 6)
async def handle(ctx: RequestContext, req: InitProducerIdRequest) -> InitProducerIdResponse:
    if req.transactional_id is not None:
        refusal = (
            errors.COORDINATOR_NOT_AVAILABLE if req.transactional_id else errors.INVALID_REQUEST
        )
        return InitProducerIdResponse(error_code=refusal, producer_epoch=-1)
    producer_id = await ctx.services.producer_ids.allocate()
    return InitProducerIdResponse(producer_id=producer_id, producer_epoch=0)
