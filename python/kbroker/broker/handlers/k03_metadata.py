"""Metadata (3), versions 0 to 13: brokers, and topics with their partitions.

* v0 asks for all topics with an empty list; from v1 null is all and an empty list is none.
* v4: allow_auto_topic_creation. An unknown topic is created before the answer, so the first answer
  already has its partitions: no client has to come back for them.
* v8-10: authorized operations of the cluster; v8: of topics. v10: topic ids in answers;
  v12: topics asked for by id, where an unknown id is UNKNOWN_TOPIC_ID (KIP-516).
* v13: a top-level error code (KIP-1102), which one broker never needs.
* Brokers are told as the listener advertises them that the request came in by.

Answers are kept until the cluster changes, by the bytes of the request; one that created a topic is
not. What is told of a topic where all are asked for is kept until that topic changes.

ACLs: Describe on topics, Create for auto-creation.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from kbroker.base import errors
from kbroker.base.errors import KafkaError
from kbroker.broker.context import RequestContext
from kbroker.broker.operations import cluster_operations, topic_operations
from kbroker.broker.registry import handles_raw
from kbroker.broker.topic_entries import fill
from kbroker.broker.topics import Outcome, TopicImage
from kbroker.wire import apis, messages
from kbroker.wire.header import response_header
from kbroker.wire.schema.metadata import (
    MetadataRequest,
    MetadataResponse,
    MetadataResponseBroker,
    MetadataResponsePartition,
    MetadataResponseTopic,
)
from kbroker.wire.struct import ZERO_ID

_ALL_IS_NULL_FROM = 1
_IDS_FROM = 12
_NO_LEADER = -1


@handles_raw(apis.METADATA, 0, 13, pipelined=False)
def handle(
    ctx: RequestContext, frame: memoryview, pos: int
) -> list[bytes] | Coroutine[Any, Any, list[bytes]]:
    key = (ctx.api_version, ctx.listener, bytes(frame[pos:]))
    answers = ctx.services.topics.answers
    body = answers.get(key)
    if body is None:
        req = messages.decode_request(apis.METADATA, ctx.api_version, frame, pos)
        missing = _to_create(ctx, req)
        if missing:
            return _create_and_answer(ctx, req, missing)
        body = _encode(ctx, req, {})
        answers.put(key, body)
    return _framed(ctx, body)


async def _create_and_answer(
    ctx: RequestContext, req: MetadataRequest, missing: list[str]
) -> list[bytes]:
    outcomes = await ctx.services.topics.ensure_topics(missing)
    return _framed(ctx, _encode(ctx, req, outcomes))


def _to_create(ctx: RequestContext, req: MetadataRequest) -> list[str]:
    """Names that are asked for, do not exist, and may be created by asking."""
    allowed = req.allow_auto_topic_creation and ctx.services.config.auto_create_topics_enable
    if not allowed or _wants_all(ctx, req):
        return []
    existing = ctx.services.topics.image.topics
    names = [topic.name for topic in req.topics or () if topic.name and topic.topic_id == ZERO_ID]
    return [name for name in dict.fromkeys(names) if name not in existing]


def _wants_all(ctx: RequestContext, req: MetadataRequest) -> bool:
    return req.topics is None or (ctx.api_version < _ALL_IS_NULL_FROM and not req.topics)


def _encode(ctx: RequestContext, req: MetadataRequest, created: dict[str, Outcome]) -> bytes:
    services = ctx.services
    image = services.topics.image
    operations = topic_operations(req.include_topic_authorized_operations)
    everything = _wants_all(ctx, req)
    topics = [] if everything else _asked_for(ctx, req, created, operations)
    response = MetadataResponse(
        brokers=[
            MetadataResponseBroker(
                node_id=broker.node_id, host=broker.host, port=broker.port, rack=broker.rack
            )
            for broker in services.endpoints(ctx.listener)
        ],
        cluster_id=services.cluster_id,
        controller_id=services.node_id,
        topics=topics,
        cluster_authorized_operations=cluster_operations(req.include_cluster_authorized_operations),
    )
    body = messages.encode_response(apis.METADATA, ctx.api_version, response)
    if not everything:
        return body
    kept = services.topics.answers.entries
    return fill(kept, body, image.topics.values(), ctx.api_version, operations, _found)


def _asked_for(
    ctx: RequestContext, req: MetadataRequest, created: dict[str, Outcome], operations: int
) -> list[MetadataResponseTopic]:
    """One entry for each distinct topic of the request, in its order."""
    image = ctx.services.topics.image
    entries: dict[str | bytes, MetadataResponseTopic] = {}
    for asked in req.topics or ():
        name, topic_id = asked.name, asked.topic_id
        if ctx.api_version < _IDS_FROM and (name is None or topic_id != ZERO_ID):
            # v10 and v11 have the fields and forbid their use.
            entries.setdefault(
                name or topic_id,
                _failed(errors.INVALID_REQUEST, name=name or "", topic_id=topic_id),
            )
        elif topic_id != ZERO_ID:
            topic = image.topics_by_id.get(topic_id)
            if topic is None:
                entries[topic_id] = _failed(errors.UNKNOWN_TOPIC_ID, topic_id=topic_id)
            else:
                entries[topic.name] = _found(topic, operations)
        elif name is None:
            entries[""] = _failed(errors.INVALID_TOPIC_EXCEPTION, name="")
        elif name not in entries:
            topic = image.topics.get(name)
            if topic is not None:
                entries[name] = _found(topic, operations)
            else:
                entries[name] = _failed(_why_missing(ctx, name, created), name=name)
    return list(entries.values())


def _why_missing(ctx: RequestContext, name: str, created: dict[str, Outcome]) -> int:
    outcome = created.get(name)
    if isinstance(outcome, KafkaError):
        return outcome.code
    if not ctx.services.topics.is_valid_name(name):
        return errors.INVALID_TOPIC_EXCEPTION
    return errors.UNKNOWN_TOPIC_OR_PARTITION


def _found(topic: TopicImage, operations: int) -> MetadataResponseTopic:
    return MetadataResponseTopic(
        name=topic.name,
        topic_id=topic.topic_id,
        is_internal=topic.is_internal,
        partitions=[
            MetadataResponsePartition(
                error_code=(
                    errors.LEADER_NOT_AVAILABLE if partition.leader == _NO_LEADER else errors.NONE
                ),
                partition_index=partition.index,
                leader_id=partition.leader,
                leader_epoch=partition.leader_epoch,
                replica_nodes=list(partition.replicas),
                isr_nodes=list(partition.isr),
            )
            for partition in topic.partitions
        ],
        topic_authorized_operations=operations,
    )


def _failed(
    error_code: int, *, name: str | None = None, topic_id: bytes = ZERO_ID
) -> MetadataResponseTopic:
    return MetadataResponseTopic(error_code=error_code, name=name, topic_id=topic_id)


def _framed(ctx: RequestContext, body: bytes) -> list[bytes]:
    header = response_header(apis.METADATA, ctx.api_version, ctx.correlation_id)
    return [(len(header) + len(body)).to_bytes(4, "big") + header + body]
