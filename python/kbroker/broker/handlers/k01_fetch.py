"""Fetch (1), versions 4 to 18.

* v4 isolation level and aborted transactions, v5 log start offset, v7 sessions (KIP-227,
  `broker/fetch_sessions.py`), v9 leader epochs (KIP-320), v10 zstd, v11 rack ids (answered -1:
  there are no followers to prefer), v12 last fetched epoch (answered with the diverging epoch),
  v13 topic ids, v15 replica state, v16 node endpoints, v17 replica directory, v18 high watermark
  of a follower.
* Reads whole batches from the one that holds the fetch offset, up to the high watermark, or the
  last stable offset under `read_committed`. The first partition that has anything gives at least
  one batch, however large; the others fit into what is left of max_bytes.
* Answers at once when there are min_bytes, an error, a diverging epoch, more of the same partition
  to fetch, or nothing to wait for; else parks until an append (or anything else that changes a
  partition) or max_wait_ms.
* A fetch that claims to be a replica gets CLUSTER_AUTHORIZATION_FAILED: followers have no listener
  here, and a forged one must not look past the high watermark.
* Damaged ranges answer CORRUPT_MESSAGE for their offsets only (docs/nonobvious.md).
"""

from __future__ import annotations

import logging
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from kbroker.base import errors
from kbroker.broker.context import RequestContext
from kbroker.broker.fetch_sessions import FetchPlan, Wanted
from kbroker.broker.purgatory import Outcome
from kbroker.broker.registry import handles_raw
from kbroker.wire import apis
from kcore._native.fetch_codec import FetchResult, build_fetch, parse_fetch
from kcore.errors import CoreError, DamagedRange, OffsetOutOfRange

if TYPE_CHECKING:
    from kbroker.log.partition_log import PartitionLog
    from kcore._native.fetch_codec import FetchRequest

log = logging.getLogger("kbroker.fetch")

FETCH_BYTES_MAX = 55 << 20
PARTITION_BYTES_MAX = 16 << 20
MAX_WAIT_MS = 3_600_000  # a client that wants to wait longer may ask again

_SESSIONS_FROM = 7
_ZSTD_FROM = 10
_IDS_FROM = 13
_STORAGE_ERROR_FROM = 6
_ZSTD = 4
_CODEC_BITS = 7
_ATTRIBUTES_LOW_POS = 22


@handles_raw(apis.FETCH, 4, 18)
def handle(
    ctx: RequestContext, frame: memoryview, pos: int
) -> list[Any] | Coroutine[Any, Any, list[Any]]:
    version = ctx.api_version
    request = parse_fetch(frame, pos, version)
    if request.replica_id >= 0:
        return _refuse_replica(ctx, request)
    services = ctx.services
    now_ms = services.clock.monotonic_ms()
    plan = services.sessions.resolve(request, version, now_ms)
    if plan.error_code:
        return build_fetch(version, ctx.correlation_id, 0, plan.error_code, 0, [])
    reading = Reading(ctx, request, plan)
    reading.run()
    if request.max_wait_ms <= 0 or reading.answers_now(request.min_bytes):
        return reading.answer()
    return _answer_later(ctx, request, reading, now_ms)


async def _answer_later(
    ctx: RequestContext, request: FetchRequest, reading: Reading, now_ms: int
) -> list[Any]:
    deadline_ms = now_ms + min(request.max_wait_ms, MAX_WAIT_MS)
    min_bytes = request.min_bytes
    # Spans keep segments mapped: a parked fetch must not hold any.
    reading.release()

    def satisfied() -> bool:
        if not reading.has_news():
            return False
        reading.run()
        if reading.answers_now(min_bytes):
            return True
        reading.release()
        return False

    outcome = await ctx.services.purgatory.park(reading.keys(), deadline_ms, satisfied)
    if outcome is not Outcome.SATISFIED:
        reading.run()
    return reading.answer()


