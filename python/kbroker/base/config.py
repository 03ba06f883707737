"""The configuration's front door: `BrokerConfig`, `TopicConfig` and what a caller needs with them.

Keys are declared in `server_keys.py`, `log_keys.py`, `coordinator_keys.py` (broker) and
`topic_config.py` (topics), with the means of `config_types.py`.
"""

from __future__ import annotations

from kbroker.base.broker_config import BrokerConfig
from kbroker.base.config_types import (
    ConfigEntry,
    ConfigError,
    ConfigSource,
    ConfigSynonym,
    Key,
    UpdateMode,
    WireType,
)
from kbroker.base.listeners import Endpoint
from kbroker.base.topic_config import TopicConfig

__all__ = [
    "BrokerConfig",
    "ConfigEntry",
    "ConfigError",
    "ConfigSource",
    "ConfigSynonym",
    "Endpoint",
    "Key",
    "TopicConfig",
    "UpdateMode",
    "WireType",
]
