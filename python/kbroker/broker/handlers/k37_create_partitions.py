"""CreatePartitions (37), versions 0 to 3: more partitions for existing topics.

* `count` is the total. Assignments, when given, are for the new partitions alone.
* v3 may answer THROTTLING_QUOTA_EXCEEDED; there are no quotas on changes yet.
* The partitions and their logs are there before the answer. Internal topics keep their count: the
  place of every key in them depends on it.

ACLs: Alter on the topic.
"""

from __future__ import annotations

from collections import Counter

from kbroker.base import errors
from kbroker.base.errors import KafkaError
from kbroker.broker.context import RequestContext
from kbroker.broker.registry import handles
from kbroker.wire import apis
from kbroker.wire.schema.create_partitions import (
    CreatePartitionsRequest,
    CreatePartitionsResponse,
    CreatePartitionsTopic,
    CreatePartitionsTopicResult,
)


@handles(apis.CREATE_PARTITIONS, 0, 3)
async def handle(ctx: RequestContext, req: CreatePartitionsRequest) -> CreatePartitionsResponse:
    times = Counter(topic.name for topic in req.topics)
    results: dict[str, CreatePartitionsTopicResult] = {}
    for asked in req.topics:
        result = results[asked.name] = CreatePartitionsTopicResult(name=asked.name)
        try:
            if times[asked.name] > 1:
                raise KafkaError(errors.INVALID_REQUEST, "Duplicate topic name.")
            await _grow(ctx, asked, req.validate_only)
        except KafkaError as refused:
            result.error_code, result.error_message = refused.code, refused.message
    return CreatePartitionsResponse(results=list(results.values()))


async def _grow(ctx: RequestContext, asked: CreatePartitionsTopic, validate_only: bool) -> None:
    assignments = None
    if asked.assignments is not None:
        assignments = [entry.broker_ids for entry in asked.assignments]
    await ctx.services.topics.create_partitions(asked.name, asked.count, assignments, validate_only)
