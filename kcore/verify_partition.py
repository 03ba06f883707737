"""`kcore verify`, one partition's directory: names, the chain of segments, epochs, snapshots."""

from __future__ import annotations

import bisect
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from kcore.errors import IndexCorrupt
from kcore.files import names
from kcore.files.atomic import TMP_SUFFIX
from kcore.files.batch_walk import Batch
from kcore.files.damaged_ranges import load_damaged_ranges
from kcore.files.epoch_checkpoint import EpochEntry, load_epoch_checkpoint
from kcore.files.partition_metadata import load_partition_metadata
from kcore.verify_producers import ProducerReplay
from kcore.verify_segment import Findings, SegmentCheck, SegmentFacts

_OWN_FILES: Final = (
    names.LEADER_EPOCH_CHECKPOINT,
    names.PARTITION_METADATA,
    names.DAMAGED_RANGES,
)
# What Apache Kafka's own metadata partition has beside its segments.
_KRAFT_FILE: Final = re.compile(r"quorum-state|\d{20}-\d{10}\.checkpoint(\.deleted)?", re.ASCII)


@dataclass(slots=True)
class PartitionFacts:
    name: str
    segment_count: int = 0
    batch_count: int = 0
    record_count: int = 0
    size_bytes: int = 0
    log_start_offset: int = 0  # the first segment's base; the log may start later
    next_offset: int = 0
    topic_id: bytes | None = None


@dataclass(slots=True)
class _Files:
    """The directory's entries by what they are."""

    logs: list[int] = field(default_factory=list)
    indexes: list[tuple[int, str]] = field(default_factory=list)
    snapshots: list[int] = field(default_factory=list)


@dataclass(slots=True)
class PartitionCheck:
    """Checks one partition's directory.

    `is_clean`: the last stop was clean, so that nothing may be torn. `is_compacted`: gaps between
    offsets are what compaction leaves; it is also seen from the batches themselves.
    """

    directory: Path
    findings: Findings
    is_clean: bool
    is_compacted: bool = False
    deep: bool = False
    facts: PartitionFacts = field(init=False)
    _epochs: list[EpochEntry] = field(init=False, default_factory=list)
    _snapshots: list[int] = field(init=False, default_factory=list)  # the next one last
    _expected_offset: int = field(init=False, default=0)

    def run(self) -> PartitionFacts:
        self.facts = PartitionFacts(self.directory.name)
        files = _sort_files(self.directory, self.findings)
        self._epochs = _load_epochs(self.directory, self.findings)
        if files.logs:
            self._snapshots = sorted(files.snapshots, reverse=True)
            self._check_segments(files.logs)
        for offset in self._snapshots if files.logs else files.snapshots:
            message = f"beyond the log's end {self.facts.next_offset}"
            self.findings.error(self._snapshot_path(offset), message)
        _check_strays(self.directory, files, self.findings)
        _check_damaged_ranges(self.directory, self.findings)
        _check_epoch_bounds(self.directory, self._epochs, self.facts, self.findings)
        self.facts.topic_id = _load_topic_id(self.directory, self.findings)
        return self.facts

    def _check_segments(self, base_offsets: list[int]) -> None:
        facts = self.facts
        facts.log_start_offset = facts.next_offset = self._expected_offset = base_offsets[0]
        replay = ProducerReplay(self.findings, base_offsets[0])
        for base_offset in base_offsets:
            is_last = base_offset == base_offsets[-1]
            self._check_segment(base_offset, is_last, replay)
        self._check_snapshots_to(facts.next_offset, replay)

    def _check_segment(self, base_offset: int, is_last: bool, replay: ProducerReplay) -> None:
        check = SegmentCheck(
            self.directory, base_offset, is_last, self.is_clean, self.findings, self.deep
        )
        path = check.path(names.LOG_SUFFIX)
        missing: list[tuple[int, int, int]] = []

        def on_batch(batch: Batch, data: memoryview) -> None:
            info = batch.info
            if info.base_offset > self._expected_offset:
                missing.append((self._expected_offset, info.base_offset, batch.pos))
            self._expected_offset = max(self._expected_offset, info.last_offset + 1)
            self._check_snapshots_to(info.base_offset, replay)
            _check_epoch(self._epochs, batch, path, self.findings)
            replay.see(batch, data, path)

        segment = check.run(on_batch)
        self.is_compacted = self.is_compacted or segment.is_compacted
        if base_offset < self.facts.next_offset:
            message = f"overlaps the segment before it, which ends at {self.facts.next_offset}"
            self.findings.error(path, message)
        if base_offset > self._expected_offset and not segment.batch_count:
            missing.append((self._expected_offset, base_offset, 0))
            self._expected_offset = base_offset
        if not self.is_compacted:
            for first, end, pos in missing:
                self.findings.error(path, f"offsets {first}..{end - 1} are missing", pos)
        replay.end_segment(
            check.path(names.TXN_INDEX_SUFFIX), base_offset, is_compacted=self.is_compacted
        )
        _add(self.facts, segment)

    def _check_snapshots_to(self, next_offset: int, replay: ProducerReplay) -> None:
        while self._snapshots and self._snapshots[-1] <= next_offset:
            offset = self._snapshots.pop()
            replay.check_snapshot(
                self._snapshot_path(offset), offset, is_compacted=self.is_compacted
            )

    def _snapshot_path(self, offset: int) -> str:
        return str(self.directory / names.make_segment_name(offset, names.SNAPSHOT_SUFFIX))


