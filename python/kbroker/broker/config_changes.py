"""Changes of configuration: of topics, of this broker or all of them, of groups.

`edit_...` applies operations to what is overridden, `replace_...` makes its argument all that is.
A change is validated as a whole, stored, and acts before its caller is answered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kbroker.base import errors
from kbroker.base.broker_config import check_dynamic
from kbroker.base.config import BrokerConfig, ConfigError, GroupConfig, TopicConfig
from kbroker.base.errors import KafkaError
from kbroker.broker.cluster_state import ClusterState, tell
from kbroker.meta import codec
from kbroker.meta.image import NO_CONFIGS, TopicImage
from kbroker.meta.topic_rules import checked_topic_config

if TYPE_CHECKING:
    from kbroker.base.config_ops import ConfigOp
    from kbroker.base.config_types import Key

Overrides = Mapping[str, str]
Compute = Callable[[Overrides], dict[str, str]]


class ConfigChanges(ClusterState):
    async def edit_topic_configs(
        self, name: str, ops: Sequence[ConfigOp], *, validate_only: bool = False
    ) -> None:
        def edited(overrides: Overrides) -> dict[str, str]:
            inherited = self._inherited
            return _applied(
                TopicConfig.KEYS, overrides, ops, lambda key: getattr(inherited, key.attr)
            )

        await self._change_topic_configs(name, edited, validate_only)

    async def replace_topic_configs(
        self, name: str, configs: Overrides, *, validate_only: bool = False
    ) -> None:
        await self._change_topic_configs(name, lambda _: dict(configs), validate_only)

    async def edit_broker_configs(
        self, name: str, ops: Sequence[ConfigOp], *, validate_only: bool = False
    ) -> None:
        """`name` is this broker's id, or empty for the defaults of all brokers."""

        def edited(overrides: Overrides) -> dict[str, str]:
            config = self.config
            return _applied(
                BrokerConfig.KEYS, overrides, ops, lambda key: getattr(config, key.attr)
            )

        await self._change_broker_configs(name, edited, validate_only)

    async def replace_broker_configs(
        self, name: str, configs: Overrides, *, validate_only: bool = False
    ) -> None:
        await self._change_broker_configs(name, lambda _: dict(configs), validate_only)

    async def edit_group_configs(
        self, group_id: str, ops: Sequence[ConfigOp], *, validate_only: bool = False
    ) -> None:
        """The group need not exist."""

        def edited(overrides: Overrides) -> dict[str, str]:
            inherited = self._group_inherited
            return _applied(
                GroupConfig.KEYS, overrides, ops, lambda key: getattr(inherited, key.attr)
            )

        await self._change_group_configs(group_id, edited, validate_only)

    async def replace_group_configs(
        self, group_id: str, configs: Overrides, *, validate_only: bool = False
    ) -> None:
        await self._change_group_configs(group_id, lambda _: dict(configs), validate_only)

    async def _change_topic_configs(self, name: str, compute: Compute, validate_only: bool) -> None:
        async with self._lock:
            topic = self._existing(name)
            try:
                overrides = compute(topic.configs)
            except ConfigError as wrong:
                raise KafkaError(errors.INVALID_CONFIG, str(wrong)) from None
            config = checked_topic_config(self.config, overrides)
            if validate_only or config.overrides == topic.configs:
                return
            changed = TopicImage(topic.name, topic.topic_id, topic.partitions, config.overrides)
            revision = await self._store.configure(changed)
            self._publish(self.image.with_topics(revision, put=[changed]))
            self._note_config(changed)
            if self._services is not None:
                self._services.logs.configure({name: self.topic_config(name)})

    async def _change_broker_configs(
        self, name: str, compute: Compute, validate_only: bool
    ) -> None:
        async with self._lock:
            before = self.image.broker_configs.get(name, NO_CONFIGS)
            try:
                overrides = compute(before)
                check_dynamic(name, overrides)
                changed = (
                    self.config.with_dynamic(dynamic_broker=overrides)
                    if name
                    else self.config.with_dynamic(dynamic_default=overrides)
                )
            except ConfigError as wrong:
                # Kafka's choice of code for broker configurations, which clients rely on.
                raise KafkaError(errors.INVALID_REQUEST, str(wrong)) from None
            if validate_only or overrides == before:
                return
            revision = await self._store.configure_broker(name, codec.encode_configs(overrides))
            self._publish(self.image.with_broker_config(revision, name, overrides))
            self._swap_config(changed)

    async def _change_group_configs(
        self, group_id: str, compute: Compute, validate_only: bool
    ) -> None:
        async with self._lock:
            before = self.image.group_configs.get(group_id, NO_CONFIGS)
            try:
                overrides = dict(GroupConfig(self.config, compute(before)).overrides)
            except ConfigError as wrong:
                raise KafkaError(errors.INVALID_CONFIG, str(wrong)) from None
            if validate_only or overrides == before:
                return
            revision = await self._store.configure_group(group_id, overrides)
            self._publish(self.image.with_group_config(revision, group_id, overrides))
            self._note_group_config(group_id)
            tell(self.on_group_config, group_id)

    def _swap_config(self, config: BrokerConfig) -> None:
        before = {name: self.topic_config(name) for name in self.image.topics}
        self._take_config(config)
        if self._services is not None:
            self._services.config = config
            changed = {
                name: now for name, old in before.items() if (now := self.topic_config(name)) != old
            }
            if changed:
                self._services.logs.configure(changed)
        tell(self.on_broker_config, config)


def _applied(
    keys: Mapping[str, Key[Any]],
    overrides: Overrides,
    ops: Sequence[ConfigOp],
    inherited: Callable[[Key[Any]], Any],
) -> dict[str, str]:
    from kbroker.base.config_ops import apply_ops  # a start changes nothing

    return apply_ops(keys, overrides, ops, inherited)
