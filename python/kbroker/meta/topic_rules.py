"""What a topic must be: names, counts, assignments, configurations. Pure functions.

Every refusal is a KafkaError whose message names the topic's fault as a user can mend it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from kbroker.base import errors
from kbroker.base.config import BrokerConfig, ConfigError, TopicConfig
from kbroker.base.errors import KafkaError
from kbroker.base.limits import PARTITIONS_PER_REQUEST_MAX
from kbroker.meta.image import (
    GROUP_TOPIC,
    NO_CONFIGS,
    TRANSACTION_TOPIC,
    PartitionImage,
    TopicImage,
)
from kbroker.meta.placement import Candidate, check_assignments, place
from kcore.files.names import TOPIC_CHARS_MAX, is_valid_topic

USE_DEFAULT = -1
_NAME_SHOWN_MAX = 64


class NewTopic(NamedTuple):
    """A topic as somebody asks for it. USE_DEFAULT counts take the broker's defaults."""

    name: str
    partition_count: int = USE_DEFAULT
    replication_factor: int = USE_DEFAULT
    assignments: Mapping[int, Sequence[int]] | None = None
    configs: Mapping[str, str | None] = NO_CONFIGS


def check_name(name: str) -> None:
    if is_valid_topic(name):
        return
    if not name:
        why = "it is empty"
    elif name in (".", ".."):
        why = "'.' and '..' are not allowed"
    elif len(name) > TOPIC_CHARS_MAX:
        why = f"it has {len(name)} characters, {TOPIC_CHARS_MAX} are allowed"
    else:
        why = "only ASCII letters, digits, '.', '_' and '-' are allowed"
    shown = name if len(name) <= _NAME_SHOWN_MAX else name[:_NAME_SHOWN_MAX] + "..."
    raise KafkaError(errors.INVALID_TOPIC_EXCEPTION, f"Topic name {shown!a} is invalid: {why}.")


def collision_key(name: str) -> str:
    """Topics with equal keys cannot both exist: Kafka's metric names make '.' and '_' the same."""
    return name.replace(".", "_")


def check_free(name: str, taken: Mapping[str, str]) -> None:
    """`taken`: the names there are, by their collision keys."""
    holder = taken.get(collision_key(name))
    if holder == name:
        raise KafkaError(errors.TOPIC_ALREADY_EXISTS, f"Topic '{name}' already exists.")
    if holder is not None:
        raise KafkaError(
            errors.INVALID_TOPIC_EXCEPTION,
            f"Topic '{name}' collides with existing topic: {holder}.",
        )


def plan_topic(
    new: NewTopic,
    topic_id: bytes,
    config: BrokerConfig,
    brokers: Sequence[Candidate],
    *,
    start: int = 0,
) -> TopicImage:
    """The topic that `new` asks for, with its replicas placed."""
    configs = _checked_configs(config, new.configs)
    if new.assignments:
        replicas = _manual_replicas(new, brokers)
    else:
        replicas = _placed_replicas(new, config, brokers, start)
    partitions = tuple(_new_partition(index, chosen) for index, chosen in enumerate(replicas))
    return TopicImage(new.name, topic_id, partitions, configs)


def plan_partitions(
    topic: TopicImage,
    count: int,
    assignments: Sequence[Sequence[int]] | None,
    brokers: Sequence[Candidate],
    *,
    start: int = 0,
) -> TopicImage:
    """`topic` with `count` partitions in all; the new ones as assigned, or placed."""
    current = len(topic.partitions)
    if count <= current:
        raise KafkaError(
            errors.INVALID_PARTITIONS,
            f"The topic {topic.name} currently has {current} partition(s); {count} would not be "
            "an increase.",
        )
    added = count - current
    check_partition_limit(added)
    replication_factor = len(topic.partitions[0].replicas)
    if assignments is None:
        _check_enough_brokers(replication_factor, brokers)
        replicas = place(added, replication_factor, brokers, start=start, first_partition=current)
    else:
        if len(assignments) != added:
            raise KafkaError(
                errors.INVALID_REPLICA_ASSIGNMENT,
                f"{added} partition(s) are to be added, but {len(assignments)} assignment(s) were "
                "given.",
            )
        by_index = {current + index: chosen for index, chosen in enumerate(assignments)}
        check_replicas(by_index, brokers, first_partition=current)
        if len(assignments[0]) != replication_factor:
            raise KafkaError(
                errors.INVALID_REPLICA_ASSIGNMENT,
                f"The topic has {replication_factor} replica(s) for each partition, the "
                f"assignment {len(assignments[0])}.",
            )
        replicas = [tuple(chosen) for chosen in assignments]
    new = tuple(_new_partition(current + index, chosen) for index, chosen in enumerate(replicas))
    return TopicImage(topic.name, topic.topic_id, topic.partitions + new, topic.configs)


