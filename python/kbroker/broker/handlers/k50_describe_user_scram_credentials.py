"""DescribeUserScramCredentials (50), version 0: who can log in by SCRAM, never with what (KIP-554).

No credential can be set yet, so there are no users; one who is named does not exist
(RESOURCE_NOT_FOUND), and one who is named twice is DUPLICATE_RESOURCE.

ACLs: Describe on the cluster.
"""

from __future__ import annotations

from collections import Counter

from kbroker.base import errors
from kbroker.broker.context import RequestContext
from kbroker.broker.registry import handles
from kbroker.wire import apis
from kbroker.wire.schema.describe_user_scram_credentials import (
    DescribeUserScramCredentialsRequest,
    DescribeUserScramCredentialsResponse,
    DescribeUserScramCredentialsResult,
)


@handles(apis.DESCRIBE_USER_SCRAM_CREDENTIALS, 0, 0)
def handle(
    ctx: RequestContext, req: DescribeUserScramCredentialsRequest
) -> DescribeUserScramCredentialsResponse:
    times = Counter(user.name for user in req.users or ())
    return DescribeUserScramCredentialsResponse(
        error_message=None,
        results=[
            DescribeUserScramCredentialsResult(
                user=name,
                error_code=errors.RESOURCE_NOT_FOUND if n == 1 else errors.DUPLICATE_RESOURCE,
                error_message=(
                    f"Attempt to describe a user credential that does not exist: {name}"
                    if n == 1
                    else f"Cannot describe the same user twice in a single request: {name}"
                ),
            )
            for name, n in times.items()
        ],
    )
