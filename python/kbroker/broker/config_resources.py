"""Config resources: what each type of resource is, how it is described and how it changes.

Shared by DescribeConfigs, AlterConfigs and IncrementalAlterConfigs. Everything raises KafkaError
with the code of the one resource it was about.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum

from kbroker.base import errors
from kbroker.base.config import (
    BrokerConfig,
    ConfigEntry,
    ConfigSource,
    ConfigSynonym,
    GroupConfig,
    TopicConfig,
    UpdateMode,
)
from kbroker.base.config_ops import ConfigOp, OpType
from kbroker.base.errors import KafkaError
from kbroker.broker.loggers import describe_loggers, set_levels
from kbroker.broker.services import Services


class ResourceType(IntEnum):
    TOPIC = 2
    BROKER = 4
    BROKER_LOGGER = 8
    CLIENT_METRICS = 16
    GROUP = 32


def describe(services: Services, type_number: int, name: str) -> Iterable[ConfigEntry]:
    """Every key of the resource, with where its value comes from."""
    resource_type = _type_of(type_number)
    if resource_type is ResourceType.TOPIC:
        _check_topic(services, name)
        config: TopicConfig = services.topics.topic_config(name)
        return config.describe()
    if resource_type is ResourceType.BROKER:
        if _is_default_broker(services, name):
            return _default_overrides(services)
        return services.config.describe()
    if resource_type is ResourceType.BROKER_LOGGER:
        _check_own_id(services, name)
        return describe_loggers()
    if resource_type is ResourceType.GROUP:
        _check_given(name, "Group name")
        group: GroupConfig = services.topics.group_config(name)
        return group.describe()
    _check_given(name, "Client metrics subscription name")
    return ()  # nobody subscribes to metrics of clients yet


async def edit(
    services: Services,
    type_number: int,
    name: str,
    ops: Sequence[ConfigOp],
    *,
    validate_only: bool,
) -> None:
    """Applies `ops` to the resource: all of them or none."""
    resource_type = _type_of(type_number)
    _check_ops(ops)
    if resource_type is ResourceType.TOPIC:
        _check_topic(services, name)
        await services.topics.edit_topic_configs(name, ops, validate_only=validate_only)
    elif resource_type is ResourceType.BROKER:
        _is_default_broker(services, name)
        await services.topics.edit_broker_configs(name, ops, validate_only=validate_only)
    elif resource_type is ResourceType.BROKER_LOGGER:
        _check_own_id(services, name)
        set_levels(ops, validate_only=validate_only)
    elif resource_type is ResourceType.GROUP:
        _check_given(name, "Group name")
        await services.topics.edit_group_configs(name, ops, validate_only=validate_only)
    else:
        raise _unalterable(resource_type)


async def replace(
    services: Services,
    type_number: int,
    name: str,
    configs: Sequence[tuple[str, str | None]],
    *,
    validate_only: bool,
) -> None:
    """Makes `configs` all that is overridden on the resource."""
    resource_type = _type_of(type_number)
    _check_ops([ConfigOp(OpType.SET, key, value) for key, value in configs])
    wanted: Mapping[str, str] = {key: value for key, value in configs if value is not None}
    if resource_type is ResourceType.TOPIC:
        _check_topic(services, name)
        await services.topics.replace_topic_configs(name, wanted, validate_only=validate_only)
    elif resource_type is ResourceType.BROKER:
        _is_default_broker(services, name)
        await services.topics.replace_broker_configs(name, wanted, validate_only=validate_only)
    elif resource_type is ResourceType.GROUP:
        _check_given(name, "Group name")
        await services.topics.replace_group_configs(name, wanted, validate_only=validate_only)
    else:
        raise _unalterable(resource_type)


def list_resources(services: Services, wanted: Iterable[int]) -> list[tuple[int, str]]:
    """(type, name) of what has a configuration: every topic, broker and logger has one, of groups
    those that were given one. `wanted` are type numbers; none asks for all."""
    wanted = list(wanted) or list(ResourceType)
    found: list[tuple[int, str]] = []
    for number in dict.fromkeys(wanted):
        try:
            resource_type = ResourceType(number)
        except ValueError:
            raise KafkaError(errors.UNSUPPORTED_VERSION) from None
        found += ((number, name) for name in _names(services, resource_type))
    return found


def _names(services: Services, resource_type: ResourceType) -> Iterable[str]:
    image = services.topics.image
    if resource_type is ResourceType.TOPIC:
        return sorted(image.topics)
    if resource_type is ResourceType.GROUP:
        return sorted(image.group_configs)
    if resource_type is ResourceType.CLIENT_METRICS:
        return ()
    return (str(services.node_id),)


def _check_given(name: str, what: str) -> None:
    if not name:
        raise KafkaError(errors.INVALID_REQUEST, f"{what} must not be empty.")


def _type_of(number: int) -> ResourceType:
    try:
        return ResourceType(number)
    except ValueError:
        raise KafkaError(errors.INVALID_REQUEST, f"Unsupported resource type: {number}.") from None


def _unalterable(resource_type: ResourceType) -> KafkaError:
    return KafkaError(
        errors.INVALID_REQUEST,
        f"Configurations of resource type {resource_type.name} cannot be altered this way.",
    )


def _check_topic(services: Services, name: str) -> None:
    if name not in services.topics.image.topics:
        services.topics.check_name(name)
        raise KafkaError(errors.UNKNOWN_TOPIC_OR_PARTITION)


def _is_default_broker(services: Services, name: str) -> bool:
    """True for the empty name, which stands for all brokers; otherwise it must be this one."""
    if not name:
        return True
    _check_own_id(services, name)
    return False


def _check_own_id(services: Services, name: str) -> None:
    if name == str(services.node_id):
        return
    if not (name.isascii() and name.isdecimal()):
        raise KafkaError(
            errors.INVALID_REQUEST, f"Broker id must be an integer, but it is: {name!a}."
        )
    raise KafkaError(
        errors.INVALID_REQUEST, f"Unexpected broker id: this is {services.node_id}, not {name}."
    )


def _default_overrides(services: Services) -> Iterable[ConfigEntry]:
    """What is set for all brokers, which is all that this resource has."""
    source = ConfigSource.DYNAMIC_DEFAULT_BROKER
    for name, text in sorted(services.topics.image.broker_configs.get("", {}).items()):
        key = BrokerConfig.KEYS.get(name)
        if key is not None:
            shown = key.shown(text)
            yield ConfigEntry(
                name, shown, source, key.mode is UpdateMode.READ_ONLY, key.sensitive,
                (ConfigSynonym(name, shown, source),), key.type.wire, key.doc,
            )  # fmt: skip


def _check_ops(ops: Sequence[ConfigOp]) -> None:
    names = [op.name for op in ops]
    if len(set(names)) != len(names):
        raise KafkaError(errors.INVALID_REQUEST, "A configuration key is given more than once.")
    nulls = [op.name for op in ops if op.value is None and op.type is not OpType.DELETE]
    if nulls:
        raise KafkaError(errors.INVALID_REQUEST, f"Null value not supported for {nulls[0]}.")
