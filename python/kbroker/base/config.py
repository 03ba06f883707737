"""The configuration's front door: `BrokerConfig`, `TopicConfig`, `GroupConfig`, and what a caller
needs with them.

Keys are declared in `server_keys.py`, `log_keys.py`, `coordinator_keys.py`, `share_keys.py`
(broker), `topic_config.py` (topics) and `group_config.py` (groups), with the means of
`config_types.py`.
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
from kbroker.base.group_config import GroupConfig
from kbroker.base.listeners import Endpoint
from kbroker.base.topic_config import TopicConfig

__all__ = [
    "BrokerConfig",
    "ConfigEntry",
    "ConfigError",
    "ConfigSource",
    "ConfigSynonym",
    "Endpoint",
    "GroupConfig",
    "Key",
    "TopicConfig",
    "UpdateMode",
    "WireType",
]
