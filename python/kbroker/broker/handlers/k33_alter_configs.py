"""AlterConfigs (33), versions 0 to 2: replaces all overrides of a resource.

Deprecated by IncrementalAlterConfigs, because it drops every override it does not name; clients
that only know this one are why it is here. A resource is changed as a whole or not at all, and a
resource named twice in a request is INVALID_REQUEST.

ACLs: AlterConfigs on the topic or the cluster.
"""

from __future__ import annotations

from collections import Counter

from kbroker.base import errors
from kbroker.base.errors import KafkaError
from kbroker.broker.config_resources import replace
from kbroker.broker.context import RequestContext
from kbroker.broker.registry import handles
from kbroker.wire import apis
from kbroker.wire.schema.alter_configs import (
    AlterConfigsRequest,
    AlterConfigsResourceResponse,
    AlterConfigsResponse,
)


@handles(apis.ALTER_CONFIGS, 0, 2)
async def handle(ctx: RequestContext, req: AlterConfigsRequest) -> AlterConfigsResponse:
    times = Counter((asked.resource_type, asked.resource_name) for asked in req.resources)
    response = AlterConfigsResponse()
    for asked in req.resources:
        result = AlterConfigsResourceResponse(
            error_message=None,
            resource_type=asked.resource_type,
            resource_name=asked.resource_name,
        )
        response.responses.append(result)
        try:
            if times[asked.resource_type, asked.resource_name] > 1:
                raise KafkaError(errors.INVALID_REQUEST, "Each resource must appear once.")
            await replace(
                ctx.services,
                asked.resource_type,
                asked.resource_name,
                [(config.name, config.value) for config in asked.configs],
                validate_only=req.validate_only,
            )
        except KafkaError as refused:
            result.error_code, result.error_message = refused.code, refused.message
    return response