def _add(facts: PartitionFacts, segment: SegmentFacts) -> None:
    facts.segment_count += 1
    facts.batch_count += segment.batch_count
    facts.record_count += segment.record_count
    facts.size_bytes += segment.size
    facts.next_offset = max(facts.next_offset, segment.next_offset)


def _sort_files(directory: Path, findings: Findings) -> _Files:
    files = _Files()
    for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
        segment = names.parse_segment_name(entry.name)
        if entry.name in _OWN_FILES:
            continue
        if entry.name.endswith(TMP_SUFFIX):
            findings.note(entry.path, "left by a write that did not finish, never read")
        elif segment is None or not entry.is_file():
            if _KRAFT_FILE.fullmatch(entry.name) is None:
                findings.error(entry.path, "stray: no file of ours has such a name")
        elif segment.state == names.BROKEN_SUFFIX:
            findings.error(entry.path, "damaged file set aside by recovery")
        elif segment.state:
            findings.note(entry.path, f"left over ({segment.state}), the next start removes it")
        elif segment.suffix == names.LOG_SUFFIX:
            files.logs.append(segment.base_offset)
        elif segment.suffix == names.SNAPSHOT_SUFFIX:
            files.snapshots.append(segment.base_offset)
        else:
            files.indexes.append((segment.base_offset, segment.suffix))
    return files


def _check_strays(directory: Path, files: _Files, findings: Findings) -> None:
    known = set(files.logs)
    for base_offset, suffix in files.indexes:
        if base_offset not in known:
            path = directory / names.make_segment_name(base_offset, suffix)
            findings.error(path, "stray: an index without its log")


def _check_damaged_ranges(directory: Path, findings: Findings) -> None:
    """What recovery found and set aside is still wrong, and each range names the offsets it
    cost."""
    path = directory / names.DAMAGED_RANGES
    try:
        ranges = load_damaged_ranges(path)
    except IndexCorrupt as error:
        findings.corrupt(path, error)
        return
    for item in ranges:
        log = names.make_segment_name(item.base_offset, names.LOG_SUFFIX)
        message = (
            f"quarantined: bytes {item.pos}..{item.end_pos} of {log}, "
            f"offsets {item.first_offset}..{item.next_offset}"
        )
        findings.error(path, message)


def _load_epochs(directory: Path, findings: Findings) -> list[EpochEntry]:
    path = directory / names.LEADER_EPOCH_CHECKPOINT
    try:
        return load_epoch_checkpoint(path)
    except IndexCorrupt as error:
        findings.corrupt(path, error)
        return []


def _check_epoch(epochs: list[EpochEntry], batch: Batch, path: str, findings: Findings) -> None:
    """A follower truncates by the checkpoint: it must give each batch its own epoch."""
    if not epochs:
        return
    offset, epoch = batch.info.base_offset, batch.info.leader_epoch
    at = bisect.bisect_right(epochs, offset, key=lambda entry: entry.start_offset) - 1
    claimed = epochs[at].leader_epoch if at >= 0 else -1
    if claimed != epoch:
        message = f"offset {offset} has leader epoch {epoch}, the epoch checkpoint says {claimed}"
        findings.error(path, message, batch.pos)


def _check_epoch_bounds(
    directory: Path, epochs: list[EpochEntry], facts: PartitionFacts, findings: Findings
) -> None:
    for epoch, start_offset in epochs:
        if start_offset > facts.next_offset:
            message = (
                f"epoch {epoch} starts at {start_offset}, beyond the log's end {facts.next_offset}"
            )
            findings.error(directory / names.LEADER_EPOCH_CHECKPOINT, message)


def _load_topic_id(directory: Path, findings: Findings) -> bytes | None:
    path = directory / names.PARTITION_METADATA
    try:
        return load_partition_metadata(path).topic_id
    except FileNotFoundError:
        return None  # a log used without a broker has none
    except IndexCorrupt as error:
        findings.corrupt(path, error)
        return None
