"""k19_create_topics: requests in, one result for each name out."""

from __future__ import annotations

from typing import Any

import pytest
from kbroker.base import errors
from kbroker.wire import apis
from kbroker.wire.schema.create_topics import (
    CreatableReplicaAssignment,
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
)
from kbroker.wire.struct import ZERO_ID

from tests.broker.admin_support import Admin, run


def topic(name: str, partitions: int = 1, replicas: int = 1, **configs: str) -> CreatableTopic:
    return CreatableTopic(
        name=name,
        num_partitions=partitions,
        replication_factor=replicas,
        configs=[
            CreatableTopicConfig(name=key.replace("_", "."), value=value)
            for key, value in configs.items()
        ],
    )


async def create(admin: Admin, version: int, *topics: CreatableTopic, **options: Any) -> Any:
    request = CreateTopicsRequest(topics=list(topics), **options)
    return (await admin.call(apis.CREATE_TOPICS, version, request)).topics


@pytest.mark.parametrize("version", range(2, 8))
def test_created(version: int) -> None:
    async def test() -> None:
        admin = await Admin.open()
        one, two = await create(admin, version, topic("a", 3, retention_ms="5"), topic("b"))
        assert (one.name, one.error_code, one.error_message) == ("a", 0, None)
        assert two.error_code == errors.NONE
        image = admin.topics.image.topics
        assert len(image["a"].partitions) == 3 and len(admin.logs.ids) == 4
        if version >= 5:
            assert (one.num_partitions, one.replication_factor) == (3, 1)
            configs = {config.name: config for config in one.configs}
            retention = configs["retention.ms"]
            assert (retention.value, retention.config_source) == ("5", 1)
            assert configs["segment.bytes"].config_source == 5
        if version >= 7:
            assert one.topic_id == image["a"].topic_id

    run(test)


def test_defaults_and_assignments() -> None:
    async def test() -> None:
        admin = await Admin.open({"num.partitions": "4"})
        assigned = topic("m", -1, -1)
        assigned.assignments = [
            CreatableReplicaAssignment(partition_index=index, broker_ids=[1]) for index in (1, 0)
        ]
        default, manual = await create(admin, 7, topic("d", -1, -1), assigned)
        assert (default.num_partitions, manual.num_partitions) == (4, 2)
        twice = topic("t", -1, -1)
        twice.assignments = [CreatableReplicaAssignment(partition_index=0, broker_ids=[1])] * 2
        (result,) = await create(admin, 7, twice)
        assert result.error_code == errors.INVALID_REPLICA_ASSIGNMENT

    run(test)


def test_each_failure_is_its_own() -> None:
    async def test() -> None:
        admin = await Admin.open()
        results = await create(
            admin,
            7,
            topic("good"),
            topic("twice"),
            topic("..", 1),
            topic("__consumer_offsets"),
            topic("__cluster_metadata"),
            topic("rf", 1, 3),
            topic("count", 0),
            topic("config", retention_ms="never"),
            topic("twice"),
        )
        assert {result.name: result.error_code for result in results} == {
            "good": errors.NONE,
            "twice": errors.INVALID_REQUEST,
            "..": errors.INVALID_TOPIC_EXCEPTION,
            "__consumer_offsets": errors.INVALID_REQUEST,
            "__cluster_metadata": errors.INVALID_REQUEST,
            "rf": errors.INVALID_REPLICATION_FACTOR,
            "count": errors.INVALID_PARTITIONS,
            "config": errors.INVALID_CONFIG,
        }
        assert len(results) == 8
        assert all(result.error_message for result in results if result.error_code)
        assert list(admin.topics.image.topics) == ["good"]
        (again,) = await create(admin, 2, topic("good"))
        assert again.error_code == errors.TOPIC_ALREADY_EXISTS

    run(test)


def test_a_key_given_twice_or_null_is_an_invalid_config() -> None:
    async def test() -> None:
        admin = await Admin.open()
        twice = topic("a")
        twice.configs = [CreatableTopicConfig(name="retention.ms", value=v) for v in ("1", "2")]
        null = topic("b")
        null.configs = [CreatableTopicConfig(name="retention.ms", value=None)]
        results = await create(admin, 7, twice, null)
        assert [result.error_code for result in results] == [errors.INVALID_CONFIG] * 2

    run(test)


def test_validate_only() -> None:
    async def test() -> None:
        admin = await Admin.open()
        (result,) = await create(admin, 7, topic("a", 3, retention_ms="5"), validate_only=True)
        assert (result.error_code, result.num_partitions, result.topic_id) == (0, 3, ZERO_ID)
        configs = {config.name: config.value for config in result.configs}
        assert configs["retention.ms"] == "5"
        assert not admin.topics.image.topics and not admin.logs.ids

    run(test)
