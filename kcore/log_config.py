"""How a log behaves: the few settings the engine itself acts on."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from kcore import limits


def _wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


class LogConfig:
    """Settings of one log, immutable; change those of a live one with `Log.configure`.

    `append_mode`: "auto" stores small batches through the mapping and writes large ones;
    "mmap" always stores; "pwrite" never does. `flush_policy`: "os" leaves it to whoever calls
    `flush`; with "sync" `Log.needs_sync` says when an append still waits for one. `clock_ms`: the
    wall clock, for batches without timestamps.
    """

    # A plain class: a dataclass costs a millisecond of start-up, and there are few fields.
    __slots__ = (
        "append_mode",
        "clock_ms",
        "flush_policy",
        "index_bytes_max",
        "index_interval_bytes",
        "segment_bytes",
        "segment_jitter_ms",
        "segment_ms",
    )

    def __init__(
        self,
        *,
        segment_bytes: int = limits.SEGMENT_BYTES_DEFAULT,
        segment_ms: int = 7 * 24 * 3600 * 1000,
        segment_jitter_ms: int = 0,
        index_interval_bytes: int = limits.INDEX_INTERVAL_BYTES_DEFAULT,
        index_bytes_max: int = limits.INDEX_BYTES_MAX_DEFAULT,
        append_mode: str = "auto",
        flush_policy: str = "os",
        clock_ms: Callable[[], int] = _wall_clock_ms,
    ) -> None:
        if not limits.SEGMENT_BYTES_MIN <= segment_bytes <= limits.SEGMENT_BYTES_MAX:
            raise ValueError(
                f"segment_bytes must be {limits.SEGMENT_BYTES_MIN}..{limits.SEGMENT_BYTES_MAX},"
                f" not {segment_bytes}"
            )
        if segment_ms < 1 or segment_jitter_ms < 0:
            raise ValueError("segment_ms must be at least 1 and segment_jitter_ms at least 0")
        if index_interval_bytes < 0:
            raise ValueError("index_interval_bytes must not be negative")
        if index_bytes_max < limits.TIME_INDEX_ENTRY_BYTES:
            raise ValueError(f"index_bytes_max must be at least {limits.TIME_INDEX_ENTRY_BYTES}")
        if append_mode not in ("auto", "mmap", "pwrite"):
            raise ValueError(f"append_mode must be auto, mmap or pwrite, not {append_mode!r}")
        if flush_policy not in ("os", "sync"):
            raise ValueError(f"flush_policy must be os or sync, not {flush_policy!r}")
        self.segment_bytes = segment_bytes
        self.segment_ms = segment_ms
        self.segment_jitter_ms = segment_jitter_ms
        self.index_interval_bytes = index_interval_bytes
        self.index_bytes_max = index_bytes_max
        self.append_mode = append_mode
        self.flush_policy = flush_policy
        self.clock_ms = clock_ms

    def replace(self, **changes: Any) -> LogConfig:
        """The same settings but for `changes`, checked again."""
        return LogConfig(**{name: getattr(self, name) for name in self.__slots__} | changes)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LogConfig):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
        return f"LogConfig({fields})"
