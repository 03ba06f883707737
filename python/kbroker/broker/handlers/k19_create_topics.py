"""CreateTopics (19), versions 2 to 7.

* v4: a count of -1 takes the broker's default (KIP-464). v5: the answer has counts and
  configurations (KIP-525). v7: topic ids.
* Topics that can be created are created in one transaction and are visible, with their logs,
  before the answer; `timeout_ms` has nothing to wait for. `validate_only` does all but create.
* A name that the request has twice is INVALID_REQUEST, once.

ACLs: Create on the cluster or the topic; DescribeConfigs for the configurations of the answer.
"""

from __future__ import annotations

from collections import Counter

from kbroker.base import errors
from kbroker.base.errors import KafkaError
from kbroker.broker.context import RequestContext
from kbroker.broker.registry import handles
from kbroker.broker.topics import NewTopic, TopicImage
from kbroker.wire import apis
from kbroker.wire.schema.create_topics import (
    CreatableTopic,
    CreatableTopicConfigs,
    CreatableTopicResult,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from kbroker.wire.struct import ZERO_ID


@handles(apis.CREATE_TOPICS, 2, 7)
async def handle(ctx: RequestContext, req: CreateTopicsRequest) -> CreateTopicsResponse:
    topics = ctx.services.topics
    results: dict[str, CreatableTopicResult] = {}
    wanted: list[NewTopic] = []
    times = Counter(topic.name for topic in req.topics)
    for asked in req.topics:
        try:
            if times[asked.name] > 1:
                raise KafkaError(errors.INVALID_REQUEST, "Duplicate topic name.")
            if topics.is_internal_name(asked.name):
                raise KafkaError(
                    errors.INVALID_REQUEST,
                    f"Creation of internal topic {asked.name} is prohibited.",
                )
            new = _new_topic(asked)
        except KafkaError as refused:
            results[asked.name] = _failure(asked.name, refused)
        else:
            wanted.append(new)
    outcomes = await topics.create_topics(wanted, validate_only=req.validate_only)
    for new, outcome in zip(wanted, outcomes, strict=True):
        if isinstance(outcome, KafkaError):
            results[new.name] = _failure(new.name, outcome)
        else:
            results[new.name] = _success(ctx, outcome, created=not req.validate_only)
    return CreateTopicsResponse(topics=[results[name] for name in times])


def _new_topic(asked: CreatableTopic) -> NewTopic:
    assignments = {entry.partition_index: entry.broker_ids for entry in asked.assignments}
    if len(assignments) != len(asked.assignments):
        raise KafkaError(
            errors.INVALID_REPLICA_ASSIGNMENT, "A partition is assigned more than once."
        )
    configs = {config.name: config.value for config in asked.configs}
    if len(configs) != len(asked.configs):
        raise KafkaError(errors.INVALID_CONFIG, "A configuration key is given more than once.")
    return NewTopic(
        asked.name, asked.num_partitions, asked.replication_factor, assignments or None, configs
    )


def _success(ctx: RequestContext, topic: TopicImage, *, created: bool) -> CreatableTopicResult:
    return CreatableTopicResult(
        name=topic.name,
        topic_id=topic.topic_id if created else ZERO_ID,
        error_message=None,
        num_partitions=len(topic.partitions),
        replication_factor=len(topic.partitions[0].replicas),
        configs=[
            CreatableTopicConfigs(
                name=entry.name,
                value=entry.value,
                read_only=entry.read_only,
                config_source=entry.source,
                is_sensitive=entry.sensitive,
            )
            for entry in ctx.services.topics.planned_config(topic).describe()
        ],
    )


def _failure(name: str, refused: KafkaError) -> CreatableTopicResult:
    return CreatableTopicResult(name=name, error_code=refused.code, error_message=refused.message)
