"""IncrementalAlterConfigs (44), versions 0 and 1 (KIP-339): sets, deletes, and edits of lists.

* Operations: 0 SET, 1 DELETE, 2 APPEND, 3 SUBTRACT; the last two on lists only.
* A resource is changed as a whole or not at all; a key or a resource named twice is
  INVALID_REQUEST. What acts while the broker runs acts before the answer.
* This broker's loggers are a resource too (KIP-412): their levels.

ACLs: AlterConfigs on the topic or the cluster.
"""

from __future__ import annotations

from collections import Counter

from kbroker.base import errors
from kbroker.base.config_ops import ConfigOp, OpType
from kbroker.base.errors import KafkaError
from kbroker.broker.config_resources import edit
from kbroker.broker.context import RequestContext
from kbroker.broker.registry import handles
from kbroker.wire import apis
from kbroker.wire.schema.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResourceResponse,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)


@handles(apis.INCREMENTAL_ALTER_CONFIGS, 0, 1)
async def handle(
    ctx: RequestContext, req: IncrementalAlterConfigsRequest
) -> IncrementalAlterConfigsResponse:
    times = Counter((asked.resource_type, asked.resource_name) for asked in req.resources)
    response = IncrementalAlterConfigsResponse()
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
            await edit(
                ctx.services,
                asked.resource_type,
                asked.resource_name,
                [_op(config) for config in asked.configs],
                validate_only=req.validate_only,
            )
        except KafkaError as refused:
            result.error_code, result.error_message = refused.code, refused.message
    return response


def _op(config: AlterableConfig) -> ConfigOp:
    try:
        op_type = OpType(config.config_operation)
    except ValueError:
        raise KafkaError(
            errors.INVALID_REQUEST,
            f"Unknown operation {config.config_operation} on {config.name}.",
        ) from None
    return ConfigOp(op_type, config.name, config.value)
