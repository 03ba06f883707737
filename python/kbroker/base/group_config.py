"""A group's configuration: what the group overrides, else what the broker has for every group.

Kafka's dynamic configurations of resource type GROUP (32). A group needs not exist to have one. The
broker's `group.*.min...` and `...max...` bound what may be set; a restart may move these bounds
under values that are stored, so `GroupConfig.of_stored` brings those back in range, as Kafka does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from kbroker.base.broker_config import BrokerConfig
from kbroker.base.config_types import (
    BOOLEAN,
    INT,
    STRING,
    ConfigError,
    ConfigSource,
    Key,
    UpdateMode,
    Validator,
    at_least,
    declare,
    one_of,
)
from kbroker.base.inherited_config import InheritedConfig, keys_and_plan

_GROUP = UpdateMode.CLUSTER_WIDE
_EMPTY: Mapping[str, str] = MappingProxyType({})

# ISO 8601 without years and months, as java.time.Duration reads it.
_DURATION = r"by_duration:P(?=.)(\d+D)?(T(?=.)(\d+H)?(\d+M)?(\d+(\.\d{1,9})?S)?)?"
_RESET = Validator(
    "latest, earliest or by_duration:PnDTnHnMn.nS",
    # Compiled by its first use: that takes longer than all the rest here.
    lambda value: (
        value in ("latest", "earliest") or re.fullmatch(_DURATION, value, re.IGNORECASE) is not None
    ),
)


# A table: one key, one paragraph.
# fmt: off
class ConsumerGroupKeys:
    """Groups of the consumer protocol."""

    consumer_session_timeout_ms = declare(
        "consumer.session.timeout.ms", INT, 45_000, at_least(1), mode=_GROUP,
        broker_key="group.consumer.session.timeout.ms",
        doc="A member that is silent for this long is taken out of the group.",
    )
    consumer_heartbeat_interval_ms = declare(
        "consumer.heartbeat.interval.ms", INT, 5_000, at_least(1), mode=_GROUP,
        broker_key="group.consumer.heartbeat.interval.ms",
        doc="How often members are told to send heartbeats.",
    )
    consumer_assignment_interval_ms = declare(
        "consumer.assignment.interval.ms", INT, 1_000, at_least(0), mode=_GROUP, acts=False,
        broker_key="group.consumer.assignment.interval.ms",
        doc="Shortest time between two assignments of the group.",
    )


class ShareGroupKeys:
    """Share groups: known and checked, without effect until there are share groups."""

    share_session_timeout_ms = declare(
        "share.session.timeout.ms", INT, 45_000, at_least(1), mode=_GROUP, acts=False,
        broker_key="group.share.session.timeout.ms",
        doc="A member that is silent for this long is taken out of the group.",
    )
    share_heartbeat_interval_ms = declare(
        "share.heartbeat.interval.ms", INT, 5_000, at_least(1), mode=_GROUP, acts=False,
        broker_key="group.share.heartbeat.interval.ms",
        doc="How often members are told to send heartbeats.",
    )
    share_assignment_interval_ms = declare(
        "share.assignment.interval.ms", INT, 1_000, at_least(0), mode=_GROUP, acts=False,
        broker_key="group.share.assignment.interval.ms",
        doc="Shortest time between two assignments of the group.",
    )
    share_record_lock_duration_ms = declare(
        "share.record.lock.duration.ms", INT, 30_000, at_least(1_000), mode=_GROUP, acts=False,
        broker_key="group.share.record.lock.duration.ms",
        doc="How long a consumer holds a record.",
    )
    share_delivery_count_limit = declare(
        "share.delivery.count.limit", INT, 5, at_least(2), mode=_GROUP, acts=False,
        broker_key="group.share.delivery.count.limit",
        doc="Deliveries of a record before it is given up.",
    )
    share_partition_max_record_locks = declare(
        "share.partition.max.record.locks", INT, 2_000, at_least(100), mode=_GROUP, acts=False,
        broker_key="group.share.partition.max.record.locks",
        doc="Records of a partition in flight.",
    )
    share_auto_offset_reset = declare(
        "share.auto.offset.reset", STRING, "latest", _RESET, mode=_GROUP, acts=False,
        doc="Where a group without a position begins.",
    )
    share_isolation_level = declare(
        "share.isolation.level", STRING, "read_uncommitted",
        one_of("read_committed", "read_uncommitted"), mode=_GROUP, acts=False,
        doc="Whether records of open and aborted transactions are delivered.",
    )
    share_renew_acknowledge_enable = declare(
        "share.renew.acknowledge.enable", BOOLEAN, True, mode=_GROUP, acts=False,
        doc="Whether consumers may hold a record for longer.",
    )


class StreamsGroupKeys:
    """Streams groups: known and checked, without effect until there are streams groups."""

    streams_session_timeout_ms = declare(
        "streams.session.timeout.ms", INT, 45_000, at_least(1), mode=_GROUP, acts=False,
        broker_key="group.streams.session.timeout.ms",
        doc="A member that is silent for this long is taken out of the group.",
    )
    streams_heartbeat_interval_ms = declare(
        "streams.heartbeat.interval.ms", INT, 5_000, at_least(1), mode=_GROUP, acts=False,
        broker_key="group.streams.heartbeat.interval.ms",
        doc="How often members are told to send heartbeats.",
    )
    streams_assignment_interval_ms = declare(
        "streams.assignment.interval.ms", INT, 1_000, at_least(0), mode=_GROUP, acts=False,
        broker_key="group.streams.assignment.interval.ms",
        doc="Shortest time between two assignments of the group.",
    )
    streams_num_standby_replicas = declare(
        "streams.num.standby.replicas", INT, 0, at_least(0), mode=_GROUP, acts=False,
        broker_key="group.streams.num.standby.replicas", doc="Standby replicas of each task.",
    )
    streams_initial_rebalance_delay_ms = declare(
        "streams.initial.rebalance.delay.ms", INT, 3_000, at_least(0), mode=_GROUP, acts=False,
        broker_key="group.streams.initial.rebalance.delay.ms",
        doc="How long an empty group waits for more members.",
    )


# fmt: on
class GroupConfig(ConsumerGroupKeys, ShareGroupKeys, StreamsGroupKeys, InheritedConfig):
    """`GroupConfig(broker, overrides)`: typed, frozen, equal when all values are equal."""

    SOURCE = ConfigSource.GROUP

    def __init__(self, broker: BrokerConfig, overrides: Mapping[str, str] = _EMPTY) -> None:
        """Raises ConfigError for what may not be set."""
        self._read(broker, overrides)
        problems = list(_problems(self))
        if problems:
            raise ConfigError("\n".join(problems))

    @classmethod
    def of_stored(cls, broker: BrokerConfig, overrides: Mapping[str, str]) -> GroupConfig:
        """The configuration of stored overrides: those that this version does not take are left
        out, and those the broker's bounds do not allow (any more) get the nearest that they do."""
        config = cls.of_taken(broker, overrides)
        values = vars(config)
        for bound in _BOUNDS:
            if bound.key.name in config.overrides:
                values[bound.key.attr] = bound.clamp(broker, values[bound.key.attr])
        for longer, shorter in _LONGER:
            if values[longer.attr] <= values[shorter.attr]:
                for key in (longer, shorter):
                    values[key.attr] = getattr(broker, _BROKER_ATTRS[key.attr])
        return config


