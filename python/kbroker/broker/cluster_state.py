"""What a broker knows of its cluster: the image, the configurations that follow from it, and who
wants to hear of changes.

Readers take `image` and keep it for as long as they like. Only the classes above this one change
it, one change at a time, under `_lock`, and in this order: the store, the image, the logs, the
listeners, then the answer to whoever asked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Self

from kbroker.base import errors
from kbroker.base.config import BrokerConfig, GroupConfig, TopicConfig
from kbroker.base.errors import KafkaError
from kbroker.base.rng import Rng
from kbroker.broker.answers import AnswerCache
from kbroker.broker.topic_store import TopicStore
from kbroker.meta import codec
from kbroker.meta.image import NO_CONFIGS, ClusterImage, TopicImage
from kbroker.meta.store.base import MetadataStore
from kbroker.meta.topic_rules import collision_key

if TYPE_CHECKING:
    from kbroker.broker.services import Services

log = logging.getLogger("kbroker.topics")


class ClusterState:
    """`image` is the cluster as of now, `answers` what was encoded from it, `config` the broker's
    configuration with the dynamic layers of the store."""

    def __init__(self, store: MetadataStore, config: BrokerConfig, node_id: int, rng: Rng) -> None:
        self.config = config
        self.answers = AnswerCache()
        # Plain calls, made when the change can be seen and before its caller is answered:
        # the topics that went; topics or partitions came or went; the group that was configured;
        # the broker's new configuration.
        self.on_deleted: list[Callable[[Sequence[TopicImage]], None]] = []
        self.on_changed: list[Callable[[], None]] = []
        self.on_group_config: list[Callable[[str], None]] = []
        self.on_broker_config: list[Callable[[BrokerConfig], None]] = []
        self._image = ClusterImage()
        self._store = TopicStore(store)
        self._node_id = node_id
        self._rng = rng
        self._services: Services | None = None
        self._lock = asyncio.Lock()
        self._names: dict[str, str] = {}  # collision key -> name
        self._configs: dict[str, TopicConfig] = {}  # of topics with overrides
        self._group_configs: dict[str, GroupConfig] = {}  # of groups with overrides
        self._inherited = TopicConfig.of_stored(config, NO_CONFIGS)
        self._group_inherited = GroupConfig.of_stored(config, NO_CONFIGS)

    @classmethod
    async def open(
        cls, store: MetadataStore, config: BrokerConfig, *, node_id: int, rng: Rng
    ) -> Self:
        state = cls(store, config, node_id, rng)
        await state._load()
        return state

    @property
    def image(self) -> ClusterImage:
        return self._image

    def attach(self, services: Services) -> None:
        """From here on changes reach the logs, and `services.config` follows."""
        self._services = services

    def topic_config(self, name: str) -> TopicConfig:
        """The configuration of a topic that is in `image`."""
        return self._configs.get(name, self._inherited)

    def planned_config(self, topic: TopicImage) -> TopicConfig:
        """The configuration of a topic that may only have been validated."""
        return TopicConfig.of_stored(self.config, topic.configs)

    def group_config(self, group_id: str) -> GroupConfig:
        """The configuration of any group, whether it exists or not."""
        return self._group_configs.get(group_id, self._group_inherited)

    async def _load(self) -> None:
        self._publish(codec.load_image(*await self._store.read_all()))
        broker_configs = self.image.broker_configs
        config, ignored = self.config.with_stored(
            dynamic_default=broker_configs.get("", NO_CONFIGS),
            dynamic_broker=broker_configs.get(str(self._node_id), NO_CONFIGS),
        )
        for why in ignored:
            log.warning("stored broker configuration ignored: %s", why)
        self._take_config(config)
        for name in self.image.topics:
            self._names[collision_key(name)] = name

    def _publish(self, image: ClusterImage) -> None:
        self._image = image
        self.answers.clear()

    def _take_config(self, config: BrokerConfig) -> None:
        self.config = config
        self._inherited = TopicConfig.of_stored(config, NO_CONFIGS)
        self._group_inherited = GroupConfig.of_stored(config, NO_CONFIGS)
        for topic in self.image.topics.values():
            self._note_config(topic)
        for group_id in self.image.group_configs:
            self._note_group_config(group_id)

    def _note_config(self, topic: TopicImage) -> None:
        if topic.configs:
            self._configs[topic.name] = TopicConfig.of_stored(self.config, topic.configs)
        else:
            self._configs.pop(topic.name, None)

    def _note_group_config(self, group_id: str) -> None:
        overrides = self.image.group_configs.get(group_id)
        if overrides:
            self._group_configs[group_id] = GroupConfig.of_stored(self.config, overrides)
        else:
            self._group_configs.pop(group_id, None)

    def _existing(self, name: str) -> TopicImage:
        topic = self.image.topics.get(name)
        if topic is None:
            raise KafkaError(errors.UNKNOWN_TOPIC_OR_PARTITION)
        return topic


def tell(hooks: Sequence[Callable[..., None]], *args: object) -> None:
    """What is told has happened and is stored: a listener that fails cannot take it back."""
    for hook in hooks:
        try:
            hook(*args)
        except Exception:
            log.exception("a listener to changes of metadata failed")
