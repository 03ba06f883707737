"""DeleteAcls (31), versions 1 to 3. Without an authorizer there is nothing to delete: each filter
is refused with SECURITY_DISABLED, as in Kafka.

ACLs: Alter on the cluster.
"""

from __future__ import annotations

from kbroker.base import errors
from kbroker.broker.context import RequestContext
from kbroker.broker.operations import NO_AUTHORIZER
from kbroker.broker.registry import handles
from kbroker.wire import apis
from kbroker.wire.schema.delete_acls import (
    DeleteAclsFilterResult,
    DeleteAclsRequest,
    DeleteAclsResponse,
)


@handles(apis.DELETE_ACLS, 1, 3)
def handle(ctx: RequestContext, req: DeleteAclsRequest) -> DeleteAclsResponse:
    return DeleteAclsResponse(
        filter_results=[
            DeleteAclsFilterResult(error_code=errors.SECURITY_DISABLED, error_message=NO_AUTHORIZER)
            for _ in req.filters
        ]
    )
