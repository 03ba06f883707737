"""From the log of an internal topic's partition to the state of a shard.

What a compacted log means is the last value of each key, so that is all that is replayed, in the
order in which those last values stand: a million commits of a thousand offsets cost a thousand
replays. Records of a transaction count from its commit marker on; those of an aborted or an open
one do not.

`load` only reads and replays; it may run in any thread while nobody else has the shard.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from kbroker.coord.shard import Shard
from kcore._native.batch import BatchInfo
from kcore._native.batchwalk import walk_states
from kcore._native.records import records

if TYPE_CHECKING:
    from typing_extensions import Buffer

_COMMIT_MARKER = b"\x00\x00\x00\x01"  # version, type of a control record's key

Latest = dict[bytes, bytes | None]


class LoadStats(NamedTuple):
    """`records` were read, `replayed` were the last of their key, `skipped` of those are of a type
    that nobody here knows."""

    records: int
    replayed: int
    skipped: int


def load(shard: Shard, spans: Iterable[Buffer]) -> LoadStats:
    """Replays what `spans` (whole batches, in order) say. CoreError for bytes that are damaged or
    of the future; the shard is then of no use."""
    latest: Latest = {}
    pending: dict[int, list[tuple[bytes, bytes | None]]] = {}
    count = 0
    for span in spans:
        with_producer = [
            info for info in walk_states(span)[0] if info.is_transactional or info.is_control
        ]
        if with_producer:
            count += _read_transactional(span, with_producer, latest, pending)
            continue
        for record in records(span):  # as `_note` does it; millions pass here
            count += 1
            key = record.key
            if key is not None:
                if key in latest:
                    del latest[key]
                latest[key] = record.value
    skipped = 0
    decode, replay = shard.decode, shard.replay
    for key, value in latest.items():
        decoded = decode(key, value)
        if decoded is None:
            skipped += 1
        else:
            replay(decoded)
    return LoadStats(count, len(latest) - skipped, skipped)


def _note(latest: Latest, key: bytes | None, value: bytes | None) -> None:
    if key is None:
        return  # nothing says what it is about
    # Taken out first, so that the dict is in the order of last values, as compaction leaves it.
    latest.pop(key, None)
    latest[key] = value


def _read_transactional(
    span: Buffer,
    batches: list[BatchInfo],
    latest: Latest,
    pending: dict[int, list[tuple[bytes, bytes | None]]],
) -> int:
    count = 0
    at = 0
    for record in records(span, include_control=True):
        offset = record.offset
        while at < len(batches) and batches[at].last_offset < offset:
            at += 1
        batch = batches[at] if at < len(batches) and batches[at].base_offset <= offset else None
        count += 1
        if batch is None:
            _note(latest, record.key, record.value)
        elif batch.is_control:
            held = pending.pop(batch.producer_id, [])
            if record.key == _COMMIT_MARKER:
                for key, value in held:
                    _note(latest, key, value)
        elif record.key is not None:
            pending.setdefault(batch.producer_id, []).append((record.key, record.value))
    return count
