"""What the cluster is at one revision: immutable, so that a handler answers from one state.

A change makes a new image that shares everything it did not touch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, TypeVar

from kbroker.meta.layered import Layered

GROUP_TOPIC = "__consumer_offsets"
TRANSACTION_TOPIC = "__transaction_state"
SHARE_TOPIC = "__share_group_state"
INTERNAL_TOPICS = frozenset({GROUP_TOPIC, TRANSACTION_TOPIC, SHARE_TOPIC})
# Names that clients cannot create topics under: KRaft's own log is no topic, and stays none.
RESERVED_NAMES = INTERNAL_TOPICS | {"__cluster_metadata"}

NO_LEADER = -1
K = TypeVar("K")
NO_CONFIGS: Mapping[str, str] = MappingProxyType({})


class PartitionImage:
    """`leader` is NO_LEADER when there is none; the first replica is the preferred leader."""

    __slots__ = ("index", "isr", "leader", "leader_epoch", "replicas")

    def __init__(
        self,
        index: int,
        leader: int,
        leader_epoch: int,
        replicas: tuple[int, ...],
        isr: tuple[int, ...],
    ) -> None:
        self.index = index
        self.leader = leader
        self.leader_epoch = leader_epoch
        self.replicas = replicas
        self.isr = isr

    def __repr__(self) -> str:
        return f"PartitionImage({self.index}, leader={self.leader}, replicas={self.replicas})"


class TopicImage(NamedTuple):
    """`partitions` is indexed by partition; `configs` holds overrides only, as text."""

    name: str
    topic_id: bytes
    partitions: tuple[PartitionImage, ...]
    configs: Mapping[str, str] = NO_CONFIGS

    @property
    def is_internal(self) -> bool:
        return self.name in INTERNAL_TOPICS


class ClusterImage(NamedTuple):
    """`version` is the store's revision. `broker_configs` has "" for what holds for all brokers,
    `group_configs` the groups with a configuration of their own, whether they exist or not."""

    cluster_id: str = ""
    version: int = 0
    topics: Mapping[str, TopicImage] = MappingProxyType({})
    topics_by_id: Mapping[bytes, TopicImage] = MappingProxyType({})
    broker_configs: Mapping[str, Mapping[str, str]] = MappingProxyType({})
    group_configs: Mapping[str, Mapping[str, str]] = MappingProxyType({})

    @classmethod
    def of(
        cls,
        cluster_id: str,
        version: int,
        topics: Iterable[TopicImage],
        broker_configs: Mapping[str, Mapping[str, str]],
        group_configs: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
    ) -> ClusterImage:
        by_name = {topic.name: topic for topic in sorted(topics, key=lambda topic: topic.name)}
        by_id = {topic.topic_id: topic for topic in by_name.values()}
        return cls(
            cluster_id, version, Layered(by_name), Layered(by_id),
            dict(broker_configs), dict(group_configs),
        )  # fmt: skip

    def with_topics(
        self, version: int, *, put: Sequence[TopicImage] = (), removed: Sequence[str] = ()
    ) -> ClusterImage:
        """The next image, in which `put` are there as given and `removed` are not."""
        names = [*removed, *(topic.name for topic in put)]
        ids = [old.topic_id for name in names if (old := self.topics.get(name)) is not None]
        by_name = _layered(self.topics).changed(names, [(topic.name, topic) for topic in put])
        by_id = _layered(self.topics_by_id).changed(ids, [(topic.topic_id, topic) for topic in put])
        return self._replace(version=version, topics=by_name, topics_by_id=by_id)

    def with_broker_config(
        self, version: int, name: str, configs: Mapping[str, str]
    ) -> ClusterImage:
        changed = {**self.broker_configs, name: MappingProxyType(dict(configs))}
        return self._replace(version=version, broker_configs=changed)

    def with_group_config(
        self, version: int, group_id: str, configs: Mapping[str, str]
    ) -> ClusterImage:
        changed = dict(self.group_configs)
        changed.pop(group_id, None)
        if configs:
            changed[group_id] = MappingProxyType(dict(configs))
        return self._replace(version=version, group_configs=changed)

    def partition(self, topic: str, index: int) -> PartitionImage | None:
        """None when there is no such topic or partition."""
        found = self.topics.get(topic)
        if found is None or not 0 <= index < len(found.partitions):
            return None
        return found.partitions[index]


def _layered(topics: Mapping[K, TopicImage]) -> Layered[K, TopicImage]:
    return topics if isinstance(topics, Layered) else Layered(dict(topics))
