"""Opens a broker's metadata: the store, whose cluster this is, topics, producer ids.

The cluster id is in the store and, where there is a disk, in `meta.properties` beside the logs.
They must agree: logs of one cluster served under the metadata of another are mixed up for good.

A store without a cluster beside directories of partitions (a store that was moved away because it
was damaged, or a data directory of Apache Kafka) adopts those topics: names, ids and partition
counts are all in the directories; only topic configurations are not, so adopted topics keep their
records until somebody says otherwise. Producer ids go on from far above those the logs may know.
"""

from __future__ import annotations

import logging
import os
from typing import NamedTuple

from kbroker.base.config import BrokerConfig
from kbroker.base.ids import is_usable_id, make_uuid
from kbroker.base.rng import Rng
from kbroker.broker.producer_ids import ProducerIdBlocks
from kbroker.broker.topic_store import TopicStore
from kbroker.broker.topics import TopicService
from kbroker.meta import codec, keys
from kbroker.meta.image import GROUP_TOPIC, TRANSACTION_TOPIC, PartitionImage, TopicImage
from kbroker.meta.store.base import MetadataStore, Put, StoreError, absent
from kbroker.meta.store.memory import MemoryStore
from kbroker.meta.topic_rules import internal_topic
from kcore.errors import CoreError
from kcore.files.meta_properties import (
    MetaProperties,
    load_meta_properties,
    store_meta_properties,
)
from kcore.files.names import (
    KRAFT_TOPIC,
    META_PROPERTIES,
    PARTITION_METADATA,
    parse_partition_dir,
)
from kcore.files.partition_metadata import load_partition_metadata
from kcore.files.topic_ids import encode_id

log = logging.getLogger("kbroker.metadata")

METADATA_DIR = "metadata"

# How long the records of an adopted topic were meant to be kept, nobody knows any more: a default
# of a week must not delete what was to stay for ever.
ADOPTED_CONFIGS = {"retention.bytes": "-1", "retention.ms": "-1"}


class Metadata(NamedTuple):
    store: MetadataStore
    cluster_id: str
    topics: TopicService
    producer_ids: ProducerIdBlocks

    def close(self) -> None:
        self.store.close()


async def open_metadata(config: BrokerConfig, *, rng: Rng) -> Metadata:
    """Opens what `config` names; the data directory must exist and be locked by the caller.

    Raises CoreError when the directory belongs to another cluster or node, or is damaged.
    """
    if config.kcore_storage == "memory":
        store: MetadataStore = MemoryStore()
        data_dir = None
    else:
        from kbroker.meta.store.lmdb import LmdbStore  # liblmdb is not loaded for nothing

        data_dir = config.data_dir
        store = LmdbStore.open(os.path.join(data_dir, METADATA_DIR))
    try:
        cluster_id = await _settle_identity(store, data_dir, config, rng)
        topics = await TopicService.open(store, config, node_id=config.node_id, rng=rng)
    except BaseException:
        store.close()
        raise
    return Metadata(store, cluster_id, topics, ProducerIdBlocks(store))


async def _settle_identity(
    store: MetadataStore, data_dir: str | None, config: BrokerConfig, rng: Rng
) -> str:
    """The cluster's id, stored wherever it was not yet."""
    node_id = config.node_id
    on_disk = None if data_dir is None else _load_properties(data_dir, node_id)
    kv = await store.get(keys.CLUSTER)
    if kv is not None:
        cluster_id = codec.decode_cluster(kv)
        if on_disk is not None and on_disk.cluster_id not in (None, cluster_id):
            raise StoreError(
                "the data directory belongs to another cluster than its metadata",
                path=data_dir,
                expected=cluster_id,
                found=on_disk.cluster_id,
            )
    else:
        cluster_id = (on_disk and on_disk.cluster_id) or encode_id(_new_id(rng))
        if data_dir is not None:
            await _adopt(store, data_dir, config, rng)
        # Last: a crash before it starts the adoption again.
        await store.txn(
            [absent(keys.CLUSTER)], [Put(keys.CLUSTER, codec.encode_cluster(cluster_id))]
        )
    if data_dir is not None and (on_disk is None or on_disk.cluster_id is None):
        directory_id = (on_disk and on_disk.directory_id) or _new_id(rng)
        store_meta_properties(
            os.path.join(data_dir, META_PROPERTIES),
            MetaProperties(cluster_id, node_id, directory_id),
        )
    return cluster_id


