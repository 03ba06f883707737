"""Opening a log: from a directory of files to ordered segments with known ends.

The passes, in order (each one leaves the directory in a state from which all can be repeated):

1. `_tidy_names`: unfinished work of a crash: '.cleaned' and '.deleted' go, a finished '.swap' takes
   the place of what it replaces, indexes without a log go.
2. `_attach`: one Segment per '.log', in order; damage found earlier is read from `damaged-ranges`.
3. `_examine_sealed`: after an unclean stop every segment that reaches past the recovery point is
   scanned. A gap in its good batches is damage. Other segments keep their indexes if they look
   right, else are scanned too.
4. `_examine_last`: the same for the last one, whose torn or zero tail is cut, unless it reaches
   below the recovery point: those bytes were durable once, so they are damage, not a torn write.
5. `store_damage`: what was found is written down, so that a clean opening knows it too.

Kafka cuts the log at the first bad batch and deletes every later segment. We never delete a valid
batch: what is bad stays in its file, is listed, and reads go on behind it.
"""

from __future__ import annotations

import os

from kcore._native.fileops import FileOps
from kcore._native.scan import scan_segment, walk_headers
from kcore._native.segment import Segment
from kcore.errors import DamagedRange, IndexCorrupt
from kcore.files.names import (
    BROKEN_SUFFIX,
    CLEANED_SUFFIX,
    DAMAGED_RANGES,
    DELETED_SUFFIX,
    INDEX_SUFFIX,
    LOG_SUFFIX,
    OFFSET_MAX,
    SWAP_SUFFIX,
    TIME_INDEX_SUFFIX,
    TXN_INDEX_SUFFIX,
    SegmentName,
    make_segment_name,
    parse_segment_name,
)
from kcore.log_config import LogConfig
from kcore.log_types import DamagedSpan, RecoveryReport, SegmentInfo, SegmentScan

DAMAGE_FILE = DAMAGED_RANGES

_REBUILT = (INDEX_SUFFIX, TIME_INDEX_SUFFIX)  # can be made from the log at any time


class Opening:
    """What opening works on, and its result."""

    __slots__ = (
        "clean",
        "config",
        "log_start_offset",
        "ops",
        "path",
        "recovery_point",
        "report",
        "segments",
    )

    def __init__(
        self,
        ops: FileOps,
        path: str,
        config: LogConfig,
        *,
        clean: bool,
        recovery_point: int,
        log_start_offset: int,
    ) -> None:
        self.ops = ops
        self.path = path
        self.config = config
        self.clean = clean
        self.recovery_point = recovery_point
        self.log_start_offset = log_start_offset
        self.segments: list[Segment] = []
        self.report = RecoveryReport(clean=clean)

    def segment(self, base_offset: int, *, create: bool, absent: bool = False) -> Segment:
        return make_segment(
            self.ops, self.path, self.config, base_offset, create=create, absent=absent
        )


def make_segment(
    ops: FileOps,
    directory: str,
    config: LogConfig,
    base_offset: int,
    *,
    create: bool = True,
    state: str = "",
    absent: bool = False,
) -> Segment:
    """A segment object with the settings of its log: a new one, or one that is there."""
    return Segment.open(
        ops,
        directory,
        base_offset,
        create=create,
        index_interval_bytes=config.index_interval_bytes,
        segment_bytes=config.segment_bytes,
        mode=config.append_mode,
        now_ms=config.clock_ms(),
        state=state,
        absent=absent,
    )


def open_segments(
    ops: FileOps,
    path: str,
    config: LogConfig,
    *,
    clean: bool,
    recovery_point: int,
    log_start_offset: int | None,
    fresh: bool = False,
) -> Opening:
    """Runs the passes; the last of the returned segments is the active one. `fresh`: the caller has
    just made the directory, so there is nothing to look for."""
    opening = Opening(
        ops,
        path,
        config,
        clean=clean,
        recovery_point=recovery_point,
        log_start_offset=log_start_offset or 0,
    )
    report = opening.report
    if not fresh:
        ops.make_dirs(path)
        _attach(opening, _tidy_names(opening))
    if opening.segments:
        _examine_sealed(opening)
        _examine_last(opening)
    else:
        # Of a log that begins at 0 no name has to remember the offset: its file can wait.
        base_offset = log_start_offset or 0
        opening.segments.append(opening.segment(base_offset, create=True, absent=base_offset == 0))
    active = opening.segments[-1]
    if log_start_offset is not None and log_start_offset > active.next_offset:
        # The log start was moved past everything that is left: go on from there.
        active.seal_at(log_start_offset)
        opening.segments.append(opening.segment(log_start_offset, create=True))
    if not fresh:
        store_damage(ops, path, opening.segments)
    report.segments = len(opening.segments)
    report.damaged = damaged_spans(opening.segments)
    return opening


