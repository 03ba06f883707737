from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from kcore._native.batch import BatchInfo
from kcore._native.log import AppendResult
from kcore._native.replica import Replica

class LeaderRules:
    def __init__(
        self,
        *,
        max_bytes: int,
        segment_bytes: int,
        timestamp_after_max_ms: int,
        need_keys: bool,
        plain: bool,
    ) -> None: ...

class Leader(Replica):
    """A base class for the partition of a broker that clients produce to."""

    rules: LeaderRules
    producers: Any
    disk: Any
    failure: str
    internal: bool
    acks_at_once: bool
    stable_follows: bool
    flush_at_offset: int
    on_advance: Callable[[Any], None]

Seen = TypeVar("Seen", covariant=True)

class Sequences(Protocol[Seen]):
    def admit(
        self,
        producer_id: int,
        epoch: int,
        base_sequence: int,
        last_offset_delta: int,
        transactional: bool,
        /,
    ) -> Seen | None: ...
    def note(
        self,
        producer_id: int,
        epoch: int,
        base_sequence: int,
        last_offset_delta: int,
        transactional: bool,
        base_offset: int,
        now_ms: int,
        /,
    ) -> None: ...

def append_produced(
    leader: Replica,
    data: bytearray | memoryview,
    rules: LeaderRules,
    producers: Sequences[Seen],
    now_ms: int,
) -> AppendResult | BatchInfo | Seen: ...
