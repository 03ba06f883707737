"""What the log manager does by the clock: one `tick` a second, work in small pieces.

Each piece looks at a bounded number of partitions per tick, and whatever waits for the disk goes to
the pool, so a tick never holds the loop up however many partitions there are.
"""

from __future__ import annotations

import heapq
import logging
import os
import threading
from collections import deque
from time import perf_counter_ns
from typing import TYPE_CHECKING

from kbroker.log.flusher import Flusher
from kbroker.log.host import NOT_CLEANED
from kbroker.log.open_files import OpenFiles
from kcore.errors import CoreError
from kcore.files import names
from kcore.files.atomic import remove_if_exists
from kcore.files.offset_checkpoint import store_offset_checkpoint

if TYPE_CHECKING:
    from kbroker.base.alarm import Arm
    from kbroker.base.clock import Clock
    from kbroker.base.config import BrokerConfig
    from kbroker.log.cleaner import LogCleaner
    from kbroker.log.manager import LogManager
    from kbroker.log.partition_log import PartitionLog

logger = logging.getLogger(__name__)

PARTITIONS_PER_TICK = 256
FIRST_RETENTION_MS = 30_000  # what came of age while the broker was down need not wait for long
RESERVE_BYTES = 64 << 20  # plus 1 % of the disk, but never more than 5 % of a small one
Offsets = dict[tuple[str, int], int]


