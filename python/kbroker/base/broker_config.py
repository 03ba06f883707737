"""The broker's configuration: one frozen object with a typed attribute for each key.

Values come in layers: dynamic for this broker, dynamic for every broker, static (file, environment,
command line), default. The first layer that has a key wins. A change makes a new object, so whoever
holds one sees values that belong together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any, NoReturn

from kbroker.base.config_types import (
    ConfigEntry,
    ConfigError,
    ConfigSource,
    ConfigSynonym,
    Key,
    UpdateMode,
    keys_of,
    unknown_key,
)
from kbroker.base.coordinator_keys import GroupKeys, TransactionKeys
from kbroker.base.listeners import (
    Endpoint,
    parse_listeners,
    parse_protocol_map,
    split_host_port,
)
from kbroker.base.log_keys import CleanerKeys, LogKeys, TopicDefaultKeys
from kbroker.base.server_keys import ClusterKeys, SecurityKeys, ServerKeys
from kbroker.base.share_keys import ShareKeys, StreamsKeys

Layer = Mapping[str, str]
_EMPTY: Layer = MappingProxyType({})


class BrokerConfig(
    ServerKeys,
    TopicDefaultKeys,
    LogKeys,
    CleanerKeys,
    GroupKeys,
    ShareKeys,
    StreamsKeys,
    TransactionKeys,
    ClusterKeys,
    SecurityKeys,
):
    """`config.num_partitions` and so on; see the key classes for what there is.

    `BrokerConfig(static)` takes key -> text. Every wrong value is reported in one ConfigError.
    """

    KEYS: Mapping[str, Key[Any]]
    _DEFAULTS: Mapping[str, Any]

    def __init__(
        self,
        static: Layer = _EMPTY,
        *,
        dynamic_default: Layer = _EMPTY,
        dynamic_broker: Layer = _EMPTY,
        warnings: tuple[str, ...] = (),
    ) -> None:
        # The order is the precedence; `describe` lists synonyms in it too.
        layers = (
            (ConfigSource.DYNAMIC_BROKER, MappingProxyType(dict(dynamic_broker))),
            (ConfigSource.DYNAMIC_DEFAULT_BROKER, MappingProxyType(dict(dynamic_default))),
            (ConfigSource.STATIC_BROKER, MappingProxyType(dict(static))),
        )
        vars(self).update(self._DEFAULTS, _layers=layers, warnings=warnings)
        problems = self._read_layers(layers) or _relations(self)
        if problems:
            raise ConfigError("\n".join(problems))

    @classmethod
    def load(
        cls,
        properties_file: str | None = None,
        overrides: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> BrokerConfig:
        """Reads a server.properties file, then KCORE_... of `env`, then `overrides`: the last wins.

        A key nobody knows becomes a line in `warnings`, with the name that was probably meant.
        """
        from kbroker.base.config_load import load_static

        static, warnings = load_static(cls.KEYS, properties_file, overrides or {}, env or {})
        return cls(static, warnings=warnings)

    def with_dynamic(
        self, *, dynamic_default: Layer | None = None, dynamic_broker: Layer | None = None
    ) -> BrokerConfig:
        """The same static values under other dynamic ones; None keeps a layer."""
        return BrokerConfig(
            self._layer(ConfigSource.STATIC_BROKER),
            dynamic_default=(
                self._layer(ConfigSource.DYNAMIC_DEFAULT_BROKER)
                if dynamic_default is None
                else dynamic_default
            ),
            dynamic_broker=(
                self._layer(ConfigSource.DYNAMIC_BROKER)
                if dynamic_broker is None
                else dynamic_broker
            ),
            warnings=self.warnings,
        )

    def with_stored(
        self, *, dynamic_default: Layer, dynamic_broker: Layer
    ) -> tuple[BrokerConfig, list[str]]:
        """`with_dynamic` for values that an earlier run stored, and why some were left out: what
        another version or another static value allowed must not keep the broker from starting."""
        ignored: list[str] = []
        layers = []
        for layer in (dynamic_default, dynamic_broker):
            kept = {}
            for name, text in layer.items():
                key = self.KEYS.get(name)
                if key is None:
                    ignored.append(unknown_key(name, self.KEYS))
                elif not key.takes(text):
                    ignored.append(f"{name}: not {key.allowed}")
                else:
                    kept[name] = text
            layers.append(kept)
        try:
            changed = self.with_dynamic(dynamic_default=layers[0], dynamic_broker=layers[1])
        except ConfigError as wrong:
            return self, [*ignored, *str(wrong).splitlines()]
        return changed, ignored

    warnings: tuple[str, ...]
    _layers: tuple[tuple[ConfigSource, Layer], ...]

    @property
    def data_dir(self) -> str:
        """The one entry of log.dirs."""
        return self.log_dirs[0]

    @cached_property
    def bind_endpoints(self) -> tuple[Endpoint, ...]:
        """What to listen on: `listeners` without those of KRaft controllers."""
        return parse_listeners(
            "listeners",
            self.listeners,
            self._protocols(),
            skip=[name.upper() for name in self.controller_listener_names],
        )

    @cached_property
    def advertised_endpoints(self) -> tuple[Endpoint, ...]:
        """What clients are told, as configured: hosts may be empty and ports 0 where the broker
        has to fill in what it got."""
        if self.advertised_listeners is None:
            return self.bind_endpoints
        return parse_listeners(
            "advertised.listeners",
            self.advertised_listeners,
            self._protocols(),
            skip=[name.upper() for name in self.controller_listener_names],
        )

    def source_of(self, key: Key[Any]) -> ConfigSource:
        """The layer `key` (or one of its fallbacks) has its value from."""
        return self.synonyms_of(key)[0].source

    def synonyms_of(self, key: Key[Any]) -> tuple[ConfigSynonym, ...]:
        """Everywhere `key` could take its value from, the acting one first, default last."""
        names = (key.name, *(fallback.name for fallback in key.fallbacks))
        found = [
            ConfigSynonym(name, key.shown(layer[name]), source)
            for source, layer in self._layers
            for name in names
            if name in layer
        ]
        found.sort(key=lambda synonym: (names.index(synonym.name), synonym.source))
        found.append(
            ConfigSynonym(key.name, key.shown(key.format(key.default)), ConfigSource.DEFAULT)
        )
        return tuple(found)

    def describe(self) -> Iterator[ConfigEntry]:
        """Every key as DescribeConfigs of this broker shows it."""
        for key in self.KEYS.values():
            synonyms = self.synonyms_of(key)
            yield ConfigEntry(
                key.name,
                key.shown(key.format(getattr(self, key.attr))),
                synonyms[0].source,
                key.mode is UpdateMode.READ_ONLY,
                key.sensitive,
                synonyms,
                key.type.wire,
                key.doc,
            )

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a BrokerConfig is frozen: {name} cannot be set")

    def __repr__(self) -> str:
        changed = {
            name: self.KEYS[name].shown(text)
            for _, layer in reversed(self._layers)
            for name, text in layer.items()
            if name in self.KEYS
        }
        return f"BrokerConfig({changed})"

    def _layer(self, wanted: ConfigSource) -> Layer:
        return next(layer for source, layer in self._layers if source is wanted)

    def _protocols(self) -> dict[str, str]:
        return parse_protocol_map(
            "listener.security.protocol.map", self.listener_security_protocol_map
        )

    def _read_layers(self, layers: tuple[tuple[ConfigSource, Layer], ...]) -> list[str]:
        """Parses what is set into typed values; returns what is wrong."""
        values: dict[str, Any] = {}
        problems: list[str] = []
        for _, layer in reversed(layers):
            for name, text in layer.items():
                key = self.KEYS.get(name)
                if key is None:
                    problems.append(unknown_key(name, self.KEYS))
                    continue
                try:
                    values[name] = key.parse(text)
                except ConfigError as wrong:
                    problems.append(str(wrong))
        typed = {self.KEYS[name].attr: value for name, value in values.items()}
        for key in _KEYS_WITH_FALLBACKS:
            source = next((f for f in key.fallbacks if f.name in values), None)
            if key.name not in values and source is not None:
                typed[key.attr] = source.scale(values[source.name])
        vars(self).update(typed)
        return problems


def _relations(config: BrokerConfig) -> list[str]:
    """Rules between keys, which single values cannot tell: a sentence for each broken one."""
    problems: list[str] = []
    if len(config.log_dirs) != 1:
        problems.append(
            f"log.dirs = {','.join(config.log_dirs)!r}: must be one directory, not "
            f"{len(config.log_dirs)}"
        )
    if config.log_cleaner_min_compaction_lag_ms > config.log_cleaner_max_compaction_lag_ms:
        low, high = "log_cleaner_min_compaction_lag_ms", "log_cleaner_max_compaction_lag_ms"
        problems.append(_disorder(config, low, high, "at most"))
    problems += _group_problems(config)
    if config.metrics_listener:
        try:
            split_host_port(config.metrics_listener)
        except ValueError:
            problems.append(
                f"metrics.listener = {config.metrics_listener!r}: must be host:port or empty"
            )
    try:
        bound, advertised = config.bind_endpoints, config.advertised_endpoints
    except ConfigError as wrong:
        return [*problems, str(wrong)]
    return problems + _listener_problems(config, bound, advertised)


def _group_problems(config: BrokerConfig) -> Iterator[str]:
    """Bounds lie the right way round, what is bounded within them, and a member can send a
    heartbeat before its session ends."""
    ordered = [("group_min_session_timeout_ms", "group_max_session_timeout_ms")]
    for kind in ("consumer", "share", "streams"):
        for what in ("session_timeout_ms", "heartbeat_interval_ms", "assignment_interval_ms"):
            low, high = f"group_{kind}_min_{what}", f"group_{kind}_max_{what}"
            value = f"group_{kind}_{what}"
            ordered += [(low, high), (low, value), (value, high)]
    for what in ("record_lock_duration_ms", "delivery_count_limit", "partition_max_record_locks"):
        low, high, value = (f"group_share_{part}{what}" for part in ("min_", "max_", ""))
        ordered += [(low, value), (value, high)]
    ordered.append(("group_streams_num_standby_replicas", "group_streams_max_standby_replicas"))
    for low, high in ordered:
        if getattr(config, low) > getattr(config, high):
            yield _disorder(config, low, high, "at most")
    for kind in ("consumer", "share", "streams"):
        low, high = f"group_{kind}_heartbeat_interval_ms", f"group_{kind}_session_timeout_ms"
        if getattr(config, low) >= getattr(config, high):
            yield _disorder(config, low, high, "less than")


def _disorder(config: BrokerConfig, low: str, high: str, must_be: str) -> str:
    names = low.replace("_", "."), high.replace("_", ".")
    return (
        f"{names[0]} = {getattr(config, low)}: must be {must_be} {names[1]} = "
        f"{getattr(config, high)}"
    )


def _listener_problems(
    config: BrokerConfig, bound: tuple[Endpoint, ...], advertised: tuple[Endpoint, ...]
) -> list[str]:
    problems = []
    if not bound:
        problems.append("listeners: must name at least one listener of this broker")
    for endpoint in bound:
        if endpoint.protocol != "PLAINTEXT":
            problems.append(
                f"listeners = '{endpoint}': security protocol {endpoint.protocol} is not "
                "supported; PLAINTEXT is"
            )
        elif not endpoint.is_loopback and not config.allow_insecure_listener:
            problems.append(
                f"listeners = '{endpoint}': a PLAINTEXT listener that is not on loopback lets "
                "anyone who reaches it read, write and delete everything; use "
                f"{endpoint.listener}://127.0.0.1:{endpoint.port}, or set "
                "allow.insecure.listener=true"
            )
    names = {endpoint.listener for endpoint in bound}
    for endpoint in advertised:
        if endpoint.listener not in names:
            problems.append(
                f"advertised.listeners = '{endpoint}': {endpoint.listener} is not in listeners"
            )
        elif config.advertised_listeners is not None and endpoint.is_every_interface:
            problems.append(
                f"advertised.listeners = '{endpoint}': must name a host that clients can reach"
            )
    return problems


def check_dynamic(name: str, overrides: Mapping[str, str]) -> None:
    """ConfigError when a key cannot change while the broker runs, or, for the empty `name` that
    stands for all brokers, not for all of them."""
    for key_name in overrides:
        key = BrokerConfig.KEYS.get(key_name)
        if key is None:
            continue  # the config object refuses it, with the nearest name
        if key.mode is UpdateMode.READ_ONLY:
            raise ConfigError(f"{key_name} cannot be changed while the broker runs")
        if not name and key.mode is UpdateMode.PER_BROKER:
            raise ConfigError(f"{key_name} can only be set for one broker, not for all")


BrokerConfig.KEYS = MappingProxyType(keys_of(BrokerConfig))
BrokerConfig._DEFAULTS = MappingProxyType(
    {key.attr: key.default for key in BrokerConfig.KEYS.values()}
)
_KEYS_WITH_FALLBACKS = tuple(key for key in BrokerConfig.KEYS.values() if key.fallbacks)
