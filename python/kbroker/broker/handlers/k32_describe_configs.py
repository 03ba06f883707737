"""DescribeConfigs (32), versions 1 to 4: every effective configuration value and its source.

* v1: sources and synonyms instead of is_default (KIP-226). v3: types and documentation (KIP-569).
* Null or empty configuration_keys asks for all of them; unknown keys are left out.
* Topics; this broker by its id, or the defaults of all brokers by the empty name; this broker's
  loggers; groups, whether they exist or not. Client metrics exist as a type and have nothing yet.
* Sensitive values are null.

ACLs: DescribeConfigs on the topic, the cluster or the group.
"""

from __future__ import annotations

from kbroker.base.config import ConfigEntry
from kbroker.base.errors import KafkaError
from kbroker.broker.config_resources import describe
from kbroker.broker.context import RequestContext
from kbroker.broker.registry import handles
from kbroker.wire import apis
from kbroker.wire.schema.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
    DescribeConfigsResourceResult,
    DescribeConfigsResponse,
    DescribeConfigsResult,
    DescribeConfigsSynonym,
)


@handles(apis.DESCRIBE_CONFIGS, 1, 4)
def handle(ctx: RequestContext, req: DescribeConfigsRequest) -> DescribeConfigsResponse:
    return DescribeConfigsResponse(results=[_result(ctx, req, asked) for asked in req.resources])


def _result(
    ctx: RequestContext, req: DescribeConfigsRequest, asked: DescribeConfigsResource
) -> DescribeConfigsResult:
    result = DescribeConfigsResult(
        error_message=None, resource_type=asked.resource_type, resource_name=asked.resource_name
    )
    wanted = frozenset(asked.configuration_keys or ())
    try:
        entries = describe(ctx.services, asked.resource_type, asked.resource_name)
    except KafkaError as refused:
        result.error_code, result.error_message = refused.code, refused.message
        return result
    result.configs = [
        _config(entry, req.include_synonyms, req.include_documentation)
        for entry in entries
        if not wanted or entry.name in wanted
    ]
    return result


def _config(
    entry: ConfigEntry, include_synonyms: bool, include_documentation: bool
) -> DescribeConfigsResourceResult:
    return DescribeConfigsResourceResult(
        name=entry.name,
        value=entry.value,
        read_only=entry.read_only,
        config_source=entry.source,
        is_sensitive=entry.sensitive,
        synonyms=[
            DescribeConfigsSynonym(name=synonym.name, value=synonym.value, source=synonym.source)
            for synonym in (entry.synonyms if include_synonyms else ())
        ],
        config_type=entry.type,
        documentation=entry.doc if include_documentation else None,
    )
