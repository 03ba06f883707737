"""One partition: a `kcore.Log` and what only a Kafka partition has on top of one.

Offsets, all exclusive ends:

    log_start_offset <= last_stable_offset <= high_watermark <= next_offset

The high watermark bounds what consumers see and what is acknowledged. On a single node it follows
the append at once (`flush.policy=os`) or the end of a grouped fdatasync (`sync`); `on_advance` is
called each time it moves, which is how parked requests wake.

Everything runs on the broker's loop, except `flush_now`, which a pool thread calls. Appends never
raise for bad input or a bad disk: they answer an `AppendOutcome`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from kbroker.base import errors
from kbroker.base.errors import KafkaError
from kbroker.log.admit import converted, refuse_unfit
from kbroker.log.config import INT64_MAX, PartitionConfig
from kbroker.log.host import PartitionHost
from kbroker.log.markers import parse_marker
from kbroker.log.outcome import AppendOutcome, refused, refused_by_engine
from kbroker.log.producers import NO_OFFSET, ProducerStates, SeenBatch
from kbroker.log.retention import plan_retention
from kbroker.log.states import PartitionStates, store_snapshot
from kcore import AppendResult, Log, LogConfig, inspect
from kcore._native.leader import Leader, LeaderRules, append_produced
from kcore.errors import CoreError, DiskFull, OffsetOutOfRange, StorageFailed, TooManyFiles

if TYPE_CHECKING:
    from kcore import BatchInfo, FetchSpan, TimestampOffset

logger = logging.getLogger(__name__)

READ_UNCOMMITTED = 0
READ_COMMITTED = 1

# Topics that only coordinators write to.
INTERNAL_TOPICS = frozenset({"__consumer_offsets", "__transaction_state", "__share_group_state"})


class PartitionLog(Leader):
    # fmt: off
    __slots__ = (
        "_host", "_opened_offset", "_sync", "closed_durable", "config", "doomed_paths",
        "flush_in_flight", "index", "path", "states", "told_damage", "topic", "topic_id",
    )
    # fmt: on
    producers: ProducerStates

    def __init__(
        self,
        log: Log,
        states: PartitionStates,
        *,
        topic: str,
        index: int,
        topic_id: bytes,
        config: PartitionConfig,
        host: PartitionHost,
        path: str | None,
        leader_epoch: int,
    ) -> None:
        # The engine's log, for reads and tools; appending to it directly skips every rule.
        self.log = log
        self.states = states
        self.producers = states.producers
        self._host = host
        self.disk = host.disk
        self.on_advance = host.on_advance
        self._opened_offset = log.next_offset
        self.closed_durable = False
        self.topic = topic
        self.index = index
        self.topic_id = topic_id
        self.internal = topic in INTERNAL_TOPICS
        self.key = (topic_id, index)  # what requests about this partition park under
        self.path = path
        self.leader_epoch = leader_epoch
        self.failure = ""
        self.flush_in_flight = False
        self.told_damage: set[int] = set()  # damaged ranges that were logged, by first offset
        self.doomed_paths: list[str] = []  # renamed files whose time to go will come
        self._apply_config(config)
        # What recovery kept is as safe as it gets: a single replica serves all of it (3.8).
        self.high_watermark = log.next_offset
        self.last_stable_offset = log.next_offset
        self._settle_stable()

    @classmethod
    def open(
        cls,
        path: str,
        *,
        topic: str,
        index: int,
        topic_id: bytes,
        config: PartitionConfig,
        host: PartitionHost,
        leader_epoch: int = 0,
        clean: bool = False,
        recovery_point: int = 0,
        log_start_offset: int | None = None,
        fresh: bool = False,
    ) -> PartitionLog:
        """In memory when `host.ops` is. `fresh`: the directory was just made, and is empty."""
        log = Log.open(
            path,
            config=LogConfig(
                **config.log_settings(), append_mode=host.append_mode, clock_ms=host.clock_ms
            ),
            ops=host.ops,
            clean=clean,
            recovery_point=recovery_point,
            log_start_offset=log_start_offset,
            fresh=fresh,
            owned=True,
        )
        dir_path = path if host.ops is None else None
        try:
            states = PartitionStates(dir_path, host.producers_max)
            if not fresh:
                states.load(log, host.clock_ms())
            states.epochs.assign(leader_epoch, log.next_offset)
        except BaseException:
            log.close()
            raise
        for note in states.notes:
            logger.warning("%s-%d: %s", topic, index, note)
        partition = cls(
            log,
            states,
            topic=topic,
            index=index,
            topic_id=topic_id,
            config=config,
            host=host,
            path=dir_path,
            leader_epoch=leader_epoch,
        )
        log.rest(used_too=True)  # a node may have more partitions than it may open files
        if partition._sync and log.flushed_offset < log.next_offset:
            host.request_flush(partition)
        return partition

    # Offsets

    @property
    def log_start_offset(self) -> int:
        return self.log.log_start_offset

    @property
    def next_offset(self) -> int:
        return self.log.next_offset

    @property
    def flushed_offset(self) -> int:
        return self.log.next_offset if self.closed_durable else self.log.flushed_offset

    @property
    def size_bytes(self) -> int:
        return self.log.size_bytes

    # Appending

    def append_as_leader(
        self,
        span: memoryview | bytearray,
        *,
        now_ms: int,
        required_acks: int = -1,
        txn_verified: bool = False,
    ) -> AppendOutcome:
        """Appends one batch of a client; `span` is stamped in place. Never raises for what a
        client or a disk can do. `txn_verified`: a coordinator has this partition in the batch's
        transaction; without that a transactional batch is refused."""
        if self.disk.refuses or self.failure:
            return refused(errors.KAFKA_STORAGE_ERROR, self.refuses)
        log = self.log
        info: BatchInfo | None = None
        append_time_ms = -1
        try:
            result = append_produced(self, span, self.rules, self.producers, now_ms)
            if not isinstance(result, AppendResult):
                if isinstance(result, SeenBatch):
                    return self._seen(result)
                # Sound, and not appended yet: it wants more than the engine's checks.
                info = result
                config = self.config
                refuse_unfit(info, config, txn_verified)
                if info.producer_id >= 0:
                    seen = self.producers.check(info)
                    if seen is not None:
                        return self._seen(seen)
                data, append_time_ms = converted(span, info, config, now_ms)
                result = log.append(
                    data,
                    leader_epoch=self.leader_epoch,
                    append_time_ms=append_time_ms,
                    verify=False,
                )
        except KafkaError as error:
            return refused(error.code, error.message)
        except CoreError as error:
            return self._refused_by_engine(error)
        base_offset = result.base_offset
        next_offset = result.last_offset + 1
        if result.rolled:
            self._after_roll(base_offset)
        if info is not None and info.producer_id >= 0:
            self.producers.append(info, base_offset, now_ms)
            if info.is_transactional:
                self.stable_follows = False
        self.after_append(next_offset)
        return AppendOutcome(
            0, base_offset, next_offset, append_time_ms, log.log_start_offset,
            next_offset - base_offset, result.size if info is None else info.size,
        )  # fmt: skip

    def _seen(self, seen: SeenBatch) -> AppendOutcome:
        """The batch is in the log already."""
        return AppendOutcome(
            0, seen.base_offset, seen.last_offset + 1, -1, self.log.log_start_offset
        )

    def append_marker(self, batch: bytes | bytearray, *, now_ms: int) -> AppendOutcome:
        if self.disk.refuses or self.failure:
            return refused(errors.KAFKA_STORAGE_ERROR, self.refuses)
        data = bytearray(batch)  # stamped in place
        try:
            info = inspect(data)
            marker = parse_marker(data) if info.is_control else None
            if marker is None:
                raise KafkaError(errors.INVALID_RECORD, "the batch is not a transaction marker")
            self.producers.check_marker(
                info.producer_id, info.producer_epoch, marker.coordinator_epoch
            )
            result = self.log.append(data, leader_epoch=self.leader_epoch, verify=False)
        except KafkaError as error:
            return refused(error.code, error.message)
        except CoreError as error:
            return self._refused_by_engine(error)
        base_offset = result.base_offset
        if result.rolled:
            self._after_roll(base_offset)
        self.stable_follows = False
        completed = self.producers.append_marker(
            info.producer_id,
            info.producer_epoch,
            marker.coordinator_epoch,
            base_offset,
            marker.aborted,
            now_ms,
        )
        if completed is not None:
            row = self.states.txns.complete(completed, self.producers.first_open_offset)
            if row is not None:
                try:
                    self.states.write_abort(self.log.segments()[-1].base_offset, row)
                except OSError as error:
                    self.disk.fail(f"{self.topic}-{self.index}: transaction index: {error}")
        self.after_append(result.last_offset + 1)
        return AppendOutcome(
            0, base_offset, result.last_offset + 1, -1, self.log.log_start_offset, 0, info.size
        )

    def after_append(self, next_offset: int) -> None:
        if self._sync:
            self._host.request_flush(self)
            return
        self.high_watermark = next_offset
        if self.stable_follows:
            self.last_stable_offset = next_offset
        else:
            self._settle_stable()
        if next_offset >= self.flush_at_offset:
            self.flush_at_offset = next_offset + self.config.flush_messages
            self._host.request_flush(self)
        self.on_advance(self)

    def roll(self) -> None:
        """Ends the active segment, if it has anything."""
        if self.log.roll():
            self._after_roll(self.log.next_offset)

    def _after_roll(self, base_offset: int) -> None:
        """A new segment starts at `base_offset`: note who had produced what below it."""
        due = self.states.take_snapshot(base_offset)
        if due is not None:
            path, entries = due
            self._host.submit(lambda: store_snapshot(path, entries))

    @property
    def touched(self) -> bool:
        """Whether there may be something to sync."""
        return not self.log.recovery.clean or self.log.next_offset != self._opened_offset

    @property
    def refuses(self) -> str:
        """Why appends are refused, "" when they are not."""
        disk = self.disk
        return self.failure or disk.failure or disk.full

    def _refused_by_engine(self, error: CoreError) -> AppendOutcome:
        if isinstance(error, StorageFailed):
            self.fail(str(error))
        elif isinstance(error, TooManyFiles):
            self._host.on_exhausted(str(error))
        elif isinstance(error, DiskFull):
            logger.warning("%s-%d: %s", self.topic, self.index, error)
        return refused_by_engine(error)

    # Flushing

    def flush_now(self) -> None:
        self.log.flush()  # in a pool thread; CoreError or OSError when the disk refuses

    def on_flushed(self) -> None:
        if not self._sync:
            return
        flushed_offset = self.log.flushed_offset
        if flushed_offset > self.high_watermark:
            self.high_watermark = flushed_offset
            self._settle_stable()
            self.on_advance(self)

    def fail(self, why: str) -> None:
        """A write or sync failed: no more acknowledgements from this disk, and those that wait
        are told (D3)."""
        self.failure = self.failure or why
        self.disk.fail(f"{self.topic}-{self.index}: {why}")
        self.on_advance(self)

    @property
    def waits_for_flush(self) -> bool:
        """An acknowledgement waits for the next fdatasync."""
        return self._sync and self.log.flushed_offset < self.log.next_offset

    @property
    def dirty(self) -> bool:
        return self.log.flushed_offset < self.log.next_offset

    # Reading

    def read(
        self,
        offset: int,
        max_bytes: int,
        *,
        isolation: int = READ_UNCOMMITTED,
        one_at_least: bool = True,
    ) -> FetchSpan | None:
        """Whole batches below the high watermark (or the last stable offset), from the one that
        holds `offset`. None: nothing there yet. OffsetOutOfRange, DamagedRange."""
        bound = self.last_stable_offset if isolation else self.high_watermark
        if offset >= bound:
            if offset > self.log.next_offset:
                raise OffsetOutOfRange(
                    "the offset is above the end of the partition",
                    expected=f"at most {self.log.next_offset}",
                    found=offset,
                )
            if offset >= self.log.log_start_offset:
                return None
        return self.log.read(offset, max_bytes, max_offset=bound, one_at_least=one_at_least)

    def aborted_in(self, start_offset: int, end_offset: int) -> list[tuple[int, int]]:
        """(producer id, first offset) of aborted transactions that touch [start, end)."""
        return self.states.txns.aborted_in(start_offset, end_offset)

    def offset_for_timestamp(
        self, timestamp_ms: int, *, isolation: int = READ_UNCOMMITTED
    ) -> TimestampOffset | None:
        """The first visible record with that timestamp or a later one."""
        bound = self.last_stable_offset if isolation else self.high_watermark
        return self.log.offset_for_timestamp(timestamp_ms, max_offset=bound)

    def offset_for_max_timestamp(self) -> TimestampOffset | None:
        return self.log.max_timestamp_offset()

    def end_offset_for_epoch(self, epoch: int) -> tuple[int, int]:
        """(epoch, end offset) of the largest epoch <= the one asked for, (-1, -1) if unknown."""
        return self.states.epochs.end_offset_for(epoch, self.log.next_offset)

    def epoch_at(self, offset: int) -> int:
        return self.states.epochs.epoch_at(offset)

    # Changes from above

    def become_leader(self, leader_epoch: int) -> None:
        """A new epoch starts where the log ends, before its first append (4.1)."""
        if leader_epoch > self.leader_epoch:
            self.states.epochs.assign(leader_epoch, self.log.next_offset)
            self.leader_epoch = leader_epoch
            self.on_advance(self)

    def configure(self, config: PartitionConfig) -> None:
        self._apply_config(config)
        self.log.configure(**config.log_settings())
        if self.high_watermark < self.next_offset and not (self._sync or self.disk.failure):
            self.after_append(self.log.next_offset)  # no acknowledgement waits any more

    def _apply_config(self, config: PartitionConfig) -> None:
        self.config = config
        self.rules = LeaderRules(
            max_bytes=config.max_message_bytes,
            segment_bytes=config.segment_bytes,
            timestamp_after_max_ms=config.timestamp_after_max_ms,
            need_keys=config.compacts,
            plain=config.stores_as_sent,
        )
        self._sync = config.flush_sync or config.flush_messages <= 1
        self.acks_at_once = not self._sync
        self.flush_at_offset = min(INT64_MAX, self.log.next_offset + config.flush_messages)

    def delete_records(self, before_offset: int) -> int:
        """Moves the log start up and returns it. KafkaError when beyond the high watermark."""
        if before_offset > self.high_watermark or before_offset < 0:
            raise KafkaError(
                errors.OFFSET_OUT_OF_RANGE,
                f"offset {before_offset} is outside of 0..{self.high_watermark}",
            )
        if before_offset > self.log.log_start_offset:
            bases = [segment.base_offset for segment in self.log.segments()]
            self.doomed_paths += self.log.truncate_prefix(before_offset)
            self._dropped(bases)
            self.on_advance(self)
        return self.log.log_start_offset

    def truncate(self, next_offset: int) -> None:
        """Cuts the log's end: a follower that diverged. State is loaded as if just opened."""
        self.log.truncate(next_offset)
        self.states.load(self.log, self._host.clock_ms())
        self.producers = self.states.producers
        self.high_watermark = min(self.high_watermark, self.log.next_offset)
        self._settle_stable()
        self.on_advance(self)

    def _settle_stable(self) -> None:
        first_open_offset = self.producers.first_open_offset
        txns = self.states.txns
        stable = txns.stable_below(self.high_watermark, first_open_offset)
        # Without an open transaction the two offsets move together, and appends skip all this.
        self.stable_follows = first_open_offset == NO_OFFSET and txns.settled
        self.last_stable_offset = max(stable, min(self.log.log_start_offset, self.high_watermark))

    def apply_retention(self, now_ms: int) -> int:
        """Drops the segments that may go; how many. Their renamed files are in `doomed_paths`."""
        config = self.config
        log = self.log
        if not (config.deletes or log.log_start_offset):
            return 0
        segments = log.segments()
        plan = plan_retention(
            segments,
            log_start_offset=log.log_start_offset,
            high_watermark=self.high_watermark,
            now_ms=now_ms,
            deletes=config.deletes,
            retention_ms=config.retention_ms,
            retention_bytes=config.retention_bytes,
        )
        if plan.segment_count == 0:
            return 0
        if plan.roll_first:
            self.roll()
        self.doomed_paths += log.delete_segments_below(plan.delete_below)
        self._dropped([segment.base_offset for segment in segments])
        self.on_advance(self)
        return plan.segment_count

    def _dropped(self, bases_before: list[int]) -> None:
        """The log start has moved up; segments that began at some of these offsets are gone."""
        kept = {segment.base_offset for segment in self.log.segments()}
        gone = [base_offset for base_offset in bases_before if base_offset not in kept]
        self.states.truncate_from_start(self.log, gone)
        self._settle_stable()

    def take_doomed(self) -> list[str]:
        paths, self.doomed_paths = self.doomed_paths, []
        return paths

    def expire_producers(self, now_ms: int) -> int:
        return self.producers.expire(now_ms, self._host.producer_expiration_ms)

    def close(self, *, sync: bool = True) -> None:
        """Notes the producers, trims, syncs if `touched` and closes. Idempotent. Without `sync` the
        caller sets `closed_durable` once it is."""
        if self.states.needs_snapshot(self.log.size_bytes):
            due = self.states.take_snapshot(self.log.next_offset)
            if due is not None:
                store_snapshot(*due)
        self.log.close(sync=sync and self.touched)
        self.closed_durable = sync
