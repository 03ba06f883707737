"""A configuration that overrides what the broker has: the machinery of topics' and groups'.

A class declares its keys and `SOURCE`; `KEYS` and `PLAN` come from `keys_and_plan` after it. Values
are read once, into attributes; the object is frozen after that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, NoReturn, Self

from kbroker.base.broker_config import BrokerConfig
from kbroker.base.config_types import (
    ConfigEntry,
    ConfigError,
    ConfigSource,
    ConfigSynonym,
    Key,
    keys_of,
    unknown_key,
)

Plan = tuple[tuple[Key[Any], str], ...]


class InheritedConfig:
    """Equal when all values are equal. `overrides` is what was set, as text, in order of name."""

    KEYS: ClassVar[Mapping[str, Key[Any]]]
    PLAN: ClassVar[Plan]  # (key, attribute of the broker's configuration, "" for none)
    SOURCE: ClassVar[ConfigSource]
    overrides: Mapping[str, str]
    _broker: BrokerConfig

    @classmethod
    def of_taken(cls, broker: BrokerConfig, overrides: Mapping[str, str]) -> Self:
        """Of stored overrides, without those that this version does not take and without a look at
        rules between keys: what was allowed when it was set must not keep anything from opening."""
        taken = {}
        for name, text in overrides.items():
            key = cls.KEYS.get(name)
            if key is not None and key.takes(text):
                taken[name] = text
        config = cls.__new__(cls)
        config._read(broker, taken)
        return config

    def _read(self, broker: BrokerConfig, overrides: Mapping[str, str]) -> None:
        """Raises ConfigError, with a line for each key that is unknown or has a wrong value."""
        inherited = vars(broker)
        values = {
            key.attr: inherited.get(broker_attr, key.default) for key, broker_attr in self.PLAN
        }
        problems = []
        for name, text in overrides.items():
            key = self.KEYS.get(name)
            if key is None:
                problems.append(unknown_key(name, self.KEYS))
                continue
            try:
                values[key.attr] = key.parse(text)
            except ConfigError as wrong:
                problems.append(str(wrong))
        if problems:
            raise ConfigError("\n".join(problems))
        vars(self).update(
            values, _broker=broker, overrides=MappingProxyType(dict(sorted(overrides.items())))
        )

    def synonyms_of(self, key: Key[Any]) -> tuple[ConfigSynonym, ...]:
        """The override, then everything the broker key could take its value from."""
        found: tuple[ConfigSynonym, ...] = ()
        if key.name in self.overrides:
            found = (ConfigSynonym(key.name, key.shown(self.overrides[key.name]), self.SOURCE),)
        if key.broker_key is not None:
            return found + self._broker.synonyms_of(BrokerConfig.KEYS[key.broker_key])
        default = ConfigSynonym(key.name, key.format(key.default), ConfigSource.DEFAULT)
        return (*found, default)

    def describe(self) -> Iterator[ConfigEntry]:
        """Every key as DescribeConfigs shows it."""
        for key in self.KEYS.values():
            synonyms = self.synonyms_of(key)
            yield ConfigEntry(
                key.name, key.shown(key.format(getattr(self, key.attr))), synonyms[0].source,
                False, key.sensitive, synonyms, key.type.wire, key.doc,
            )  # fmt: skip

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        mine, theirs = vars(self), vars(other)
        return all(mine[key.attr] == theirs[key.attr] for key, _ in self.PLAN)

    __hash__ = None  # type: ignore[assignment]

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a {type(self).__name__} is frozen: {name} cannot be set")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({dict(self.overrides)})"


def keys_and_plan(cls: type[InheritedConfig]) -> tuple[Mapping[str, Key[Any]], Plan]:
    """The declared keys of a class, and from where each is inherited. TypeError when a key and the
    broker's do not fit together, which shows at import."""
    keys = MappingProxyType(keys_of(cls))
    plan = []
    for key in keys.values():
        if key.broker_key is None:
            plan.append((key, ""))
            continue
        twin = BrokerConfig.KEYS[key.broker_key]
        if (twin.type, twin.default) != (key.type, key.default):
            raise TypeError(f"{key.name} and {twin.name} differ in type or default")
        plan.append((key, twin.attr))
    return keys, tuple(plan)