class _Bound(NamedTuple):
    """`low` and `high` are attributes of the broker's configuration; empty is no bound."""

    key: Key[Any]
    low: str
    high: str

    def clamp(self, broker: BrokerConfig, value: int) -> int:
        low, high = self._limits(broker)
        return min(max(value, low), high)

    def problem(self, broker: BrokerConfig, value: int) -> str:
        """Empty when there is none."""
        low, high = self._limits(broker)
        if low <= value <= high:
            return ""
        must_be, attr, limit = ("at least", self.low, low) if value < low else (
            "at most", self.high, high
        )  # fmt: skip
        limit_name = attr.replace("_", ".")
        return f"{self.key.name} = {value}: must be {must_be} {limit_name} = {limit}"

    def _limits(self, broker: BrokerConfig) -> tuple[int, int]:
        return getattr(broker, self.low) if self.low else 0, getattr(broker, self.high)


def _problems(config: GroupConfig) -> Iterator[str]:
    """A sentence for each rule between keys that is broken."""
    for bound in _BOUNDS:
        wrong = bound.problem(config._broker, getattr(config, bound.key.attr))
        if wrong and bound.key.name in config.overrides:
            yield wrong
    for longer, shorter in _LONGER:
        if getattr(config, longer.attr) <= getattr(config, shorter.attr):
            yield (
                f"{longer.name} = {getattr(config, longer.attr)}: must be greater than "
                f"{shorter.name} = {getattr(config, shorter.attr)}"
            )


def _bounds() -> Iterator[_Bound]:
    """`group.consumer.min.session.timeout.ms` bounds `consumer.session.timeout.ms`, and so on."""
    for key in GroupConfig.KEYS.values():
        kind, _, what = key.attr.partition("_")
        low, high = f"group_{kind}_min_{what}", f"group_{kind}_max_{what}"
        if what == "num_standby_replicas":
            low, high = "", f"group_{kind}_max_standby_replicas"
        if hasattr(BrokerConfig, high):
            yield _Bound(key, low, high)


GroupConfig.KEYS, GroupConfig.PLAN = keys_and_plan(GroupConfig)
_BROKER_ATTRS = {key.attr: broker_attr for key, broker_attr in GroupConfig.PLAN}
_BOUNDS = tuple(_bounds())
_LONGER = tuple(
    (
        GroupConfig.KEYS[f"{kind}.session.timeout.ms"],
        GroupConfig.KEYS[f"{kind}.heartbeat.interval.ms"],
    )
    for kind in ("consumer", "share", "streams")
)
