"""CreateAcls (30), versions 1 to 3. Without an authorizer a rule would protect nothing, so each is
refused with SECURITY_DISABLED, as in Kafka.

ACLs: Alter on the cluster.
"""

from __future__ import annotations

from kbroker.base import errors
from kbroker.broker.context import RequestContext
from kbroker.broker.operations import NO_AUTHORIZER
from kbroker.broker.registry import handles
from kbroker.wire import apis
from kbroker.wire.schema.create_acls import (
    AclCreationResult,
    CreateAclsRequest,
    CreateAclsResponse,
)


@handles(apis.CREATE_ACLS, 1, 3)
def handle(ctx: RequestContext, req: CreateAclsRequest) -> CreateAclsResponse:
    return CreateAclsResponse(
        results=[
            AclCreationResult(error_code=errors.SECURITY_DISABLED, error_message=NO_AUTHORIZER)
            for _ in req.creations
        ]
    )
