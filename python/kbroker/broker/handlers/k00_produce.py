"""Produce (0), versions 3 to 13 (0 to 2 advertised and never served: old clients look for them).

* One record batch v2 a partition. It is validated and appended in place, in the receive buffer.
* acks 0: no answer at all; a failure closes the connection, which is how such a producer learns to
  look for a new leader. acks 1 and -1: answered when the records are below the high watermark: at
  once under `flush.policy=os`, after a grouped fdatasync under `sync`. After `timeout_ms`
  REQUEST_TIMED_OUT; the records stay. Other acks: INVALID_REQUIRED_ACKS for every partition.
* v7 is the first with zstd (UNSUPPORTED_COMPRESSION_TYPE before), v8 has record errors and a
  message, v13 names topics by id (UNKNOWN_TOPIC_ID).
* Internal topics take records of `__admin_client` only, as in Kafka (INVALID_TOPIC_EXCEPTION).
* `ProduceRuns` takes plain requests before they come here, and must do what is done here.
* Transactional batches get INVALID_TXN_STATE: no transaction coordinator exists that could have
  opened a transaction.

An append never raises for bad input or a bad disk (D11: a producer gives records up on an
UNKNOWN_SERVER_ERROR): each partition has its own code.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from kbroker.base import errors
from kbroker.broker.context import RequestContext
from kbroker.broker.dispatch import CloseConnection
from kbroker.broker.purgatory import Outcome
from kbroker.broker.registry import handles_raw
from kbroker.wire import apis
from kcore._native.produce_codec import ProduceResult, build_produce, parse_produce
from kcore._native.produce_run import ProduceRuns

if TYPE_CHECKING:
    from kbroker.broker.services import Services
    from kbroker.log.partition_log import PartitionLog

_IDS_FROM = 13
_ZSTD_FROM = 7
_ZSTD = 4
_CODEC_BITS = 7
_ATTRIBUTES_LOW_POS = 22  # second byte of the attributes in a batch header
_ADMIN_CLIENT = "__admin_client"

Results = list[tuple[Any, list[ProduceResult]]]
Waiting = list[tuple["PartitionLog", int, ProduceResult]]


def _runs(services: Services) -> ProduceRuns:
    return ProduceRuns(services.logs.by_name, services.logs.by_id)


@handles_raw(apis.PRODUCE, 3, 13, advertise_min=0, make_runs=_runs)
def handle(
    ctx: RequestContext, frame: memoryview, pos: int
) -> list[bytes] | Coroutine[Any, Any, list[bytes]] | None:
    version = ctx.api_version
    request = parse_produce(frame, pos, version)
    acks = request.acks
    services = ctx.services
    find = services.logs.by_name.get if version < _IDS_FROM else services.logs.by_id.get
    acks_valid = -1 <= acks <= 1
    results: Results = []
    waiting: Waiting = []
    failed = False
    last_topic: str | bytes | None = None
    rows: list[ProduceResult] = []
    for topic, index, span in request.partitions:
        if topic != last_topic:
            rows = []
            results.append((topic, rows))
            last_topic = topic
        partition = find((topic, index))  # type: ignore[arg-type]
        if partition is None:
            code = (
                errors.UNKNOWN_TOPIC_OR_PARTITION
                if version < _IDS_FROM
                else errors.UNKNOWN_TOPIC_ID
            )
            rows.append(ProduceResult(index, code if acks_valid else errors.INVALID_REQUIRED_ACKS))
            failed = True
            continue
        counters = partition.counters
        if counters is None:
            counters = partition.counters = services.metrics.topic(partition.topic)
        if not acks_valid or span is None or version < _ZSTD_FROM or partition.internal:
            refusal = _refusal(ctx, partition, span, version, acks_valid)
            if refusal is not None or span is None:
                rows.append(refusal or ProduceResult(index, errors.INVALID_RECORD))
                counters.refused(0)
                failed = True
                continue
        outcome = partition.append_as_leader(span, now_ms=ctx.now_ms, required_acks=acks)
        error_code = outcome.error_code
        result = ProduceResult(
            index,
            error_code,
            outcome.base_offset,
            outcome.append_time_ms,
            outcome.log_start_offset,
            outcome.record_errors,
            outcome.message,
        )
        rows.append(result)
        if error_code:
            counters.refused(len(span))
            failed = True
            continue
        counters.took(outcome.record_count, outcome.size)
        if acks and partition.high_watermark < outcome.next_offset:
            waiting.append((partition, outcome.next_offset, result))
    if acks == 0:
        if failed:
            raise CloseConnection("a produce request with acks=0 failed")
        return None
    if waiting:
        return _answer_later(ctx, request.timeout_ms, results, waiting)
    return [build_produce(version, ctx.correlation_id, 0, results)]


def _refusal(
    ctx: RequestContext,
    partition: PartitionLog,
    span: memoryview | None,
    version: int,
    acks_valid: bool,
) -> ProduceResult | None:
    """What is wrong before anybody looks at the records."""
    if not acks_valid:
        return ProduceResult(partition.index, errors.INVALID_REQUIRED_ACKS)
    if partition.internal and ctx.client_id != _ADMIN_CLIENT:
        return ProduceResult(partition.index, errors.INVALID_TOPIC_EXCEPTION)
    if span is None:
        return ProduceResult(
            partition.index,
            errors.INVALID_RECORD,
            error_message="a produce request has one record batch for each of its partitions",
        )
    if (
        version < _ZSTD_FROM
        and len(span) > _ATTRIBUTES_LOW_POS
        and span[_ATTRIBUTES_LOW_POS] & _CODEC_BITS == _ZSTD
    ):
        return ProduceResult(partition.index, errors.UNSUPPORTED_COMPRESSION_TYPE)
    return None


async def _answer_later(
    ctx: RequestContext, timeout_ms: int, results: Results, waiting: Waiting
) -> list[bytes]:
    """Parks until every high watermark has passed; the frame is not touched any more."""
    services = ctx.services

    def settled() -> bool:
        return all(
            partition.high_watermark >= next_offset or partition.refuses
            for partition, next_offset, _ in waiting
        )

    deadline_ms = services.clock.monotonic_ms() + max(0, timeout_ms)
    outcome = await services.purgatory.park(
        [partition.key for partition, _, _ in waiting], deadline_ms, settled
    )
    for partition, next_offset, result in waiting:
        if partition.high_watermark >= next_offset:
            continue
        # The records are in the log and may yet become durable; nobody can promise it, so the
        # offset is not told.
        refused = outcome is Outcome.SATISFIED and partition.refuses
        result.error_code = errors.KAFKA_STORAGE_ERROR if refused else errors.REQUEST_TIMED_OUT
        result.base_offset = result.append_time_ms = result.log_start_offset = -1
        result.error_message = partition.refuses or None
        services.metrics.topic(partition.topic).failed_produce_requests += 1
    return [build_produce(ctx.api_version, ctx.correlation_id, 0, results)]
