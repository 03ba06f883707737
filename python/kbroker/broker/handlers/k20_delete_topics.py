"""DeleteTopics (20), versions 1 to 6.

* v5: error messages. v6: topics by id as well as by name (KIP-516); not both for one topic.
* A topic is gone from the metadata, and its name is free, before the answer. Internal topics can be
  deleted as in Kafka, and what they held is forgotten: with __consumer_offsets go all groups.
  `delete.topic.enable=false` is TOPIC_DELETION_DISABLED for each.

ACLs: Delete on the topic.
"""

from __future__ import annotations

from collections import Counter

from kbroker.base import errors
from kbroker.base.errors import KafkaError
from kbroker.broker.context import RequestContext
from kbroker.broker.registry import handles
from kbroker.wire import apis
from kbroker.wire.schema.delete_topics import (
    DeletableTopicResult,
    DeleteTopicsRequest,
    DeleteTopicsResponse,
    DeleteTopicState,
)
from kbroker.wire.struct import ZERO_ID

_STATES_FROM = 6


@handles(apis.DELETE_TOPICS, 1, 6)
async def handle(ctx: RequestContext, req: DeleteTopicsRequest) -> DeleteTopicsResponse:
    if ctx.api_version >= _STATES_FROM:
        asked = req.topics
    else:
        asked = [DeleteTopicState(name=name) for name in req.topic_names]
    responses: list[DeletableTopicResult] = []
    wanted: list[str | bytes] = []
    times = Counter(_topic_name(ctx, state) for state in asked)
    for state in asked:
        if (state.name is None) == (state.topic_id == ZERO_ID):
            refused = KafkaError(
                errors.INVALID_REQUEST, "A topic is deleted by its name or by its id, one of them."
            )
            responses.append(_failure(state.name, state.topic_id, refused))
        elif times[_topic_name(ctx, state)] > 1:
            refused = KafkaError(errors.INVALID_REQUEST, "Duplicate topic.")
            responses.append(_failure(state.name, state.topic_id, refused))
        else:
            wanted.append(state.name if state.name is not None else state.topic_id)
    for ref, outcome in zip(wanted, await ctx.services.topics.delete_topics(wanted), strict=True):
        if isinstance(outcome, KafkaError):
            name, topic_id = (ref, ZERO_ID) if isinstance(ref, str) else (None, ref)
            responses.append(_failure(name, topic_id, outcome))
        else:
            responses.append(DeletableTopicResult(name=outcome.name, topic_id=outcome.topic_id))
    return DeleteTopicsResponse(responses=responses)


def _topic_name(ctx: RequestContext, state: DeleteTopicState) -> str | bytes:
    """What tells topics apart whichever way they are named."""
    if state.name is not None:
        return state.name
    topic = ctx.services.topics.image.topics_by_id.get(state.topic_id)
    return state.topic_id if topic is None else topic.name


def _failure(name: str | None, topic_id: bytes, refused: KafkaError) -> DeletableTopicResult:
    return DeletableTopicResult(
        name=name, topic_id=topic_id, error_code=refused.code, error_message=refused.message
    )
