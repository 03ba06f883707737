"""InitProducerId (22), versions 0 to 6: a producer id for idempotent producing.

* Without a transactional id: a fresh id, epoch 0. v3 may name the id a client has and wants a new
  epoch of; without a transactional id Kafka ignores that and so do we.
* With one: TRANSACTIONAL_ID_AUTHORIZATION_FAILED, because there is no transaction coordinator yet.
  It is the one code at which every client ends at once and says so. COORDINATOR_NOT_AVAILABLE is
  tried again until a timeout of the client's, and so is UNSUPPORTED_VERSION by librdkafka.
* An empty one is INVALID_REQUEST.
"""

from __future__ import annotations

import logging

from kbroker.base import errors
from kbroker.broker.context import RequestContext
from kbroker.broker.registry import handles
from kbroker.wire import apis
from kbroker.wire.schema.init_producer_id import InitProducerIdRequest, InitProducerIdResponse

log = logging.getLogger("kbroker.producer_ids")


@handles(apis.INIT_PRODUCER_ID, 0, 6)
async def handle(ctx: RequestContext, req: InitProducerIdRequest) -> InitProducerIdResponse:
    if req.transactional_id is not None:
        refusal = errors.INVALID_REQUEST
        if req.transactional_id:
            refusal = errors.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
            log.warning(
                "%s asks for transactions (transactional.id=%s), which this broker does not have",
                ctx.client_id,
                req.transactional_id,
            )
        return InitProducerIdResponse(error_code=refusal, producer_epoch=-1)
    producer_id = await ctx.services.producer_ids.allocate()
    return InitProducerIdResponse(producer_id=producer_id, producer_epoch=0)
