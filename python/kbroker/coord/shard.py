"""A shard: the state machine of one partition of an internal topic, as the runtime sees it."""

from __future__ import annotations

from typing import Any, Protocol

from kbroker.coord.journal import Journal
from kbroker.coord.result import Bulk, Record
from kbroker.coord.timers import Timers


class Shard(Protocol):
    """`journal` has every change that `replay` makes; `timers` is given by the runtime."""

    journal: Journal
    timers: Timers

    def encode(self, record: Record) -> tuple[bytes, bytes | None]: ...

    def decode(self, key: bytes, value: bytes | None) -> Record | None:
        """None for a record of a type that this version does not know."""
        ...

    def replay(self, record: Record) -> None:
        """The only way in which hard state changes, live and while loading."""
        ...

    def replay_bulk(self, bulk: Bulk) -> None:
        """`replay` of all its records; only for shards whose operations give such Results."""
        ...

    def on_loaded(self) -> None:
        """All records are replayed; timers may start."""
        ...

    def on_unloaded(self, error: Any) -> None:
        """The partition is no longer ours: whoever waits is answered with `error`."""
        ...
