"""Which segments a partition may drop: a pure decision.

From the oldest segment on, the first rule that holds lets a segment go; the first segment that no
rule covers ends the search, because a log has no holes. `total` is what is still kept.

    rule            needs policy  a segment goes when
    below log start any           its last record is below the log start offset
    time            delete        its newest timestamp (file time if none) < now - retention.ms
    size            delete        total - its size >= retention.bytes

Never goes: a segment that reaches past the high watermark, and an empty active segment. When the
active segment goes, the log must roll first, so that the offset stays known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from kcore import SegmentInfo

NO_TIMESTAMP = -1


class RetentionPlan(NamedTuple):
    """Drop the first `segment_count` segments, which end at `delete_below`, after a roll if
    `roll_first`."""

    segment_count: int
    delete_below: int
    roll_first: bool


NOTHING = RetentionPlan(0, 0, False)


def plan_retention(
    segments: Sequence[SegmentInfo],
    *,
    log_start_offset: int,
    high_watermark: int,
    now_ms: int,
    deletes: bool,
    retention_ms: int,
    retention_bytes: int,
) -> RetentionPlan:
    total = sum(segment.size_bytes for segment in segments)
    dropped = 0
    for segment in segments:
        if segment.next_offset > high_watermark or segment.next_offset == segment.base_offset:
            break
        newest_ms = segment.max_timestamp
        if newest_ms == NO_TIMESTAMP:
            newest_ms = segment.modified_ms
        too_old = deletes and retention_ms >= 0 and newest_ms < now_ms - retention_ms
        too_much = deletes and 0 <= retention_bytes <= total - segment.size_bytes
        if not (too_old or too_much or segment.next_offset <= log_start_offset):
            break
        total -= segment.size_bytes
        dropped += 1
    if dropped == 0:
        return NOTHING
    return RetentionPlan(dropped, segments[dropped - 1].next_offset, dropped == len(segments))
