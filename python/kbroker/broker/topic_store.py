"""Topics as transactions of the metadata store: which keys, compared with what, and what a refusal
of the store means to a client."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

from kbroker.base import errors
from kbroker.base.errors import KafkaError
from kbroker.meta import codec, keys
from kbroker.meta.image import TopicImage
from kbroker.meta.store.base import (
    Compare,
    KeyValue,
    MetadataStore,
    Put,
    StoreError,
    absent,
    unchanged,
)

log = logging.getLogger("kbroker.topics")


class TopicStore:
    """Every method that writes returns the revision, and raises KafkaError when nothing was."""

    def __init__(self, store: MetadataStore) -> None:
        self._store = store

    async def read_all(self) -> tuple[list[KeyValue], int]:
        """Everything there is, and the revision it is of."""
        return await self._store.range(b""), self._store.revision

    async def create(self, topics: Sequence[TopicImage]) -> int:
        return await self._commit(
            [absent(keys.topic_key(topic.name)) for topic in topics],
            [put for topic in topics for put in _puts(topic)],
        )

    async def delete(self, topics: Sequence[TopicImage]) -> int:
        compare = [unchanged(await self._header(topic)) for topic in topics]
        return await self._commit(compare, deletes=_keys(topics))

    async def grow(self, topic: TopicImage, first_partition: int) -> int:
        """Stores the partitions from `first_partition` on, which are new."""
        compare = [unchanged(await self._header(topic))]
        return await self._commit(compare, _puts(topic, first_partition=first_partition))

    async def configure(self, topic: TopicImage) -> int:
        put = Put(keys.topic_key(topic.name), codec.encode_topic(topic))
        return await self._commit([unchanged(await self._header(topic))], [put])

    async def configure_broker(self, name: str, put: bytes) -> int:
        return await self._commit([], [Put(keys.broker_config_key(name), put)])

    async def configure_group(self, group_id: str, configs: Mapping[str, str]) -> int:
        """Without configurations nothing is left of the group."""
        key = keys.group_config_key(group_id)
        if not configs:
            return await self._commit([], deletes=[key])
        return await self._commit([], [Put(key, codec.encode_group_configs(group_id, configs))])

    async def undo_create(self, topics: Sequence[TopicImage]) -> None:
        """Takes back a creation whose logs could not be made. Never raises: the worst that is left
        is topics that the next start makes logs for."""
        if topics:
            await self._undo([], _keys(topics))

    async def undo_grow(self, before: TopicImage, grown: TopicImage) -> None:
        added = grown.partitions[len(before.partitions) :]
        await self._undo(
            [Put(keys.topic_key(before.name), codec.encode_topic(before))],
            [keys.partition_key(before.topic_id, partition.index) for partition in added],
        )

    async def _header(self, topic: TopicImage) -> KeyValue:
        kv = await self._store.get(keys.topic_key(topic.name))
        if kv is None:
            raise KafkaError(errors.UNKNOWN_TOPIC_OR_PARTITION)
        return kv

    async def _commit(
        self,
        compare: Sequence[Compare],
        puts: Sequence[Put] = (),
        deletes: Sequence[bytes] = (),
    ) -> int:
        try:
            result = await self._store.txn(compare, puts, deletes)
        except StoreError as failed:
            log.error("metadata not stored: %s", failed)
            raise KafkaError(
                errors.KAFKA_STORAGE_ERROR, f"The metadata could not be stored: {failed}"
            ) from failed
        if not result.succeeded:
            raise KafkaError(
                errors.INVALID_UPDATE_VERSION, "The metadata was changed by somebody else."
            )
        return result.revision

    async def _undo(self, puts: Sequence[Put], deletes: Sequence[bytes]) -> None:
        try:
            await self._commit([], puts, deletes)
        except KafkaError as failed:
            log.error("a failed creation could not be undone: %s", failed)


def _puts(topic: TopicImage, *, first_partition: int = 0) -> list[Put]:
    """The topic's own key comes last: it is what makes the topic exist."""
    puts = [
        Put(keys.partition_key(topic.topic_id, partition.index), codec.encode_partition(partition))
        for partition in topic.partitions[first_partition:]
    ]
    return [*puts, Put(keys.topic_key(topic.name), codec.encode_topic(topic))]


def _keys(topics: Iterable[TopicImage]) -> list[bytes]:
    found = []
    for topic in topics:
        found.append(keys.topic_key(topic.name))
        found += [keys.partition_key(topic.topic_id, p.index) for p in topic.partitions]
    return found