def _refuse_replica(ctx: RequestContext, request: FetchRequest) -> list[Any]:
    code = errors.CLUSTER_AUTHORIZATION_FAILED
    if ctx.api_version >= _SESSIONS_FROM:
        return build_fetch(ctx.api_version, ctx.correlation_id, 0, code, 0, [])
    topics = [
        (topic, [FetchResult(asked.index, code) for asked in asked_list])
        for topic, asked_list in request.topics
    ]
    return build_fetch(ctx.api_version, ctx.correlation_id, 0, 0, 0, topics)


class Reading:
    """One request's partitions: read, perhaps read again after a wait, and made into an answer."""

    __slots__ = (
        "_committed",
        "_ctx",
        "_find",
        "_max_bytes",
        "_plan",
        "_rows",
        "_seen",
        "_size",
        "_urgent",
        "_version",
    )

    def __init__(self, ctx: RequestContext, request: FetchRequest, plan: FetchPlan) -> None:
        self._ctx = ctx
        self._version = ctx.api_version
        self._plan = plan
        self._committed = request.isolation_level
        self._max_bytes = min(
            max(request.max_bytes, 0), FETCH_BYTES_MAX, ctx.services.config.fetch_max_bytes
        )
        logs = ctx.services.logs
        self._find: Any = logs.by_name.get if self._version < _IDS_FROM else logs.by_id.get
        self._rows: list[tuple[Wanted, FetchResult]] = []
        self._seen: list[tuple[PartitionLog, int, int, int]] = []
        self._size = 0
        self._urgent = False

    def run(self) -> None:
        """Reads everything afresh."""
        self._size = 0
        self._urgent = not self._plan.wanted
        self._seen = []
        self._rows = [(wanted, self._read(wanted)) for wanted in self._plan.wanted]

    def release(self) -> None:
        self._rows = []

    def answers_now(self, min_bytes: int) -> bool:
        return self._urgent or self._size >= min_bytes

    def keys(self) -> list[tuple[bytes, int]]:
        return [partition.key for partition, _, _, _ in self._seen]

    def has_news(self) -> bool:
        """Has any partition changed since `run`? Cheap: asked at every append to any of them."""
        committed = self._committed
        for partition, bound, log_start_offset, leader_epoch in self._seen:
            now = partition.last_stable_offset if committed else partition.high_watermark
            if (
                now != bound
                or partition.log_start_offset != log_start_offset
                or partition.leader_epoch != leader_epoch
                or partition.deleted
            ):
                return True
        return False

    def _read(self, wanted: Wanted) -> FetchResult:
        partition = self._find((wanted.topic, wanted.index))
        if partition is None:
            self._urgent = True
            by_id = self._version >= _IDS_FROM
            return FetchResult(
                wanted.index,
                errors.UNKNOWN_TOPIC_ID if by_id else errors.UNKNOWN_TOPIC_OR_PARTITION,
            )
        bound = partition.last_stable_offset if self._committed else partition.high_watermark
        log_start_offset = partition.log_start_offset
        leader_epoch = partition.leader_epoch
        self._seen.append((partition, bound, log_start_offset, leader_epoch))
        current = wanted.current_leader_epoch
        if current >= 0 and current != leader_epoch:
            self._urgent = True
            older = current < leader_epoch
            return FetchResult(
                wanted.index,
                errors.FENCED_LEADER_EPOCH if older else errors.UNKNOWN_LEADER_EPOCH,
            )
        offset = wanted.fetch_offset
        if wanted.last_fetched_epoch >= 0:
            diverged = self._diverging(wanted, partition)
            if diverged is not None:
                return diverged
        limit = min(wanted.max_bytes, PARTITION_BYTES_MAX, self._max_bytes - self._size)
        first = self._size == 0
        span = None
        try:
            if first:
                span = partition.read(offset, max(limit, 1), isolation=self._committed)
            elif limit > 0 or offset < log_start_offset or offset > partition.next_offset:
                span = partition.read(
                    offset, max(limit, 1), isolation=self._committed, one_at_least=False
                )
        except (CoreError, OSError) as error:
            return self._failure(wanted, partition, error)
        aborted = None
        if span is not None and len(span):
            if self._version < _ZSTD_FROM and self._is_zstd(partition, span):
                self._urgent = True
                return FetchResult(wanted.index, errors.UNSUPPORTED_COMPRESSION_TYPE)
            self._size += len(span)
            if span.next_offset < bound:
                self._urgent = True  # there is more than fits: waiting would bring nothing
            if self._committed:
                aborted = partition.aborted_in(offset, span.next_offset)
        elif self._committed:
            aborted = ()
        return FetchResult(
            wanted.index,
            0,
            partition.high_watermark,
            partition.last_stable_offset,
            log_start_offset,
            aborted,
            -1,
            span,
        )

    def _diverging(self, wanted: Wanted, partition: PartitionLog) -> FetchResult | None:
        """The reader's log and ours have parted if the epoch of its last record ended earlier
        here, or is not known at all."""
        epoch, end_offset = partition.end_offset_for_epoch(wanted.last_fetched_epoch)
        if epoch < 0:
            self._urgent = True
            return FetchResult(wanted.index, errors.OFFSET_OUT_OF_RANGE)
        if epoch == wanted.last_fetched_epoch and end_offset >= wanted.fetch_offset:
            return None
        self._urgent = True
        return FetchResult(
            wanted.index,
            0,
            partition.high_watermark,
            partition.last_stable_offset,
            partition.log_start_offset,
            diverging_epoch=(epoch, end_offset),
        )

    @staticmethod
    def _is_zstd(partition: PartitionLog, span: Any) -> bool:
        """Old clients cannot read zstd. Of the batches, the first one stands for all."""
        codec = memoryview(span)[_ATTRIBUTES_LOW_POS] & _CODEC_BITS
        return codec == _ZSTD or partition.config.codec == _ZSTD

    def _failure(self, wanted: Wanted, partition: PartitionLog, error: Exception) -> FetchResult:
        self._urgent = True
        if isinstance(error, OffsetOutOfRange):
            code = errors.OFFSET_OUT_OF_RANGE
        elif isinstance(error, DamagedRange):
            code = errors.CORRUPT_MESSAGE
            partition.note_damaged_read(error)
        else:
            log.error("%s-%d: fetch: %s", partition.topic, partition.index, error)
            old = self._version < _STORAGE_ERROR_FROM
            code = errors.NOT_LEADER_OR_FOLLOWER if old else errors.KAFKA_STORAGE_ERROR
        self._ctx.services.metrics.topic(partition.topic).failed_fetch_requests += 1
        return FetchResult(wanted.index, code)

    def answer(self) -> list[Any]:
        """The response frame; in a session only what is news, and who got records goes last."""
        plan = self._plan
        session = plan.session
        metrics = self._ctx.services.metrics
        topics: list[tuple[str | bytes, list[FetchResult]]] = []
        names: dict[str | bytes, list[FetchResult]] = {}
        for wanted, result in self._rows:
            span = result.records
            size = len(span) if span is not None else 0  # type: ignore[arg-type]
            if session is not None:
                news = wanted.told(result, size)
                if size:
                    session.served(wanted)
                if plan.incremental and not news:
                    continue
            rows = names.get(wanted.topic)
            if rows is None:
                rows = names[wanted.topic] = []
                topics.append((wanted.topic, rows))
            rows.append(result)
        for partition, _, _, _ in self._seen:
            metrics.topic(partition.topic).fetch_requests += 1
        self._count_bytes()
        self._rows = []
        return build_fetch(self._version, self._ctx.correlation_id, 0, 0, plan.session_id, topics)

    def _count_bytes(self) -> None:
        """Bytes out by topic. With ids the topic's name comes from the partition."""
        if not self._size:
            return
        metrics = self._ctx.services.metrics
        find = self._find
        for wanted, result in self._rows:
            span = result.records
            if span is not None:
                partition = find((wanted.topic, wanted.index))
                if partition is not None:
                    metrics.topic(partition.topic).bytes_out += len(span)  # type: ignore[arg-type]