def damaged_spans(segments: list[Segment]) -> list[DamagedSpan]:
    """The damage of all segments, in order."""
    return [DamagedSpan(segment.path, *damage) for segment in segments for damage in segment.damage]


def refuse_damaged(damaged: list[DamagedSpan], offset: int) -> None:
    """DamagedRange if `offset` lies in one of them."""
    for span in damaged:
        if span.first_offset <= offset < span.next_offset:
            raise DamagedRange(
                f"offsets {span.first_offset}..{span.next_offset - 1} are damaged",
                first_offset=span.first_offset,
                next_offset=span.next_offset,
                path=span.path,
                pos=span.pos,
            )


def segment_info(ops: FileOps, segment: Segment) -> SegmentInfo:
    return SegmentInfo(
        segment.base_offset,
        segment.next_offset,
        segment.size,
        segment.max_timestamp,
        segment.created_ms if segment.absent else ops.modified_ms(segment.path),
        segment.path,
    )


def purge_deleted(ops: FileOps, directory: str) -> int:
    names = [name for name in ops.list(directory) if name.endswith(".deleted")]
    for name in names:
        ops.unlink(os.path.join(directory, name))
    return len(names)


def _tidy_names(opening: Opening) -> list[str]:
    """What is in the directory afterwards."""
    ops, path = opening.ops, opening.path
    found = ops.list(path)
    parsed = [(n, name) for n in found if (name := parse_segment_name(n)) is not None]
    if any(name.state for _, name in parsed):
        _finish_states(opening, parsed)
        found = ops.list(path)
    there = set(found)
    for name in map(parse_segment_name, found):
        if name is None or name.state or name.suffix not in (*_REBUILT, TXN_INDEX_SUFFIX):
            continue
        if make_segment_name(name.base_offset, LOG_SUFFIX) not in there:
            file_name = make_segment_name(name.base_offset, name.suffix)
            _remove(opening, file_name)
            there.discard(file_name)
    return sorted(there)


def _finish_states(opening: Opening, parsed: list[tuple[str, SegmentName]]) -> None:
    ops, path = opening.ops, opening.path
    # A compaction that still has '.cleaned' files has not swapped: its '.swap's are unfinished.
    unfinished_from = min(
        (name.base_offset for _, name in parsed if name.state == CLEANED_SUFFIX),
        default=OFFSET_MAX,
    )
    swaps = []
    deleted = []
    for file_name, name in parsed:
        if name.state == CLEANED_SUFFIX:
            _remove(opening, file_name)
        elif name.state == DELETED_SUFFIX:
            deleted.append(file_name)
        elif name.state == SWAP_SUFFIX:
            if name.base_offset >= unfinished_from or name.suffix in _REBUILT:
                _remove(opening, file_name)
            elif name.suffix == LOG_SUFFIX:
                swaps.append(name.base_offset)
    live = sorted(n.base_offset for _, n in parsed if not n.state and n.suffix == LOG_SUFFIX)
    for base_offset in swaps:
        _finish_swap(opening, base_offset, live)
    for file_name in deleted:
        if ops.exists(os.path.join(path, file_name)):
            _remove(opening, file_name)
    for file_name, name in parsed:
        if name.state == SWAP_SUFFIX and ops.exists(os.path.join(path, file_name)):
            _remove(opening, file_name)  # of a log that is not there: a transaction index


