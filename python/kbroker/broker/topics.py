"""The one writer of metadata: topics, partitions, dynamic configuration.

Order is what makes a crash harmless. A creation commits to the store first and makes its logs
second: after a crash between the two, `LogManager.open_all` finds partitions without a directory
and makes them. A deletion commits first too: what is left of it are directories of a topic id that
is in no image, which `open_all` sets aside as `-stray` and never serves, so nothing comes back to
life, not even under the same name. A change is visible (in `image`) before its caller is answered.

Changes run one at a time, under a lock; readers take `image` and keep it for as long as they like
(`cluster_state.py`). Changes of configuration are in `config_changes.py`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence

from kbroker.base import errors
from kbroker.base.check import invariant
from kbroker.base.errors import KafkaError
from kbroker.base.ids import is_usable_id, make_uuid
from kbroker.base.limits import PARTITIONS_PER_REQUEST_MAX
from kbroker.broker.cluster_state import tell
from kbroker.broker.config_changes import ConfigChanges
from kbroker.meta.image import NO_CONFIGS, RESERVED_NAMES, PartitionImage, TopicImage
from kbroker.meta.placement import Candidate
from kbroker.meta.topic_rules import (
    NewTopic,
    check_free,
    check_name,
    check_partition_limit,
    check_replicas,
    collision_key,
    internal_topic,
    plan_partitions,
    plan_topic,
)
from kcore.errors import CoreError
from kcore.files.names import is_valid_topic

__all__ = ["NewTopic", "Outcome", "PartitionImage", "TopicImage", "TopicService"]

log = logging.getLogger("kbroker.topics")

Outcome = TopicImage | KafkaError


class TopicService(ConfigChanges):
    """`await TopicService.open(store, config, ...)`, then `attach(services)` once logs are there.

    `image` is the cluster as of now, `answers` what was encoded from it, `config` the broker's
    configuration with the dynamic layers of the store. Methods on one topic raise KafkaError; those
    on several return one outcome each.
    """

    @staticmethod
    def check_name(name: str) -> None:
        """KafkaError with INVALID_TOPIC_EXCEPTION when no topic can be called this."""
        check_name(name)

    def check_replicas(self, index: int, replicas: Sequence[int]) -> None:
        """KafkaError with INVALID_REPLICA_ASSIGNMENT when a partition cannot have these."""
        check_replicas({index: replicas}, self._brokers(), first_partition=index)

    @staticmethod
    def is_valid_name(name: str) -> bool:
        return is_valid_topic(name)

    @staticmethod
    def is_internal_name(name: str) -> bool:
        """Names that clients cannot create."""
        return name in RESERVED_NAMES

    # Topics

    async def create_topic(
        self,
        name: str,
        partitions: int = -1,
        replication_factor: int = -1,
        assignments: Mapping[int, Sequence[int]] | None = None,
        configs: Mapping[str, str | None] = NO_CONFIGS,
        validate_only: bool = False,
    ) -> TopicImage:
        new = NewTopic(name, partitions, replication_factor, assignments, configs)
        return _only(await self.create_topics([new], validate_only=validate_only))

    async def create_topics(
        self, wanted: Sequence[NewTopic], *, validate_only: bool = False
    ) -> list[Outcome]:
        """All that can be made, in one transaction; for the others, why not."""
        async with self._lock:
            return await self._create(wanted, validate_only)

    async def ensure_topics(self, names: Iterable[str]) -> dict[str, Outcome]:
        """Topics that exist, or are made with the broker's defaults; internal ones with theirs."""
        async with self._lock:
            outcomes: dict[str, Outcome] = {}
            wanted = []
            for name in dict.fromkeys(names):
                topic = self.image.topics.get(name)
                if topic is not None:
                    outcomes[name] = topic
                    continue
                try:
                    wanted.append(self._automatic(name))
                except KafkaError as refused:
                    outcomes[name] = refused
            made = await self._create(wanted, validate_only=False)
            outcomes.update(zip((new.name for new in wanted), made, strict=True))
            return outcomes

    async def delete_topic(self, topic: str | bytes) -> TopicImage:
        """`topic` is a name or an id."""
        return _only(await self.delete_topics([topic]))

    async def delete_topics(self, topics: Sequence[str | bytes]) -> list[Outcome]:
        async with self._lock:
            outcomes = [self._deletable(topic) for topic in topics]
            doomed = {topic.name: topic for topic in outcomes if isinstance(topic, TopicImage)}
            if doomed:
                failure = await self._forget(list(doomed.values()))
                if failure is not None:
                    return [
                        failure if isinstance(outcome, TopicImage) else outcome
                        for outcome in outcomes
                    ]
            return outcomes

    async def create_partitions(
        self,
        name: str,
        count: int,
        assignments: Sequence[Sequence[int]] | None = None,
        validate_only: bool = False,
    ) -> TopicImage:
        """`count` is the number of partitions the topic is to have in all."""
        async with self._lock:
            topic = self._existing(name)
            if topic.is_internal:
                raise KafkaError(
                    errors.INVALID_TOPIC_EXCEPTION,
                    f"The number of partitions of the internal topic {name} cannot change.",
                )
            start = self._rng.below(len(self._brokers()))
            grown = plan_partitions(topic, count, assignments, self._brokers(), start=start)
            if validate_only:
                return grown
            first = len(topic.partitions)
            revision = await self._store.grow(grown, first)
            failure = await self._make_logs(grown, first_partition=first)
            if failure is not None:
                # Never attached to the image, so nobody can have written to one of them.
                await self._store.undo_grow(topic, grown)
                raise failure
            self._publish(self.image.with_topics(revision, put=[grown]))
            tell(self.on_changed)
            return grown

    # The rest is private.

    def _brokers(self) -> list[Candidate]:
        return [Candidate(self._node_id, self.config.broker_rack)]

    def _automatic(self, name: str) -> NewTopic:
        if name in RESERVED_NAMES:
            return internal_topic(name, self.config, len(self._brokers()))
        return NewTopic(name)

    async def _create(self, wanted: Sequence[NewTopic], validate_only: bool) -> list[Outcome]:
        outcomes = self._plan(wanted)
        planned = [topic for topic in outcomes if isinstance(topic, TopicImage)]
        if validate_only or not planned:
            return outcomes
        failed: dict[str, KafkaError] = {}
        try:
            revision = await self._store.create(planned)
        except KafkaError as refused:
            return [refused if isinstance(o, TopicImage) else o for o in outcomes]
        for topic in planned:
            # New logs read their configuration through `topic_config`.
            self._note_config(topic)
            failure = await self._make_logs(topic)
            if failure is not None:
                failed[topic.name] = failure
                self._configs.pop(topic.name, None)
        await self._store.undo_create([topic for topic in planned if topic.name in failed])
        made = [topic for topic in planned if topic.name not in failed]
        for topic in made:
            self._names[collision_key(topic.name)] = topic.name
        self._publish(self.image.with_topics(revision, put=made))
        if made:
            tell(self.on_changed)
        return [
            failed.get(outcome.name, outcome) if isinstance(outcome, TopicImage) else outcome
            for outcome in outcomes
        ]

    def _plan(self, wanted: Sequence[NewTopic]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        names = dict(self._names) if len(wanted) > 1 else self._names
        room = PARTITIONS_PER_REQUEST_MAX
        for new in wanted:
            try:
                check_name(new.name)
                check_free(new.name, names)
                brokers = self._brokers()
                start = self._rng.below(len(brokers))
                topic = plan_topic(new, self._new_topic_id(), self.config, brokers, start=start)
                check_partition_limit(len(topic.partitions), room)
            except KafkaError as refused:
                outcomes.append(refused)
                continue
            outcomes.append(topic)
            room -= len(topic.partitions)
            if names is not self._names:
                names[collision_key(new.name)] = new.name
        return outcomes

    def _new_topic_id(self) -> bytes:
        for _ in range(100):
            topic_id = make_uuid(self._rng.random_bytes(16))
            if is_usable_id(topic_id) and topic_id not in self.image.topics_by_id:
                return topic_id
        raise RuntimeError("the source of randomness repeats itself")

    async def _make_logs(self, topic: TopicImage, *, first_partition: int = 0) -> KafkaError | None:
        """Makes the logs of this broker's new partitions; takes them all back if one fails."""
        if self._services is None:
            return None
        logs = self._services.logs
        config = self.topic_config(topic.name)
        made: list[int] = []
        for partition in topic.partitions[first_partition:]:
            if self._node_id not in partition.replicas:
                continue
            try:
                logs.create(topic.name, partition.index, topic.topic_id, config)
            except (CoreError, OSError) as failed:
                log.error("cannot create %s-%d: %s", topic.name, partition.index, failed)
                self._delete_logs(topic.name, made)
                return KafkaError(
                    errors.KAFKA_STORAGE_ERROR,
                    f"Cannot create partition {partition.index} of {topic.name}: {failed}",
                )
            made.append(partition.index)
            # A directory takes a millisecond or so; a topic of thousands must not stop the loop.
            await asyncio.sleep(0)
        return None

    def _delete_logs(self, name: str, indexes: Iterable[int]) -> None:
        if self._services is None:
            return
        for index in indexes:
            try:
                self._services.logs.delete(name, index)
            except (CoreError, OSError) as failed:
                # The topic is gone already; its directory becomes a stray at the next start.
                log.error("cannot delete %s-%d: %s", name, index, failed)

    def _deletable(self, ref: str | bytes) -> Outcome:
        if not self.config.delete_topic_enable:
            return KafkaError(errors.TOPIC_DELETION_DISABLED)
        if isinstance(ref, str):
            topic = self.image.topics.get(ref)
            unknown = errors.UNKNOWN_TOPIC_OR_PARTITION
        else:
            topic = self.image.topics_by_id.get(ref)
            unknown = errors.UNKNOWN_TOPIC_ID
        if topic is None:
            return KafkaError(unknown)
        return topic

    async def _forget(self, doomed: Sequence[TopicImage]) -> KafkaError | None:
        """Deletes topics: store, image, logs, in this order."""
        try:
            revision = await self._store.delete(doomed)
        except KafkaError as failure:
            return failure
        self._publish(self.image.with_topics(revision, removed=[topic.name for topic in doomed]))
        for topic in doomed:
            self._names.pop(collision_key(topic.name), None)
            self._configs.pop(topic.name, None)
            self._delete_logs(topic.name, (partition.index for partition in topic.partitions))
            if self._services is not None:
                for partition in topic.partitions:
                    # Whoever waits for its records learns that there will be none.
                    self._services.purgatory.wake((topic.topic_id, partition.index))
                self._services.metrics.drop_topic(topic.name)
            await asyncio.sleep(0)
        tell(self.on_deleted, doomed)
        tell(self.on_changed)
        return None


def _only(outcomes: Sequence[Outcome]) -> TopicImage:
    invariant(len(outcomes) == 1, "one topic has one outcome")
    if isinstance(outcomes[0], KafkaError):
        raise outcomes[0]
    return outcomes[0]