class Housekeeping:
    __slots__ = (
        "_checkpoint_at_ms",
        "_cleaner",
        "_clock",
        "_doom_count",
        "_doomed",
        "_manager",
        "_retention_at_ms",
        "_retention_queue",
        "_settings",
        "_stored",
        "_storing",
        "flusher",
        "open_files",
        "tick_ns",
    )

    def __init__(
        self, manager: LogManager, settings: BrokerConfig, clock: Clock, arm: Arm | None
    ) -> None:
        self.tick_ns = 0  # what all ticks took of the loop's time
        self._manager = manager
        self._settings = settings
        self._clock = clock
        now_ms = clock.monotonic_ms()
        first_ms = min(FIRST_RETENTION_MS, settings.log_retention_check_interval_ms)
        self._retention_at_ms = now_ms + first_ms
        self._checkpoint_at_ms = now_ms + settings.log_flush_offset_checkpoint_interval_ms
        self._retention_queue: deque[PartitionLog] = deque()
        self._doomed: list[tuple[int, int, list[str]]] = []  # a heap: remove at, -, renamed files
        self._doom_count = 0
        self._stored: dict[str, Offsets] = {}
        self._storing = threading.Lock()
        self.open_files = OpenFiles()
        self.flusher = Flusher(
            settings.log_flush_scheduler_interval_ms,
            clock,
            arm,
            partitions=manager.all,
            request=manager.request_flush,
        )
        self._cleaner: LogCleaner | None = None

    @property
    def cleaner(self) -> LogCleaner:
        """There from the first partition on."""
        if self._cleaner is None:
            from kbroker.log.cleaner import LogCleaner

            manager = self._manager
            self._cleaner = LogCleaner(
                self._settings,
                self._clock,
                disk=manager.disk,
                partitions=manager.all,
                post=manager.post,
                on_swapped=self._doom,
                on_pause=self._retain,
                on_ended=self._on_cleaned,
                pool=manager.given_pool,
            )
        return self._cleaner

    def close(self) -> None:
        """Blocks until no thread of the cleaner works any more."""
        self.flusher.stop()
        if self._cleaner is not None:
            self._cleaner.close()

    def reconfigure(self, settings: BrokerConfig) -> None:
        """Intervals that run go on to their end; the next ones are the new ones."""
        self._settings = settings
        if self._cleaner is not None:
            self._cleaner.reconfigure(settings)

    def tick(self, wall_ms: int) -> None:
        began_ns = perf_counter_ns()
        self._tick(wall_ms, self._clock.monotonic_ms())
        self.tick_ns += perf_counter_ns() - began_ns

    def _tick(self, wall_ms: int, now_ms: int) -> None:
        self.flusher.look()
        if now_ms >= self._retention_at_ms:
            self._retention_at_ms = now_ms + self._settings.log_retention_check_interval_ms
            self._retention_queue = deque(self._manager.all())
        for _ in range(min(PARTITIONS_PER_TICK, len(self._retention_queue))):
            self._keep_house(self._retention_queue.popleft(), wall_ms)
        while self._doomed and self._doomed[0][0] <= now_ms:
            paths = heapq.heappop(self._doomed)[2]
            self._manager.submit(lambda paths=paths: _remove(paths))  # type: ignore[misc]
        if now_ms >= self._checkpoint_at_ms:
            self._checkpoint_at_ms = now_ms + self._settings.log_flush_offset_checkpoint_interval_ms
            self._manager.submit(self.store_checkpoints)
        if self._manager.by_name:
            self.cleaner.tick(wall_ms, now_ms)
        self.open_files.look(self._manager.all, self._manager.submit)
        self._watch_space()

    def make_room(self, why: str) -> None:
        """An append found no descriptor left. Written partitions can give theirs back once a sync
        has begun, so all are flushed now; whoever was refused tries again."""
        if self.open_files.run_out(why):
            for partition in self._manager.all():
                if partition.dirty:
                    self._manager.request_flush(partition)
            look = self.open_files.look
            self._manager.post(lambda: look(self._manager.all, self._manager.submit))

    def _keep_house(self, partition: PartitionLog, wall_ms: int) -> None:
        tp = (partition.topic, partition.index)
        if self._manager.get(*tp) is not partition:
            return
        partition.expire_producers(wall_ms)
        if self._manager.disk.failure:
            return
        if self.cleaner.busy(partition):
            self.cleaner.ask_turn(partition)  # or it would take the cleaner's segments away
        else:
            self._retain(partition)

    def _retain(self, partition: PartitionLog) -> None:
        tp = (partition.topic, partition.index)
        try:
            dropped = partition.apply_retention(self._clock.wall_ms())
        except (CoreError, OSError) as error:
            logger.error("%s-%d: retention: %s", *tp, error)
            return
        if dropped:
            logger.info("%s-%d: retention drops %d segments", *tp, dropped)
        self._doom(partition)

    def _doom(self, partition: PartitionLog) -> None:
        """Renamed files go after a while: a reader that knows their names may want to open them."""
        paths = partition.take_doomed()
        if not paths:
            return
        if partition.path is None:
            partition.log.purge_deleted()
            return
        at_ms = self._clock.monotonic_ms() + partition.config.file_delete_delay_ms
        self._doom_count += 1
        heapq.heappush(self._doomed, (at_ms, self._doom_count, paths))

    def _on_cleaned(self, partition: PartitionLog) -> None:
        """A round is over: retention has waited for it, and the checkpoint need not wait."""
        self._keep_house(partition, self._clock.wall_ms())
        self._manager.submit(self.store_checkpoints)

    def know_stored(self, stored: dict[str, Offsets]) -> None:
        """What the checkpoint files say before the first of them is written."""
        self._stored = {name: offsets for name, offsets in stored.items() if offsets}

    def disown(self, tp: tuple[str, int]) -> None:
        """A partition of this name is about to be made: what the files say of an older one must
        not be taken for it after a crash. Blocks, in the rare case that there is something."""
        if any(tp in offsets for offsets in self._stored.values()):
            self.store_checkpoints()

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
                    store_offset_checkpoint(os.path.join(data_dir, name), offsets)
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
        cleaned: Offsets = {}
        for partition in self._manager.all():
            tp = (partition.topic, partition.index)
            recovery_points[tp] = partition.flushed_offset
            high_watermarks[tp] = partition.high_watermark
            if partition.log_start_offset:
                log_starts[tp] = partition.log_start_offset
            if partition.states.cleaned_offset != NOT_CLEANED:
                cleaned[tp] = partition.states.cleaned_offset
        now = {
            names.RECOVERY_POINT_CHECKPOINT: recovery_points,
            names.LOG_START_CHECKPOINT: log_starts,
            names.HIGH_WATERMARK_CHECKPOINT: high_watermarks,
            names.CLEANER_CHECKPOINT: cleaned,
        }
        # A file that was never there says as much as an empty one.
        before = self._stored
        return {
            name: offsets
            for name, offsets in now.items()
            if before.get(name) != offsets
            and (offsets or name in before or name != names.CLEANER_CHECKPOINT)
        }

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
            else "",
            free,
        )


def _remove(paths: list[str]) -> None:
    for path in paths:
        try:
            remove_if_exists(path, sync=False)
        except OSError as error:
            logger.error("%s was not removed: %s", path, error)