def _finish_swap(opening: Opening, base_offset: int, live: list[int]) -> None:
    """Puts a compacted segment in the place of the originals it covers.

    Its log gets its name last: until then a crash leaves all of this to be done again.
    """
    ops = opening.ops

    def named(base: int, suffix: str, state: str = "") -> str:
        return os.path.join(opening.path, make_segment_name(base, suffix, state))

    swapped = named(base_offset, LOG_SUFFIX, SWAP_SUFFIX)
    segment = make_segment(
        ops, opening.path, opening.config, base_offset, create=False, state=SWAP_SUFFIX
    )
    scan = scan_segment(segment)
    if scan.tail == "torn" or segment.damage or not segment.size:
        # Not what a finished compaction leaves: keep it aside, and the originals where they are,
        # or were.
        ops.rename(swapped, named(base_offset, LOG_SUFFIX, BROKEN_SUFFIX))
        _restore_originals(opening, base_offset, live)
        return
    for base in live:
        if base_offset <= base < segment.next_offset:
            for suffix in (*_REBUILT, LOG_SUFFIX, TXN_INDEX_SUFFIX):
                # Its own transaction index is either the new one already or replaced below.
                if ops.exists(named(base, suffix)) and (base, suffix) != (
                    base_offset, TXN_INDEX_SUFFIX,
                ):  # fmt: skip
                    _remove(opening, make_segment_name(base, suffix))
    for suffix in _REBUILT:
        if ops.exists(named(base_offset, suffix)):
            _remove(opening, make_segment_name(base_offset, suffix))
    transactions = named(base_offset, TXN_INDEX_SUFFIX, SWAP_SUFFIX)
    if ops.exists(transactions):
        ops.rename(transactions, named(base_offset, TXN_INDEX_SUFFIX))
    ops.rename(swapped, named(base_offset, LOG_SUFFIX))


def _restore_originals(opening: Opening, base_offset: int, live: list[int]) -> None:
    """A broken swap may have renamed some of its originals already, beginning with the one whose
    name it wants: they get their names back. What an older compaction had put into one of them may
    lie there too, and is told by its offsets."""
    if base_offset in live:
        return
    ops = opening.ops
    bound = min((base for base in live if base > base_offset), default=OFFSET_MAX)
    next_offset = base_offset
    for file_name in sorted(ops.list(opening.path)):
        name = parse_segment_name(file_name)
        if name is None or name.state != DELETED_SUFFIX or name.suffix != LOG_SUFFIX:
            continue
        if next_offset <= name.base_offset < bound:
            for suffix in (*_REBUILT, TXN_INDEX_SUFFIX, LOG_SUFFIX):
                final = os.path.join(opening.path, make_segment_name(name.base_offset, suffix))
                if ops.exists(final + DELETED_SUFFIX) and not ops.exists(final):
                    ops.rename(final + DELETED_SUFFIX, final)
            segment = opening.segment(name.base_offset, create=False)
            scan_segment(segment)
            next_offset = segment.next_offset


def _remove(opening: Opening, name: str) -> None:
    opening.ops.unlink(os.path.join(opening.path, name))
    opening.report.files_removed.append(name)


def _attach(opening: Opening, names: list[str]) -> None:
    parsed = [name for name in map(parse_segment_name, names) if name is not None]
    bases = sorted(n.base_offset for n in parsed if n.suffix == LOG_SUFFIX and not n.state)
    opening.segments.extend(opening.segment(base, create=False) for base in bases)
    if DAMAGE_FILE not in names:
        return
    try:
        known = load_damage(opening.ops, opening.path)
    except IndexCorrupt:
        # What was known is lost, so nothing is taken on trust: scan everything.
        opening.clean = opening.report.clean = False
        opening.recovery_point = 0
        return
    by_base = {segment.base_offset: segment for segment in opening.segments}
    for base_offset, *damage in known:
        if base_offset in by_base:
            by_base[base_offset].restore_damage(*damage)


def _examine_sealed(opening: Opening) -> None:
    for segment, successor in zip(opening.segments, opening.segments[1:], strict=False):
        next_offset = successor.base_offset
        reaches_past = not opening.clean and next_offset > opening.recovery_point
        if reaches_past or not segment.indexes_plausible(thorough=not opening.clean):
            pos = segment.resume_pos(opening.recovery_point) if reaches_past else 0
            examine_sealed(segment, next_offset, opening.report, pos)
        else:
            segment.adopt_sealed(next_offset)


