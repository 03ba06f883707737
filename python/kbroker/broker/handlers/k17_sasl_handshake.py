"""SaslHandshake (17), versions 0 and 1: which mechanism a client is going to log in by.

Every listener is PLAINTEXT and asks for no login: ILLEGAL_SASL_STATE, as from such a listener of
Kafka's. A client that was set up for SASL learns why it gets no further.
"""

from __future__ import annotations

from kbroker.base import errors
from kbroker.broker.context import RequestContext
from kbroker.broker.registry import handles
from kbroker.wire import apis
from kbroker.wire.schema.sasl_handshake import SaslHandshakeRequest, SaslHandshakeResponse


@handles(apis.SASL_HANDSHAKE, 0, 1)
def handle(ctx: RequestContext, req: SaslHandshakeRequest) -> SaslHandshakeResponse:
    return SaslHandshakeResponse(error_code=errors.ILLEGAL_SASL_STATE)
