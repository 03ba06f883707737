"""`LogCleaner`: which partition is compacted next, and the steps of that which are the loop's.

A round is planned here, its two passes run in threads of the cleaner's own (`cleaner_round.py`:
a large partition must not stand in the way of a flush), and each merged segment comes back here to
be swapped in, which is a few renames. Up to `log.cleaner.threads` partitions are cleaned at a time,
each with its share of `log.cleaner.dedupe.buffer.size`.

Retention has its turn between the segments of a round, and the round goes on with what is left.
While the disk is below its reserve only what needs little of what is free is cleaned: the copy is
there for a while beside what it was made from.

Nothing is cleaned of a partition that was deleted, truncated, closed or configured otherwise
meanwhile. One whose bytes cannot be cleaned (damage, a batch that does not inflate) is left alone
until the broker starts again, is logged once, and counts in the metrics.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from kbroker.log.compaction import CleanRange, first_dirty_offset, plan_range
from kbroker.log.config import INT64_MAX
from kcore.errors import CoreError, DamagedRange, DiskFull, StorageFailed, TooManyFiles

if TYPE_CHECKING:
    from kbroker.base.clock import Clock
    from kbroker.base.config import BrokerConfig
    from kbroker.log.cleaner_round import CleanRound
    from kbroker.log.host import DiskState
    from kbroker.log.partition_log import PartitionLog
    from kcore._native.swap import Swap

logger = logging.getLogger(__name__)

# What a disk or a process runs out of comes back.
_PASSING_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM)

RATE_UNBOUNDED = 1e15
PAUSE_MS_MAX = 1000

Key = tuple[bytes, int]


class Stopped(Exception):
    """The log has moved on: what was done so far is dropped, and nothing is wrong."""


class Throttle:
    """Bytes a second over everything the cleaner reads and writes. `wait(seconds)` sleeps."""

    def __init__(self, now_ms: Callable[[], int], wait: Callable[[float], object]) -> None:
        self._now_ms = now_ms
        self._wait = wait
        self._free_at_ms = 0.0
        self._lock = threading.Lock()
        self.bytes_per_second = RATE_UNBOUNDED

    def spend(self, size: int) -> None:
        if self.bytes_per_second >= RATE_UNBOUNDED:
            return
        with self._lock:
            now_ms = self._now_ms()
            self._free_at_ms = max(self._free_at_ms, now_ms) + 1000 * size / self.bytes_per_second
            delay_ms = self._free_at_ms - now_ms
        # In pieces: a rate that is altered, or a broker that stops, is not slept through.
        rate = self.bytes_per_second
        while delay_ms >= 1 and self.bytes_per_second == rate:
            piece_ms = min(delay_ms, PAUSE_MS_MAX)
            if self._wait(piece_ms / 1000) is True:
                return
            delay_ms -= piece_ms


class _Candidate(NamedTuple):
    partition: PartitionLog
    span: CleanRange


class _Running(NamedTuple):
    partition: PartitionLog
    round: CleanRound
    started_ms: int


class CleanerStats:
    """Plain numbers, read when metrics are scraped."""

    __slots__ = (
        "bytes_kept", "bytes_read", "last_ended_ms", "last_recopy_percent", "max_clean_ms",
        "max_delay_ms", "max_dirty_percent", "records_kept", "records_read", "rounds",
    )  # fmt: skip

    def __init__(self) -> None:
        self.rounds = 0
        self.bytes_read = 0
        self.bytes_kept = 0
        self.records_read = 0
        self.records_kept = 0
        self.last_recopy_percent = 0.0  # bytes out per bytes in, of the last round
        self.max_clean_ms = 0  # the longest round so far
        self.max_dirty_percent = 0.0  # of the dirtiest partition, when last looked
        self.max_delay_ms = 0  # by how much max.compaction.lag.ms is exceeded, when last looked
        self.last_ended_ms = -1


class LogCleaner:
    """`post(fn)` runs fn on the loop; `on_swapped`, `on_pause` and `on_ended` are told of a
    partition whose segments were swapped, whose turn (`ask_turn`) it is, whose round is over.
    `pool`: for tests."""

    def __init__(
        self,
        settings: BrokerConfig,
        clock: Clock,
        *,
        disk: DiskState,
        partitions: Callable[[], list[PartitionLog]],
        post: Callable[[Callable[[], None]], object],
        on_swapped: Callable[[PartitionLog], None],
        on_pause: Callable[[PartitionLog], None],
        on_ended: Callable[[PartitionLog], None],
        pool: Executor | None = None,
    ) -> None:
        self.stats = CleanerStats()
        self.uncleanable: dict[Key, str] = {}
        self.settings = settings
        self._clock = clock
        self._disk = disk
        self._partitions = partitions
        self._post = post
        self._on_swapped = on_swapped
        self._on_ended = on_ended
        self._on_pause = on_pause
        self._pool = pool
        self._pool_threads = 0
        self._own_pool = pool is None
        self._old_pools: list[Executor] = []
        self._asked: set[Key] = set()
        self._running: dict[Key, _Running] = {}
        # A partition made again in the same directory waits for the old one's thread to end.
        self._busy_paths: set[str] = set()
        self._next_look_ms = clock.monotonic_ms()
        self._closing = threading.Event()
        self._throttle = Throttle(clock.monotonic_ms, self._closing.wait)

    # What others ask and tell

    def busy(self, partition: PartitionLog) -> bool:
        return partition.key in self._running

    def ask_turn(self, partition: PartitionLog) -> None:
        """Has `on_pause` called between two steps of the round that runs."""
        self._asked.add(partition.key)

    def stop(self, partition: PartitionLog) -> None:
        """The partition is about to change: what is under way is given up."""
        running = self._running.get(partition.key)
        if running is not None:
            running.round.stop.set()

    def forget(self, partition: PartitionLog) -> None:
        """It was deleted."""
        self.stop(partition)
        self.uncleanable.pop(partition.key, None)

    def close(self) -> None:
        """Blocks until no thread works any more."""
        self._closing.set()
        for running in list(self._running.values()):
            running.round.stop.set()
        if self._own_pool and self._pool is not None:
            self._old_pools.append(self._pool)
        for pool in self._old_pools:
            pool.shutdown(wait=True)

    # Choosing

    def reconfigure(self, settings: BrokerConfig) -> None:
        """An altered rate and number of threads hold at once, and partitions that were given up get
        another try: an altered buffer may be what they lacked."""
        self.settings = settings
        more = settings.log_cleaner_threads > self._pool_threads
        if more and self._own_pool and self._pool is not None:
            self._pool.shutdown(wait=False)  # what runs there goes on, the next steps do not
            self._old_pools.append(self._pool)
            self._pool = None
        self._throttle.bytes_per_second = settings.log_cleaner_io_max_bytes_per_second
        self.uncleanable.clear()

    def tick(self, wall_ms: int, now_ms: int) -> None:
        if now_ms >= self._next_look_ms:
            self._start_some(wall_ms, now_ms)

    def _start_some(self, wall_ms: int, now_ms: int) -> None:
        threads = self.settings.log_cleaner_threads
        if not self.settings.log_cleaner_enable or self._closing.is_set():
            return
        while len(self._running) < threads:
            found = self._dirtiest(wall_ms)
            if found is None:
                self._next_look_ms = now_ms + self.settings.log_cleaner_backoff_ms
                return
            self._start(found, wall_ms, now_ms)

    def _dirtiest(self, wall_ms: int) -> _Candidate | None:
        best: _Candidate | None = None
        stats = self.stats
        stats.max_dirty_percent = stats.max_delay_ms = 0
        for partition in self._partitions():
            if not partition.config.compacts or partition.key in self._running:
                continue
            if partition.key in self.uncleanable or partition.log.path in self._busy_paths:
                continue
            if partition.failure or self._disk.failure:
                continue
            try:
                span, delay_ms = self._look(partition, wall_ms)
            except (CoreError, OSError) as error:
                self._failed(partition, error)
                continue
            stats.max_dirty_percent = max(stats.max_dirty_percent, 100 * span.ratio)
            stats.max_delay_ms = max(stats.max_delay_ms, delay_ms)
            if span.dirty_bytes == 0 or not self._has_room(span):
                continue
            worth_it = delay_ms > 0 or span.ratio > partition.config.min_dirty_ratio
            if worth_it and (best is None or span.ratio > best.span.ratio):
                best = _Candidate(partition, span)
        return best

    def _has_room(self, span: CleanRange) -> bool:
        """Half of what is free must do for the worst, when all of it is there twice."""
        disk = self._disk
        return not disk.full or span.clean_bytes + span.dirty_bytes <= disk.free_bytes // 2

    def _look(self, partition: PartitionLog, wall_ms: int) -> tuple[CleanRange, int]:
        """What is dirty, and for how long the oldest of it has waited too long."""
        log, config = partition.log, partition.config
        clean_until_ms = wall_ms - config.max_compaction_lag_ms
        bounded = config.max_compaction_lag_ms < INT64_MAX
        if bounded and not self._disk.full:
            oldest_ms = _first_timestamp(partition, log.active_offset)
            if 0 <= oldest_ms < clean_until_ms:
                partition.roll()  # or an idle partition would never keep the promise
        first_dirty = first_dirty_offset(
            partition.states.cleaned_offset, log.log_start_offset, log.next_offset
        )
        sizes = log.sizes()
        if first_dirty >= sizes[-1][0]:
            return CleanRange(first_dirty, first_dirty, log.size_bytes - sizes[-1][2], 0), 0
        young_offset = None
        if config.min_compaction_lag_ms > 0:
            young_offset = _first_young(partition, first_dirty, wall_ms)
        span = plan_range(
            sizes,
            first_dirty=first_dirty,
            last_stable_offset=partition.last_stable_offset,
            young_offset=young_offset,
        )
        delay_ms = 0
        if bounded:
            for base_offset, next_offset, size in sizes[:-1]:
                if size and next_offset > first_dirty:
                    oldest_ms = _first_timestamp(partition, base_offset)
                    if 0 < oldest_ms < clean_until_ms:
                        delay_ms = max(delay_ms, clean_until_ms - oldest_ms)
        return span, delay_ms

    # One round

    def _start(self, found: _Candidate, wall_ms: int, now_ms: int) -> None:
        from kbroker.log.cleaner_round import CleanRound  # a start, and many a broker, needs none

        partition, span = found
        settings = self.settings
        threads = max(1, settings.log_cleaner_threads)
        self._throttle.bytes_per_second = settings.log_cleaner_io_max_bytes_per_second
        round_ = CleanRound(
            partition.log,
            span,
            partition.config,
            aborted=partition.states.txns.rows_between(0, INT64_MAX),
            producers=partition.states.producers.last_offsets(),
            now_ms=wall_ms,
            map_bytes=settings.log_cleaner_dedupe_buffer_size // threads,
            load_factor=settings.log_cleaner_io_buffer_load_factor,
            read_bytes=settings.log_cleaner_io_buffer_size // threads // 2,
            throttle=self._throttle,
        )
        running = _Running(partition, round_, now_ms)
        self._running[partition.key] = running
        self._busy_paths.add(partition.log.path)
        self._submit(running, round_.build_map, lambda _: self._next_group(running))

    def _submit(
        self, running: _Running, job: Callable[[], Swap | None],
        then: Callable[[Swap | None], None],
    ) -> None:  # fmt: skip
        def run() -> None:
            error: Exception | None = None
            result = None
            try:
                result = job()
            except Exception as raised:
                error = raised
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._post(lambda: back(result, error))

        def back(result: Swap | None, error: Exception | None) -> None:
            if error is not None:
                self._ended(running, error)
                return
            try:
                then(result)
            except Exception as failed:
                self._ended(running, failed)

        try:
            self._executor().submit(run)
        except RuntimeError:  # shut down
            self._ended(running, Stopped())

    def _executor(self) -> Executor:
        if self._pool is None:
            self._pool_threads = max(1, self.settings.log_cleaner_threads)
            self._pool = ThreadPoolExecutor(self._pool_threads, "kcore-cleaner")
        return self._pool

    def _next_group(self, running: _Running) -> None:
        partition, round_ = running.partition, running.round
        pointless = partition.deleted or not partition.config.compacts or round_.overtaken
        if self._closing.is_set() or pointless:
            self._ended(running, Stopped())
            return
        if partition.key in self._asked:
            self._asked.discard(partition.key)
            self._on_pause(partition)
            round_.forget_gone()
        if not round_.groups:
            partition.states.cleaned_offset = round_.end_offset
            self._ended(running, None)
            return
        group = round_.groups.pop(0)

        def swapped(swap: Swap | None) -> None:
            if swap is not None:
                self._swap(running, swap)
            self._next_group(running)

        self._submit(running, lambda: round_.clean_group(group), swapped)

    def _swap(self, running: _Running, swap: Swap) -> None:
        """On the loop: renames, no waiting for the disk."""
        partition, round_ = running.partition, running.round
        renamed = None if self._closing.is_set() else swap.finish()
        if renamed is None:
            raise _moved_on(partition)
        states = partition.states
        states.replace_aborts(partition.log, swap.bases[0], swap.next_offset, round_.take_rows())
        partition.doomed_paths += renamed
        self._on_swapped(partition)

    def _ended(self, running: _Running, error: Exception | None) -> None:
        partition, round_ = running.partition, running.round
        self._running.pop(partition.key, None)
        self._asked.discard(partition.key)
        self._busy_paths.discard(partition.log.path)
        now_ms = self._clock.monotonic_ms()
        stats = self.stats
        stats.bytes_read += round_.bytes_read
        stats.bytes_kept += round_.bytes_kept
        stats.records_read += round_.records_read
        stats.records_kept += round_.records_kept
        stats.last_ended_ms = now_ms
        if error is None:
            stats.rounds += 1
            stats.max_clean_ms = max(stats.max_clean_ms, now_ms - running.started_ms)
            if round_.bytes_read:
                stats.last_recopy_percent = 100 * round_.bytes_kept / round_.bytes_read
            logger.info(
                "%s-%d: compacted up to offset %d: %d of %d records, %d of %d bytes stay, %d ms",
                partition.topic, partition.index, round_.end_offset, round_.records_kept,
                round_.records_read, round_.bytes_kept, round_.bytes_read,
                now_ms - running.started_ms,
            )  # fmt: skip
        else:
            self._next_look_ms = now_ms + self.settings.log_cleaner_backoff_ms
            if not isinstance(error, Stopped):
                self._failed(partition, error)
        if self._closing.is_set() or partition.deleted:
            return
        self._on_ended(partition)
        if error is None:
            self._start_some(self._clock.wall_ms(), now_ms)

    def _failed(self, partition: PartitionLog, error: Exception) -> None:
        """What goes away by itself is tried again after the backoff; bytes do not heal."""
        if partition.deleted:
            return
        passing = isinstance(error, DiskFull | TooManyFiles | MemoryError) or (
            isinstance(error, OSError) and error.errno in _PASSING_ERRNOS
        )
        if passing:
            logger.warning("%s-%d: compaction: %s", partition.topic, partition.index, error)
        elif isinstance(error, OSError | StorageFailed):
            partition.fail(f"compaction: {error}")
        else:
            self._give_up(partition, error)

    def _give_up(self, partition: PartitionLog, error: Exception) -> None:
        self.uncleanable[partition.key] = str(error) or repr(error)
        logger.error(
            "%s-%d is not compacted until the next start: %s",
            partition.topic, partition.index, error,
            exc_info=not isinstance(error, CoreError | OSError),
        )  # fmt: skip


def _moved_on(partition: PartitionLog) -> Stopped:
    return Stopped(f"{partition.topic}-{partition.index} has moved on")


def _first_timestamp(partition: PartitionLog, base_offset: int) -> int:
    """Largest timestamp of the first batch of a segment; -1 when there is none."""
    log = partition.log
    try:
        span = log.read(max(base_offset, log.log_start_offset), 1)
    except DamagedRange:
        return -1
    from kcore import inspect  # a start needs none

    return -1 if span is None else inspect(span, check_crc=False).max_timestamp


def _first_young(partition: PartitionLog, first_dirty: int, wall_ms: int) -> int | None:
    """Base of the first dirty segment with a record younger than min.compaction.lag.ms."""
    young_ms = wall_ms - partition.config.min_compaction_lag_ms
    for segment in partition.log.segments()[:-1]:
        if segment.next_offset > first_dirty and segment.max_timestamp > young_ms:
            return segment.base_offset
    return None
