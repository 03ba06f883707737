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
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from kbroker.base import errors
from kbroker.broker.context import RequestContext
from kbroker.broker.fetch_sessions import FINAL_EPOCH, NO_SESSION, FetchPlan, Topic, Wanted
from kbroker.broker.purgatory import Outcome
from kbroker.broker.registry import handles_raw
from kbroker.wire import apis
from kcore._native.fetch_codec import FetchResult, build_fetch, parse_fetch
from kcore.errors import CoreError, DamagedRange, OffsetOutOfRange

if TYPE_CHECKING:
    from kbroker.log.partition_log import PartitionLog
    from kcore._native.fetch_codec import FetchPartition, FetchRequest

    Asked = FetchPartition | Wanted
    Topics = Sequence[tuple[Topic, Sequence[Asked]]]
    Results = list[tuple[Topic, list[FetchResult]]]

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
    request = parse_fetch(frame, pos, ctx.api_version)
    if request.replica_id >= 0:
        return _refuse_replica(ctx, request)
    plan = None
    topics: Topics = request.topics
    if request.session_epoch != FINAL_EPOCH or request.session_id != NO_SESSION:
        services = ctx.services
        now_ms = services.clock.monotonic_ms()
        plan = services.sessions.resolve(request, ctx.api_version, now_ms)
        if plan.error_code:
            return build_fetch(ctx.api_version, ctx.correlation_id, 0, plan.error_code, 0, [])
        topics = plan.topics
    reading = Reading(ctx, request, topics, plan)
    reading.run()
    if reading.urgent or reading.size >= request.min_bytes or request.max_wait_ms <= 0:
        return reading.answer()
    return _answer_later(ctx, request, reading)


