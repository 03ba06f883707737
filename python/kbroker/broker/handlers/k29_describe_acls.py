"""DescribeAcls (29), versions 1 to 3: the access rules that a filter matches.

There is no authorizer, so there are no rules: SECURITY_DISABLED, as Kafka says without one. Admin
programs ask this first to find out whether there is anything to show.

ACLs: Describe on the cluster.
"""

from __future__ import annotations

from kbroker.base import errors
from kbroker.broker.context import RequestContext
from kbroker.broker.operations import NO_AUTHORIZER
from kbroker.broker.registry import handles
from kbroker.wire import apis
from kbroker.wire.schema.describe_acls import DescribeAclsRequest, DescribeAclsResponse


@handles(apis.DESCRIBE_ACLS, 1, 3)
def handle(ctx: RequestContext, req: DescribeAclsRequest) -> DescribeAclsResponse:
    return DescribeAclsResponse(error_code=errors.SECURITY_DISABLED, error_message=NO_AUTHORIZER)
