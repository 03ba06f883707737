"""What the cleaner should do, decided from numbers alone: what is dirty, and which segments belong
together. Nothing here reads a log or a clock.

    log start        cleaned offset           first uncleanable
        |--- clean section ---|---- dirty section ----|---- not yet ----|- active -|

A record is cleanable when it is below the last stable offset, not in the active segment, and in a
segment older than `min.compaction.lag.ms`. A log is worth a round when the dirty share of its bytes
exceeds `min.cleanable.dirty.ratio`, or when its oldest dirty record is older than
`max.compaction.lag.ms`. A round cleans whole segments from the first one on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

INT32_MAX = (1 << 31) - 1
# Each merged segment is a few renames on the loop: more than this many wait for the next round.
GROUP_SEGMENTS_MAX = 64


class SegmentSize(NamedTuple):
    """What grouping needs to know of a segment. Index sizes are those of the files."""

    base_offset: int
    next_offset: int
    size_bytes: int
    index_bytes: int = 0
    time_index_bytes: int = 0


class CleanRange(NamedTuple):
    """[first_dirty, first_uncleanable) is to be cleaned; both sections in bytes."""

    first_dirty: int
    first_uncleanable: int
    clean_bytes: int
    dirty_bytes: int

    @property
    def ratio(self) -> float:
        total = self.clean_bytes + self.dirty_bytes
        return self.dirty_bytes / total if total else 0.0


class Group(NamedTuple):
    """Segments that become one, by their base offsets; the next one begins at `next_offset`."""

    bases: tuple[int, ...]
    next_offset: int
    size_bytes: int


def first_dirty_offset(cleaned_offset: int, log_start_offset: int, next_offset: int) -> int:
    """Where cleaning goes on. A checkpoint outside of the log says nothing: all of it is dirty."""
    if log_start_offset <= cleaned_offset <= next_offset:
        return cleaned_offset
    return log_start_offset


def plan_range(
    sizes: Sequence[tuple[int, int, int]], *, first_dirty: int, last_stable_offset: int,
    young_offset: int | None = None,
) -> CleanRange:  # fmt: skip
    """`sizes`: (base offset, next offset, bytes) of the segments, the active one last.
    `young_offset`: base of the first dirty segment that is too young, if one is."""
    bound = min(last_stable_offset, sizes[-1][0])
    if young_offset is not None:
        bound = min(bound, young_offset)
    bound = max(bound, first_dirty)
    clean_bytes = dirty_bytes = 0
    first_uncleanable = sizes[-1][0]
    for base_offset, next_offset, size in sizes[:-1]:
        if next_offset > bound:
            first_uncleanable = base_offset  # it reaches past the bound: not at all
            break
        if base_offset < first_dirty:
            clean_bytes += size
        if next_offset > first_dirty:
            dirty_bytes += size
    return CleanRange(first_dirty, max(first_dirty, first_uncleanable), clean_bytes, dirty_bytes)


def plan_groups(
    segments: Sequence[SegmentSize], end_offset: int, segment_bytes: int, index_bytes_max: int
) -> list[Group]:
    """The segments that begin below `end_offset`, put together while the result stays a segment.

    `segments` are those before the first uncleanable one. The bounds hold for what goes in; what
    comes out is smaller but for a few bytes a tombstone.
    """
    groups: list[Group] = []
    members: list[SegmentSize] = []
    for segment in segments:
        if segment.base_offset >= end_offset:
            break
        joined = [*members, segment]
        if members and not (
            len(joined) <= GROUP_SEGMENTS_MAX
            and sum(s.size_bytes for s in joined) <= segment_bytes
            and sum(s.index_bytes for s in joined) <= index_bytes_max
            and sum(s.time_index_bytes for s in joined) <= index_bytes_max
            and segment.next_offset - 1 - members[0].base_offset <= INT32_MAX
        ):
            groups.append(_group(members))
            joined = [segment]
        members = joined
    if members:
        groups.append(_group(members))
    return groups


def _group(members: Sequence[SegmentSize]) -> Group:
    bases = tuple(member.base_offset for member in members)
    return Group(bases, members[-1].next_offset, sum(member.size_bytes for member in members))
