"""What a partition is given by whoever keeps it: the disk's condition, the clock, helpers off the
loop, and whom to tell that it has moved on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kbroker.log.partition_log import PartitionLog
    from kcore._native.fileops import FileOps

logger = logging.getLogger(__name__)

PRODUCERS_MAX = 100_000  # of a partition; the longest idle go first
NOT_CLEANED = -1  # how far a partition is clean before its first round


class DiskState:
    """What a data directory can take now. One object, shared by all of its partitions.

    `failure`: a write or sync has failed; nothing is appended until the broker is started again,
    because after a failed sync nobody knows what the disk holds (D3). `full`: below the reserve,
    `free_bytes` are left; goes away by itself.
    """

    __slots__ = ("failure", "free_bytes", "full", "refuses")

    def __init__(self) -> None:
        self.failure = ""
        self.full = ""
        self.free_bytes = 0
        self.refuses = False

    def fail(self, why: str) -> None:
        if not self.failure:
            logger.error("no more appends until a restart: %s", why)
            self.failure = why
        self.refuses = True

    def set_full(self, why: str, free_bytes: int = 0) -> None:
        if why and not self.full:
            logger.error("no appends until space is freed: %s", why)
        elif self.full and not why:
            logger.info("appends go on: space was freed")
        self.full = why
        self.free_bytes = free_bytes
        self.refuses = bool(why or self.failure)


def _nothing(_: object) -> None:
    return None


class PartitionHost:
    """What a partition needs from whoever keeps it; `LogManager` fills one in for all of its own.

    `submit(fn)` runs fn in a pool thread; `request_flush(partition)` has the partition flushed
    soon, off the loop, and `on_flushed` called after; `on_exhausted(why)` hears of an append that
    was refused for want of descriptors.
    """

    __slots__ = (
        "append_mode",
        "clock_ms",
        "disk",
        "on_advance",
        "on_exhausted",
        "ops",
        "producer_expiration_ms",
        "producers_max",
        "request_flush",
        "submit",
    )

    def __init__(
        self,
        *,
        clock_ms: Callable[[], int],
        disk: DiskState | None = None,
        ops: FileOps | None = None,
        append_mode: str = "auto",
        on_advance: Callable[[PartitionLog], None] = _nothing,
        on_exhausted: Callable[[str], None] = _nothing,
        request_flush: Callable[[PartitionLog], None] = _nothing,
        submit: Callable[[Callable[[], None]], object] = lambda fn: fn(),
        producer_expiration_ms: int = 86_400_000,
        producers_max: int = PRODUCERS_MAX,
    ) -> None:
        self.clock_ms = clock_ms
        self.disk = disk if disk is not None else DiskState()
        self.ops = ops
        self.append_mode = append_mode
        self.on_advance = on_advance
        self.on_exhausted = on_exhausted
        self.request_flush = request_flush
        self.submit = submit
        self.producer_expiration_ms = producer_expiration_ms
        self.producers_max = producers_max