def _load_properties(data_dir: str, node_id: int) -> MetaProperties | None:
    path = os.path.join(data_dir, META_PROPERTIES)
    if not os.path.exists(path):
        return None
    properties = load_meta_properties(path)
    if properties.node_id not in (None, node_id):
        raise StoreError(
            "the data directory belongs to another node (node.id)",
            path=path,
            expected=node_id,
            found=properties.node_id,
        )
    return properties


async def _adopt(store: MetadataStore, data_dir: str, config: BrokerConfig, rng: Rng) -> None:
    """Makes topics of the partition directories that are there, in a store that has none."""
    found: dict[str, dict[int, bytes | None]] = {}
    for directory in sorted(os.scandir(data_dir), key=lambda entry: entry.name):
        parsed = parse_partition_dir(directory.name)
        if parsed is None or parsed.mark or parsed.topic == KRAFT_TOPIC:
            continue
        if directory.is_dir():
            found.setdefault(parsed.topic, {})[parsed.partition] = _topic_id_in(directory)
    topics = [topic for name, ids in found.items() if (topic := _adopted(name, ids, config, rng))]
    known = {kv.key for kv in await store.range(keys.TOPICS)}
    topics = [topic for topic in topics if keys.topic_key(topic.name) not in known]
    if topics:
        log.warning(
            "no metadata beside existing logs: %d topic(s) adopted with default configurations, "
            "except retention.ms=-1 and retention.bytes=-1",
            len(topics),
        )
        # An id that the logs have seen would take a new producer's first records for repeats.
        start = (1 << 32) + rng.below(1 << 40) * 1024
        await store.txn(puts=[Put(keys.PID_BLOCK, codec.encode_pid_block(start))])
        await TopicStore(store).create(topics)


def _adopted(
    name: str, ids: dict[int, bytes | None], config: BrokerConfig, rng: Rng
) -> TopicImage | None:
    """The topic of these directories, or None when they are not one topic's."""
    topic_ids = {topic_id for topic_id in ids.values() if topic_id is not None}
    if len(topic_ids) > 1:
        log.error("topic %s is not adopted: its directories have different topic ids", name)
        return None
    topic_id = topic_ids.pop() if topic_ids else _new_id(rng)
    replicas = (config.node_id,)
    partitions = tuple(
        PartitionImage(index, config.node_id, 0, replicas, replicas)
        for index in range(max(ids) + 1)
    )
    return TopicImage(name, topic_id, partitions, _adopted_configs(name, config))


def _adopted_configs(name: str, config: BrokerConfig) -> dict[str, str]:
    """An internal topic is what its coordinator needs it to be: it would only ever grow."""
    if name not in (GROUP_TOPIC, TRANSACTION_TOPIC):
        return ADOPTED_CONFIGS
    configs = internal_topic(name, config, 1).configs
    return {key: text for key, text in configs.items() if text is not None}


def _topic_id_in(directory: os.DirEntry[str]) -> bytes | None:
    try:
        return load_partition_metadata(os.path.join(directory.path, PARTITION_METADATA)).topic_id
    except FileNotFoundError:
        return None
    except CoreError as damaged:
        log.error("%s: %s", directory.name, damaged)
        return None


def _new_id(rng: Rng) -> bytes:
    while True:
        new = make_uuid(rng.random_bytes(16))
        if is_usable_id(new):
            return new
