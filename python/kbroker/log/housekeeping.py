"""What the log manager does by the clock: one `tick` a second, work in small pieces.

Each piece looks at a bounded number of partitions per tick, and whatever waits for the disk goes to
the pool, so a tick never holds the loop up however many partitions there are.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from typing import TYPE_CHECKING

from kcore.errors import CoreError
from kcore.files import names
from kcore.files.atomic import remove_if_exists
from kcore.files.offset_checkpoint import store_offset_checkpoint

if TYPE_CHECKING:
    from kbroker.base.clock import Clock
    from kbroker.base.config import BrokerConfig
    from kbroker.log.manager import LogManager
    from kbroker.log.partition_log import PartitionLog

logger = logging.getLogger(__name__)

PARTITIONS_PER_TICK = 256
RESERVE_BYTES = 64 << 20  # plus 1 % of the disk, but never more than 5 % of a small one
Offsets = dict[tuple[str, int], int]


class Housekeeping:
    __slots__ = (
        "_checkpoint_at_ms",
        "_clock",
        "_doomed",
        "_flush_at_ms",
        "_manager",
        "_retention_at_ms",
        "_retention_queue",
        "_settings",
        "_stored",
        "_storing",
    )

    def __init__(self, manager: LogManager, settings: BrokerConfig, clock: Clock) -> None:
        self._manager = manager
        self._settings = settings
        self._clock = clock
        now_ms = clock.monotonic_ms()
        self._flush_at_ms = now_ms + settings.log_flush_scheduler_interval_ms
        self._retention_at_ms = now_ms + settings.log_retention_check_interval_ms
        self._checkpoint_at_ms = now_ms + settings.log_flush_offset_checkpoint_interval_ms
        self._retention_queue: deque[PartitionLog] = deque()
        self._doomed: deque[tuple[int, list[str]]] = deque()  # (remove at, renamed files)
        self._stored: dict[str, Offsets] = {}
        self._storing = threading.Lock()

    def reconfigure(self, settings: BrokerConfig) -> None:
        """Intervals that run go on to their end; the next ones are the new ones."""
        self._settings = settings

    def tick(self, wall_ms: int) -> None:
        now_ms = self._clock.monotonic_ms()
        if now_ms >= self._flush_at_ms:
            self._flush_at_ms = now_ms + self._settings.log_flush_scheduler_interval_ms
            for partition in self._manager.all():
                if partition.dirty:
                    self._manager.request_flush(partition)
        if now_ms >= self._retention_at_ms:
            self._retention_at_ms = now_ms + self._settings.log_retention_check_interval_ms
            self._retention_queue = deque(self._manager.all())
        for _ in range(min(PARTITIONS_PER_TICK, len(self._retention_queue))):
            self._keep_house(self._retention_queue.popleft(), wall_ms, now_ms)
        while self._doomed and self._doomed[0][0] <= now_ms:
            paths = self._doomed.popleft()[1]
            self._manager.submit(lambda paths=paths: _remove(paths))  # type: ignore[misc]
        if now_ms >= self._checkpoint_at_ms:
            self._checkpoint_at_ms = now_ms + self._settings.log_flush_offset_checkpoint_interval_ms
            self._manager.submit(self.store_checkpoints)
        self._watch_space()

    def _keep_house(self, partition: PartitionLog, wall_ms: int, now_ms: int) -> None:
        tp = (partition.topic, partition.index)
        if self._manager.get(*tp) is not partition:
            return
        partition.expire_producers(wall_ms)
        if self._manager.disk.failure:
            return
        try:
            dropped = partition.apply_retention(wall_ms)
        except (CoreError, OSError) as error:
            logger.error("%s-%d: retention: %s", *tp, error)
            return
        if dropped:
            logger.info("%s-%d: retention drops %d segments", *tp, dropped)
        paths = partition.take_doomed()
        if paths:
            if partition.path is None:
                partition.log.purge_deleted()
            else:
                delay_ms = partition.config.file_delete_delay_ms
                self._doomed.append((now_ms + delay_ms, paths))

    def store_checkpoints(self) -> bool:
        """In a pool thread: writes what has changed since the last time. False when a file could
        not be written."""
        data_dir = self._manager.data_dir
        if data_dir is None:
            return True
        stored = True
        # One at a time, each from the state it finds: an older state must not come last.
        with self._storing:
            for name, offsets in self._changed().items():
                try:
                    store_offset_checkpoint(data_dir / name, offsets)
                    self._stored[name] = offsets
                except OSError as error:
                    # An old checkpoint is still true: it only makes the next start scan more.
                    logger.error("%s was not written: %s", name, error)
                    stored = False
        return stored

    def _changed(self) -> dict[str, Offsets]:
        recovery_points: Offsets = {}
        log_starts: Offsets = {}
        high_watermarks: Offsets = {}
        for partition in self._manager.all():
            tp = (partition.topic, partition.index)
            recovery_points[tp] = partition.flushed_offset
            high_watermarks[tp] = partition.high_watermark
            if partition.log_start_offset:
                log_starts[tp] = partition.log_start_offset
        now = {
            names.RECOVERY_POINT_CHECKPOINT: recovery_points,
            names.LOG_START_CHECKPOINT: log_starts,
            names.HIGH_WATERMARK_CHECKPOINT: high_watermarks,
        }
        return {name: offsets for name, offsets in now.items() if self._stored.get(name) != offsets}

    def _watch_space(self) -> None:
        data_dir = self._manager.data_dir
        if data_dir is None:
            return
        try:
            space = os.statvfs(data_dir)
        except OSError:
            return
        total = space.f_blocks * space.f_frsize
        free = space.f_bavail * space.f_frsize
        reserve = min(RESERVE_BYTES + total // 100, total // 20)
        self._manager.disk.set_full(
            f"{free >> 20} MiB are free, {reserve >> 20} MiB are kept in reserve"
            if free < reserve
            else ""
        )


def _remove(paths: list[str]) -> None:
    for path in paths:
        try:
            remove_if_exists(path, sync=False)
        except OSError as error:
            logger.error("%s was not removed: %s", path, error)
