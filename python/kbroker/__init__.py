"""The broker: unmodified Kafka clients talk to it. `kcore serve` runs one; these embed one.

Everything is imported on first use: `import kbroker` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kbroker.base.config import BrokerConfig
    from kbroker.broker.embedded import Broker, BrokerThread

__all__ = ["Broker", "BrokerConfig", "BrokerThread"]

_HOMES = {
    "Broker": "kbroker.broker.embedded",
    "BrokerThread": "kbroker.broker.embedded",
    "BrokerConfig": "kbroker.base.config",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
