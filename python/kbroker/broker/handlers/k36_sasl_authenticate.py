"""SaslAuthenticate (36), versions 0 to 2: one step of a login.

No listener asks for one, so no handshake can have gone before: ILLEGAL_SASL_STATE, as from a
PLAINTEXT listener of Kafka's.
"""

from __future__ import annotations

from kbroker.base import errors
from kbroker.broker.context import RequestContext
from kbroker.broker.registry import handles
from kbroker.wire import apis
from kbroker.wire.schema.sasl_authenticate import (
    SaslAuthenticateRequest,
    SaslAuthenticateResponse,
)


@handles(apis.SASL_AUTHENTICATE, 0, 2)
def handle(ctx: RequestContext, req: SaslAuthenticateRequest) -> SaslAuthenticateResponse:
    return SaslAuthenticateResponse(
        error_code=errors.ILLEGAL_SASL_STATE,
        error_message=f"The listener {ctx.listener} asks for no authentication.",
    )