async def _answer_later(ctx: RequestContext, request: FetchRequest, reading: Reading) -> list[Any]:
    services = ctx.services
    deadline_ms = services.clock.monotonic_ms() + min(request.max_wait_ms, MAX_WAIT_MS)
    min_bytes = request.min_bytes
    reading.watch()

    def satisfied() -> bool:
        if not reading.has_news():
            return False
        reading.run()
        if reading.urgent or reading.size >= min_bytes:
            return True
        reading.watch()
        return False

    outcome = await services.purgatory.park(reading.keys(), deadline_ms, satisfied)
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
    """One request's partitions: read, perhaps read again after a wait, and made into an answer.

    `urgent`: answer now, whatever min_bytes says. `size`: bytes of records read.
    """

    __slots__ = (
        "_committed",
        "_ctx",
        "_find",
        "_max_bytes",
        "_plan",
        "_results",
        "_topics",
        "_version",
        "_watched",
        "size",
        "urgent",
    )

    def __init__(
        self, ctx: RequestContext, request: FetchRequest, topics: Topics, plan: FetchPlan | None
    ) -> None:
        version = ctx.api_version
        logs = ctx.services.logs
        self._ctx = ctx
        self._version = version
        self._topics = topics
        self._plan = plan
        self._committed = request.isolation_level
        self._max_bytes = min(
            request.max_bytes, FETCH_BYTES_MAX, ctx.services.config.fetch_max_bytes
        )
        self._find: Any = logs.by_name.get if version < _IDS_FROM else logs.by_id.get
        self.size = 0
        self.urgent = False

    def run(self) -> None:
        """Reads everything afresh."""
        self.size = 0
        self.urgent = not self._topics
        read = self._read
        self._results = [
            (topic, [read(topic, asked) for asked in asked_list])
            for topic, asked_list in self._topics
        ]

    def _read(self, topic: Topic, asked: Asked) -> FetchResult:
        partition: PartitionLog | None = self._find((topic, asked.index))
        if partition is None:
            by_name = self._version < _IDS_FROM
            return self._error(
                asked, errors.UNKNOWN_TOPIC_OR_PARTITION if by_name else errors.UNKNOWN_TOPIC_ID
            )
        current = asked.current_leader_epoch
        if current >= 0 and current != partition.leader_epoch:
            older = current < partition.leader_epoch
            return self._error(
                asked, errors.FENCED_LEADER_EPOCH if older else errors.UNKNOWN_LEADER_EPOCH
            )
        offset = asked.fetch_offset
        if asked.last_fetched_epoch >= 0:
            diverged = self._diverging(asked, partition)
            if diverged is not None:
                return diverged
        committed = self._committed
        size = self.size
        limit = min(asked.max_bytes, PARTITION_BYTES_MAX, self._max_bytes - size)
        bound = partition.last_stable_offset if committed else partition.high_watermark
        span = None
        aborted: Any = () if committed else None
        try:
            if size == 0:
                span = partition.read(offset, max(limit, 1), isolation=committed)
            elif limit > 0 or not partition.log.log_start_offset <= offset <= bound:
                span = partition.read(
                    offset, max(limit, 1), isolation=committed, one_at_least=False
                )
            if span is not None:
                self.size = size + len(span)
                if span.next_offset < bound:
                    self.urgent = True  # more than fits is there: waiting would bring nothing
                if committed:
                    aborted = partition.aborted_in(offset, span.next_offset)
                if self._version < _ZSTD_FROM and _is_zstd(partition, span):
                    self.size = size
                    return self._error(asked, errors.UNSUPPORTED_COMPRESSION_TYPE)
        except (CoreError, OSError) as error:
            return self._failure(asked, partition, error)
        return FetchResult(
            asked.index,
            0,
            partition.high_watermark,
            partition.last_stable_offset,
            partition.log.log_start_offset,
            aborted,
            -1,
            span,
        )

    def _error(self, asked: Asked, error_code: int) -> FetchResult:
        self.urgent = True
        return FetchResult(asked.index, error_code)

    def _diverging(self, asked: Asked, partition: PartitionLog) -> FetchResult | None:
        """The reader's log and ours have parted if the epoch of its last record ended earlier
        here, or is not known at all."""
        epoch, end_offset = partition.end_offset_for_epoch(asked.last_fetched_epoch)
        if epoch < 0:
            return self._error(asked, errors.OFFSET_OUT_OF_RANGE)
        if epoch == asked.last_fetched_epoch and end_offset >= asked.fetch_offset:
            return None
        self.urgent = True
        return FetchResult(
            asked.index,
            0,
            partition.high_watermark,
            partition.last_stable_offset,
            partition.log_start_offset,
            diverging_epoch=(epoch, end_offset),
        )

    def _failure(self, asked: Asked, partition: PartitionLog, error: Exception) -> FetchResult:
        if isinstance(error, OffsetOutOfRange):
            code = errors.OFFSET_OUT_OF_RANGE
        elif isinstance(error, DamagedRange):
            code = errors.CORRUPT_MESSAGE
            _tell_damage(partition, error)
        else:
            log.error("%s-%d: fetch: %s", partition.topic, partition.index, error)
            old = self._version < _STORAGE_ERROR_FROM
            code = errors.NOT_LEADER_OR_FOLLOWER if old else errors.KAFKA_STORAGE_ERROR
        self._ctx.services.metrics.topic(partition.topic).failed_fetch_requests += 1
        return self._error(asked, code)

    # Waiting

    def watch(self) -> None:
        """Before parking: notes where each partition is, and lets go of what was read, because a
        span keeps its segment mapped and a client may wait for minutes."""
        committed = self._committed
        self._results = []
        self._watched = [
            (
                partition,
                partition.last_stable_offset if committed else partition.high_watermark,
                partition.log_start_offset,
                partition.leader_epoch,
            )
            for topic, asked_list in self._topics
            for asked in asked_list
            if (partition := self._find((topic, asked.index))) is not None
        ]

    def keys(self) -> list[tuple[bytes, int]]:
        return [watched[0].key for watched in self._watched]

    def has_news(self) -> bool:
        """Has any partition changed since `watch`? Asked at every append to any of them."""
        committed = self._committed
        for partition, bound, log_start_offset, leader_epoch in self._watched:
            now = partition.last_stable_offset if committed else partition.high_watermark
            if (
                now != bound
                or partition.deleted
                or partition.leader_epoch != leader_epoch
                or partition.log_start_offset != log_start_offset
            ):
                return True
        return False

    # Answering

    def answer(self) -> list[Any]:
        """The response frame. In a session it holds only news, and who got records goes last."""
        results = self._results
        self._count(results)
        plan = self._plan
        session_id = 0
        if plan is not None:
            session_id = plan.session_id
            if plan.session is not None:
                results = plan.session.tell(results, plan.incremental)
        self._results = []
        return build_fetch(self._version, self._ctx.correlation_id, 0, 0, session_id, results)

    def _count(self, results: Results) -> None:
        metrics = self._ctx.services.metrics
        for topic, rows in results:
            for row in rows:
                partition = self._find((topic, row.index))
                if partition is None:
                    continue
                counters = partition.counters
                if counters is None:
                    counters = partition.counters = metrics.topic(partition.topic)
                counters.fetch_requests += 1
                if row.records is not None:
                    counters.bytes_out += len(row.records)  # type: ignore[arg-type]


def _is_zstd(partition: PartitionLog, span: Any) -> bool:
    """Old clients cannot read zstd. Of the batches, the first one stands for all."""
    codec = memoryview(span)[_ATTRIBUTES_LOW_POS] & _CODEC_BITS
    return codec == _ZSTD or partition.config.codec == _ZSTD


def _tell_damage(partition: PartitionLog, damage: DamagedRange) -> None:
    """Says, once a range, where a reader that is stuck at it can go on."""
    told = partition.told_damage
    if damage.first_offset not in told:
        told.add(damage.first_offset)
        log.error(
            "%s-%d: offsets %d to %d are damaged and not served; readers go on at %d: %s",
            partition.topic,
            partition.index,
            damage.first_offset,
            damage.next_offset - 1,
            damage.next_offset,
            damage,
        )