def internal_topic(name: str, config: BrokerConfig, live_count: int) -> NewTopic:
    """An internal topic as its coordinator needs it; replicas are what there are brokers for."""
    if name == GROUP_TOPIC:
        return NewTopic(
            name,
            config.offsets_topic_num_partitions,
            min(config.offsets_topic_replication_factor, live_count),
            configs={
                "cleanup.policy": "compact",
                "compression.type": "producer",
                "segment.bytes": str(config.offsets_topic_segment_bytes),
            },
        )
    if name == TRANSACTION_TOPIC:
        replication_factor = min(config.transaction_state_log_replication_factor, live_count)
        return NewTopic(
            name,
            config.transaction_state_log_num_partitions,
            replication_factor,
            configs={
                "cleanup.policy": "compact",
                "compression.type": "uncompressed",
                "min.insync.replicas": str(
                    min(config.transaction_state_log_min_isr, replication_factor)
                ),
                "segment.bytes": str(config.transaction_state_log_segment_bytes),
                "unclean.leader.election.enable": "false",
            },
        )
    raise KafkaError(errors.INVALID_TOPIC_EXCEPTION, f"The internal topic {name} is not supported.")


def checked_topic_config(config: BrokerConfig, overrides: Mapping[str, str]) -> TopicConfig:
    """The configuration of a topic with these overrides, or INVALID_CONFIG with the reason."""
    try:
        return TopicConfig(config, overrides)
    except ConfigError as wrong:
        raise KafkaError(errors.INVALID_CONFIG, str(wrong)) from None


def check_replicas(
    assignments: Mapping[int, Sequence[int]],
    brokers: Sequence[Candidate],
    *,
    first_partition: int = 0,
) -> None:
    """INVALID_REPLICA_ASSIGNMENT unless these are replicas that partitions can have."""
    live = [broker.node_id for broker in brokers]
    wrong = check_assignments(assignments, live, first_partition=first_partition)
    if wrong is not None:
        raise KafkaError(
            errors.INVALID_REPLICA_ASSIGNMENT, f"The replica assignment is invalid: {wrong}."
        )


def check_partition_limit(count: int, room: int = PARTITIONS_PER_REQUEST_MAX) -> None:
    """`room`: how many more partitions this request may make."""
    if count > room:
        raise KafkaError(
            errors.POLICY_VIOLATION,
            f"More than {PARTITIONS_PER_REQUEST_MAX} partitions in one request.",
        )


def _checked_configs(config: BrokerConfig, configs: Mapping[str, str | None]) -> Mapping[str, str]:
    if not configs:
        return NO_CONFIGS
    given: dict[str, str] = {}
    for name, text in configs.items():
        if text is None:
            raise KafkaError(errors.INVALID_CONFIG, f"Null value not supported for {name}.")
        given[name] = text
    return checked_topic_config(config, given).overrides


def _manual_replicas(new: NewTopic, brokers: Sequence[Candidate]) -> list[tuple[int, ...]]:
    assignments = new.assignments or {}
    for what, count in (
        ("number of partitions", new.partition_count),
        ("replication factor", new.replication_factor),
    ):
        if count != USE_DEFAULT:
            raise KafkaError(
                errors.INVALID_REQUEST,
                f"A manual partition assignment was given, so the {what} must be -1.",
            )
    check_partition_limit(len(assignments))
    check_replicas(assignments, brokers)
    return [tuple(assignments[index]) for index in range(len(assignments))]


def _placed_replicas(
    new: NewTopic, config: BrokerConfig, brokers: Sequence[Candidate], start: int
) -> list[tuple[int, ...]]:
    count, replication_factor = new.partition_count, new.replication_factor
    if count == USE_DEFAULT:
        count = config.num_partitions
    if replication_factor == USE_DEFAULT:
        replication_factor = config.default_replication_factor
    if count < 1:
        raise KafkaError(
            errors.INVALID_PARTITIONS, f"Number of partitions must be at least 1, not {count}."
        )
    check_partition_limit(count)
    if replication_factor < 1:
        raise KafkaError(
            errors.INVALID_REPLICATION_FACTOR,
            f"Replication factor must be at least 1, not {replication_factor}.",
        )
    _check_enough_brokers(replication_factor, brokers)
    return place(count, replication_factor, brokers, start=start)


def _check_enough_brokers(replication_factor: int, brokers: Sequence[Candidate]) -> None:
    if replication_factor > len(brokers):
        raise KafkaError(
            errors.INVALID_REPLICATION_FACTOR,
            f"Replication factor {replication_factor} cannot be reached: {len(brokers)} broker(s) "
            "are alive.",
        )


def _new_partition(index: int, replicas: Sequence[int]) -> PartitionImage:
    chosen = tuple(replicas)
    return PartitionImage(index, chosen[0], 0, chosen, chosen)