def examine_sealed(
    segment: Segment, next_offset: int, report: RecoveryReport, pos: int = 0
) -> SegmentScan:
    """Scans a segment that must end at `next_offset`, rebuilds its indexes, lists its damage."""
    scan = scan_segment(segment, pos)
    _count(report, segment, scan)
    if scan.tail == "torn" or (scan.tail == "zeros" and segment.next_offset < next_offset):
        # All that follows is kept, zeros too: the file was trimmed to its data when it was sealed.
        segment.add_damage(scan.tail_pos, segment.allocated, segment.next_offset, next_offset)
    elif scan.tail == "zeros":
        report.zero_bytes_cut += segment.allocated - segment.size
    segment.seal_at(next_offset)
    return scan


def _examine_last(opening: Opening) -> None:
    segment, report = opening.segments[-1], opening.report
    if opening.clean and walk_headers(segment, segment.resume_pos(OFFSET_MAX)):
        report.zero_bytes_cut += segment.allocated - segment.size
        segment.trim()
        return
    pos = 0 if opening.clean else segment.resume_pos(opening.recovery_point)
    scan = scan_segment(segment, pos)
    _count(report, segment, scan)
    durable = opening.recovery_point
    if durable <= opening.log_start_offset:
        durable = 0  # nothing below the log start can be lost: a cut may end there, in a batch
    if opening.clean and scan.tail == "torn":
        durable = max(durable, scan.tail_next_offset)  # all of it was durable when it was closed
    if segment.next_offset < durable:
        # Offsets below the recovery point must never be given out a second time.
        end = scan.tail_end if scan.tail == "torn" else scan.tail_pos
        first_offset = max(segment.next_offset, opening.log_start_offset)
        segment.add_damage(scan.tail_pos, end, first_offset, durable)
        segment.seal_at(durable)
        opening.segments.append(opening.segment(durable, create=True))
        return
    if scan.tail == "torn":
        report.torn_bytes_cut += scan.tail_end - scan.tail_pos
        report.zero_bytes_cut += segment.allocated - scan.tail_end
    else:
        report.zero_bytes_cut += segment.allocated - segment.size
    segment.trim()


def _count(report: RecoveryReport, segment: Segment, scan: SegmentScan) -> None:
    report.segments_scanned += 1
    report.bytes_scanned += scan.scanned_bytes
    report.batches_scanned += scan.batches
    report.indexes_rebuilt.append(segment.index.path)


def load_damage(ops: FileOps, directory: str) -> list[list[int]]:
    """[[segment base, pos, end_pos, first_offset, next_offset]] of the damage file."""
    path = os.path.join(directory, DAMAGE_FILE)
    try:
        lines = ops.read(path).decode("ascii").splitlines()
        if lines[0] != "0" or int(lines[1]) != len(lines) - 2:
            raise ValueError("version or count")
        entries = [[int(field) for field in line.split(" ")] for line in lines[2:]]
        if any(len(e) != 5 or min(e) < 0 or e[1] > e[2] or e[3] > e[4] for e in entries):
            raise ValueError("entry")
    except (ValueError, IndexError) as error:
        raise IndexCorrupt(f"not a list of damaged ranges ({error})", path=path) from error
    return entries


def store_damage(ops: FileOps, directory: str, segments: list[Segment]) -> None:
    """Writes the damage of all segments, or removes the file when there is none."""
    path = os.path.join(directory, DAMAGE_FILE)
    entries = [(s.base_offset, *damage) for s in segments for damage in s.damage]
    if entries:
        lines = ["0", str(len(entries)), *(" ".join(map(str, e)) for e in entries)]
        content = ("\n".join(lines) + "\n").encode()
        if not ops.exists(path) or ops.read(path) != content:
            ops.store(path, content)
    elif ops.exists(path):
        ops.unlink(path)
        ops.sync_dir(directory)


__all__ = [
    "DAMAGE_FILE",
    "Opening",
    "damaged_spans",
    "examine_sealed",
    "load_damage",
    "make_segment",
    "open_segments",
    "purge_deleted",
    "refuse_damaged",
    "scan_segment",
    "segment_info",
    "store_damage",
]
