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
from kbroker.broker.registry import handles_raw
from kbroker.wire import apis
from kcore._native.fetch_codec import FetchResult, build_fetch, parse_fetch
from kcore._native.fetch_reader import Watchers, lone_reader
from kcore._native.reading import warm
from kcore.errors import DamagedRange, OffsetOutOfRange

if TYPE_CHECKING:
    from kbroker.base.metrics import BrokerMetrics
    from kbroker.broker.purgatory import ParkedOperation
    from kbroker.log.partition_log import PartitionLog
    from kcore._native.fetch_codec import FetchRequest
    from kcore._native.fetch_reader import FetchReader

log = logging.getLogger("kbroker.fetch")

READ_AHEAD_BYTES = 4 << 20
MAX_WAIT_MS = 3_600_000  # a client that wants to wait longer may ask again

_SESSIONS_FROM = 7
_STORAGE_ERROR_FROM = 6


@handles_raw(apis.FETCH, 4, 18)
def handle(
    ctx: RequestContext, frame: memoryview, pos: int
) -> list[Any] | Coroutine[Any, Any, list[Any]]:
    version = ctx.api_version
    request = parse_fetch(frame, pos, version)
    if request.replica_id >= 0:
        return _refuse_replica(ctx, request)
    services = ctx.services
    reader = lone_reader(request)
    if reader is None:
        reader, error_code = services.sessions.resolve(request, version, services.clock)
        if reader is None:
            return build_fetch(version, ctx.correlation_id, 0, error_code, 0, [])
    watchers = services.purgatory.watchers
    if watchers is None:
        watchers = services.purgatory.watchers = Watchers()
        logs = services.logs
        watchers.attach(logs.by_name, logs.by_id, services.metrics, _failure_code)
    max_bytes = services.config.fetch_max_bytes
    parts = reader.try_answer(request, version, ctx.correlation_id, max_bytes, watchers)
    if parts is not None:
        return parts
    if reader.cold:
        return _answer_from_disk(ctx, request, reader)
    return _answer_later(ctx, request, reader)


async def _answer_later(
    ctx: RequestContext, request: FetchRequest, reader: FetchReader
) -> list[Any]:
    reader.watch()
    deadline_ms = ctx.services.clock.monotonic_ms() + min(request.max_wait_ms, MAX_WAIT_MS)
    parked = ctx.services.purgatory.park((), deadline_ms, reader.has_enough)
    if await _is_overtaken(reader, parked):
        return _overtaken(ctx, request)
    reader.run(waits=True)
    return reader.answer(ctx.correlation_id)


async def _answer_from_disk(
    ctx: RequestContext, request: FetchRequest, reader: FetchReader
) -> list[Any]:
    """What is not in memory is read by a thread: appends and other readers do not wait for it."""
    services = ctx.services
    cold = reader.cold or []
    reader.watch()
    deadline_ms = services.clock.monotonic_ms() + MAX_WAIT_MS
    parked = services.purgatory.park((), deadline_ms, lambda: False)

    def read() -> None:
        try:
            warm(cold, READ_AHEAD_BYTES)
        finally:
            services.logs.post(parked.finish)

    services.logs.reads.submit(read)
    if await _is_overtaken(reader, parked):
        return _overtaken(ctx, request)
    # A page that was evicted again meanwhile is waited for: once is enough.
    reader.run(waits=True)
    if reader.enough or request.max_wait_ms <= 0:
        return reader.answer(ctx.correlation_id)
    return await _answer_later(ctx, request, reader)


async def _is_overtaken(reader: FetchReader, parked: ParkedOperation) -> bool:
    """Waits, and tells whether the session has gone on to a later request meanwhile."""
    turn = reader.turn
    reader.parked = parked
    try:
        await parked
    finally:  # also when the connection is lost: then nothing goes on behind this
        reader.settle(parked)
    return reader.turn != turn


def _overtaken(ctx: RequestContext, request: FetchRequest) -> list[Any]:
    """Only another request of the same session does this, and no client has two under way."""
    code = errors.INVALID_FETCH_SESSION_EPOCH
    return build_fetch(ctx.api_version, ctx.correlation_id, 0, code, request.session_id, [])


def _refuse_replica(ctx: RequestContext, request: FetchRequest) -> list[Any]:
    code = errors.CLUSTER_AUTHORIZATION_FAILED
    if ctx.api_version >= _SESSIONS_FROM:
        return build_fetch(ctx.api_version, ctx.correlation_id, 0, code, 0, [])
    topics = [
        (topic, [FetchResult(asked.index, code) for asked in asked_list])
        for topic, asked_list in request.topics
    ]
    return build_fetch(ctx.api_version, ctx.correlation_id, 0, 0, 0, topics)


def _failure_code(
    metrics: BrokerMetrics, version: int, partition: PartitionLog, error: Exception
) -> int:
    metrics.topic(partition.topic).failed_fetch_requests += 1
    if isinstance(error, OffsetOutOfRange):
        return errors.OFFSET_OUT_OF_RANGE
    if isinstance(error, DamagedRange):
        _tell_damage(partition, error)
        return errors.CORRUPT_MESSAGE
    log.error("%s-%d: fetch: %s", partition.topic, partition.index, error)
    old = version < _STORAGE_ERROR_FROM
    return errors.NOT_LEADER_OR_FOLLOWER if old else errors.KAFKA_STORAGE_ERROR


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
