"""DescribeClientQuotas (48), versions 0 and 1: quotas of users, client ids and addresses (KIP-546).

No quota can be set yet, so whatever entity is asked for, the answer is that it has none. An entity
type nobody knows is UNSUPPORTED_VERSION, an empty one INVALID_REQUEST, as in Kafka.

ACLs: DescribeConfigs on the cluster.
"""

from __future__ import annotations

from kbroker.base import errors
from kbroker.broker.context import RequestContext
from kbroker.broker.registry import handles
from kbroker.wire import apis
from kbroker.wire.schema.describe_client_quotas import (
    DescribeClientQuotasRequest,
    DescribeClientQuotasResponse,
)

_ENTITY_TYPES = frozenset({"user", "client-id", "ip"})


@handles(apis.DESCRIBE_CLIENT_QUOTAS, 0, 1)
def handle(ctx: RequestContext, req: DescribeClientQuotasRequest) -> DescribeClientQuotasResponse:
    for component in req.components:
        if not component.entity_type:
            return _refused(errors.INVALID_REQUEST, "Unexpected empty entity type")
        if component.entity_type not in _ENTITY_TYPES:
            why = f"Unsupported entity type {component.entity_type}"
            return _refused(errors.UNSUPPORTED_VERSION, why)
    return DescribeClientQuotasResponse(error_message=None)


def _refused(code: int, why: str) -> DescribeClientQuotasResponse:
    return DescribeClientQuotasResponse(error_code=code, error_message=why, entries=None)
