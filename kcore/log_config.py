"""How a log behaves: the few settings the engine itself acts on."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from kcore import limits


def _wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class LogConfig:
    """Settings of one log; change a live one with `Log.configure`.

    `append_mode`: "auto" stores small batches through the mapping and writes large ones;
    "mmap" always stores; "pwrite" never does. `flush_policy`: "os" leaves it to whoever calls
    `flush`; with "sync" `Log.needs_sync` says when an append still waits for one.
    `verify_reads`: check the CRC of what this process has neither written nor scanned the first
    time it is read; the bytes of a bad batch are then never served.
    """

    segment_bytes: int = limits.SEGMENT_BYTES_DEFAULT
    segment_ms: int = 7 * 24 * 3600 * 1000
    segment_jitter_ms: int = 0
    index_interval_bytes: int = limits.INDEX_INTERVAL_BYTES_DEFAULT
    index_bytes_max: int = limits.INDEX_BYTES_MAX_DEFAULT
    append_mode: str = "auto"
    flush_policy: str = "os"
    verify_reads: bool = True
    clock_ms: Callable[[], int] = _wall_clock_ms

    def __post_init__(self) -> None:
        if not limits.SEGMENT_BYTES_MIN <= self.segment_bytes <= limits.SEGMENT_BYTES_MAX:
            raise ValueError(
                f"segment_bytes must be {limits.SEGMENT_BYTES_MIN}..{limits.SEGMENT_BYTES_MAX},"
                f" not {self.segment_bytes}"
            )
        if self.segment_ms < 1 or self.segment_jitter_ms < 0:
            raise ValueError("segment_ms must be at least 1 and segment_jitter_ms at least 0")
        if self.index_interval_bytes < 0:
            raise ValueError("index_interval_bytes must not be negative")
        if self.index_bytes_max < limits.TIME_INDEX_ENTRY_BYTES:
            raise ValueError(f"index_bytes_max must be at least {limits.TIME_INDEX_ENTRY_BYTES}")
        if self.append_mode not in ("auto", "mmap", "pwrite"):
            raise ValueError(f"append_mode must be auto, mmap or pwrite, not {self.append_mode!r}")
        if self.flush_policy not in ("os", "sync"):
            raise ValueError(f"flush_policy must be os or sync, not {self.flush_policy!r}")
