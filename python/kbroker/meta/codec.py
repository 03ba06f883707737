"""Values of the metadata store: JSON objects, and the image that all of them together make.

Readers ignore members they do not know, so that an older broker can run beside a newer one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

from kbroker.meta import keys
from kbroker.meta.image import ClusterImage, PartitionImage, TopicImage
from kbroker.meta.store.base import KeyValue, StoreDamaged
from kcore.files.topic_ids import decode_id, encode_id

T = TypeVar("T")


def _encode(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode("ascii")


def encode_cluster(cluster_id: str) -> bytes:
    return _encode({"id": cluster_id})


def decode_cluster(kv: KeyValue) -> str:
    return _read(kv, lambda value: str(value["id"]))


def encode_pid_block(next_producer_id: int) -> bytes:
    return _encode({"next": next_producer_id})


def decode_pid_block(kv: KeyValue) -> int:
    return _read(kv, lambda value: int(value["next"]))


def encode_topic(topic: TopicImage) -> bytes:
    return _encode(
        {
            "id": encode_id(topic.topic_id),
            "partitions": len(topic.partitions),
            "configs": dict(topic.configs),
        }
    )


def encode_partition(partition: PartitionImage) -> bytes:
    return _encode(
        {
            "replicas": partition.replicas,
            "isr": partition.isr,
            "leader": partition.leader,
            "leader_epoch": partition.leader_epoch,
        }
    )


def encode_configs(configs: Mapping[str, str]) -> bytes:
    return _encode(dict(configs))


def encode_group_configs(group_id: str, configs: Mapping[str, str]) -> bytes:
    return _encode({"group": group_id, "configs": dict(configs)})


def load_image(stored: Sequence[KeyValue], version: int) -> ClusterImage:
    """The image of everything in a store; StoreDamaged when it does not fit together.

    A partition without its topic is what a creation left that did not get to the end: ignored.
    """
    cluster_id = ""
    headers: list[tuple[str, bytes, int, Mapping[str, str]]] = []
    partitions: dict[tuple[bytes, int], KeyValue] = {}
    broker_configs: dict[str, Mapping[str, str]] = {}
    group_configs: dict[str, Mapping[str, str]] = {}
    for kv in stored:
        if kv.key.startswith(keys.PARTITIONS):
            partitions[_parse_key(kv, keys.parse_partition_key)] = kv
        elif kv.key.startswith(keys.TOPICS):
            name = _parse_key(kv, keys.parse_topic_key)
            headers.append((name, *_read(kv, _topic_header)))
        elif kv.key.startswith(keys.BROKER_CONFIGS):
            broker_configs[_parse_key(kv, keys.parse_broker_config_key)] = _read(kv, _configs)
        elif kv.key.startswith(keys.GROUP_CONFIGS):
            group_id, configs = _read(kv, _group_configs)
            group_configs[group_id] = configs
        elif kv.key == keys.CLUSTER:
            cluster_id = decode_cluster(kv)
    topics = []
    for name, topic_id, count, configs in headers:
        found = []
        for index in range(count):
            stored_partition = partitions.get((topic_id, index))
            if stored_partition is None:
                raise StoreDamaged(f"partition {index} of topic {name} is missing")
            found.append(_read_partition(stored_partition, index))
        topics.append(TopicImage(name, topic_id, tuple(found), configs))
    return ClusterImage.of(cluster_id, version, topics, broker_configs, group_configs)


def _topic_header(value: Any) -> tuple[bytes, int, Mapping[str, str]]:
    return decode_id(value["id"]), int(value["partitions"]), _configs(value["configs"])


def _configs(value: Any) -> Mapping[str, str]:
    return MappingProxyType({str(name): str(text) for name, text in value.items()})


def _group_configs(value: Any) -> tuple[str, Mapping[str, str]]:
    return str(value["group"]), _configs(value["configs"])


def _read_partition(kv: KeyValue, index: int) -> PartitionImage:
    return _read(
        kv,
        lambda value: PartitionImage(
            index,
            int(value["leader"]),
            int(value["leader_epoch"]),
            tuple(int(node_id) for node_id in value["replicas"]),
            tuple(int(node_id) for node_id in value["isr"]),
        ),
    )


def _read(kv: KeyValue, decode: Callable[[Any], T]) -> T:
    try:
        return decode(json.loads(kv.value))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as wrong:
        raise StoreDamaged(f"the metadata under {kv.key!r} cannot be read: {wrong!r}") from None


def _parse_key(kv: KeyValue, parse: Callable[[bytes], T]) -> T:
    try:
        return parse(kv.key)
    except ValueError:
        raise StoreDamaged(f"the metadata key {kv.key!r} cannot be read") from None
