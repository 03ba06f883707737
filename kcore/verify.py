"""`kcore verify`: is a data directory, or one partition in it, what its files say it is?

Reads only, changes nothing, and shares no code with recovery. It must not run beside a broker on
the same directory: what it read a moment ago may be gone. Exit code 0: nothing wrong (notes do not
count: a crash leaves them and the next start tidies up); 1: errors; 2: usage.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from kcore.errors import IndexCorrupt
from kcore.files import names
from kcore.files.atomic import TMP_SUFFIX
from kcore.files.clean_marker import load_clean_marker
from kcore.files.meta_properties import load_meta_properties
from kcore.files.offset_checkpoint import load_offset_checkpoint
from kcore.files.topic_ids import encode_id
from kcore.verify_partition import PartitionCheck, PartitionFacts
from kcore.verify_segment import Findings

Write = Callable[[str], object]

EXIT_CLEAN: Final = 0
EXIT_FINDINGS: Final = 1
EXIT_USAGE: Final = 2

# Beside partitions and the files above: the metadata store's directory, and what Apache Kafka keeps
# in a root of its own.
_OTHER_ROOT_ENTRIES: Final = frozenset({"metadata", "bootstrap.checkpoint", "lost+found"})


@dataclass(slots=True)
class Report:
    path: str
    is_clean: bool
    findings: Findings = field(default_factory=Findings)
    partitions: list[PartitionFacts] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        return EXIT_FINDINGS if self.findings.count("error") else EXIT_CLEAN


def main(
    argv: Sequence[str] | None = None,
    write: Write = sys.stdout.write,
    complain: Write = sys.stderr.write,
) -> int:
    parser = argparse.ArgumentParser(
        prog="kcore verify", description="Check a data directory, or one partition's, offline."
    )
    parser.add_argument("directory", metavar="DIR")
    parser.add_argument("--deep", action="store_true", help="decode every record too")
    parser.add_argument("--json", action="store_true", help="the report as one JSON object")
    options = parser.parse_args(argv)
    try:
        report = verify_dir(options.directory, deep=options.deep)
    except OSError as error:
        complain(f"kcore: cannot verify {options.directory}: {error.strerror}\n")
        return EXIT_USAGE
    (write_json if options.json else write_table)(report, write)
    return report.exit_code


def verify_dir(path: str | os.PathLike[str], *, deep: bool = False) -> Report:
    """Check `path`: a partition's directory when it holds segments, else a data directory."""
    root = Path(path)
    entries = sorted(os.listdir(root))
    if any(names.parse_segment_name(name) for name in entries):
        # Alone, a partition cannot know how its broker stopped: the marker is in the root.
        marker = root.parent / names.CLEAN_MARKER
        report = Report(str(root), marker.exists())
        check = PartitionCheck(root, report.findings, report.is_clean, deep=deep)
        report.partitions.append(check.run())
        return report
    report = Report(str(root), (root / names.CLEAN_MARKER).exists())
    checkpoints = _load_root_files(root, report.findings)
    compacted = checkpoints.get(names.CLEANER_CHECKPOINT, {})
    for name in entries:
        entry = root / name
        parsed = names.parse_partition_dir(name)
        if parsed is None or not entry.is_dir():
            _check_root_entry(entry, report.findings)
        elif parsed.mark:
            report.findings.note(entry, f"marked -{parsed.mark}, not checked")
        else:
            key = (parsed.topic, parsed.partition)
            check = PartitionCheck(entry, report.findings, report.is_clean, key in compacted, deep)
            facts = check.run()
            report.partitions.append(facts)
            for file_name, offsets in checkpoints.items():
                _check_offset(root / file_name, file_name, offsets.pop(key, None), facts, report)
    for file_name, offsets in checkpoints.items():
        for topic, partition in offsets:
            message = f"{topic}-{partition} is not in this directory"
            report.findings.note(root / file_name, message)
    _check_topic_ids(report)
    return report


def _load_root_files(root: Path, findings: Findings) -> dict[str, dict[tuple[str, int], int]]:
    """Parse every file of the root; the offset checkpoints are returned by name."""
    for name, load in (
        (names.META_PROPERTIES, load_meta_properties),
        (names.CLEAN_MARKER, load_clean_marker),
    ):
        try:
            load(root / name)
        except FileNotFoundError:
            continue
        except IndexCorrupt as error:
            findings.corrupt(root / name, error)
    checkpoints: dict[str, dict[tuple[str, int], int]] = {}
    for name in names.OFFSET_CHECKPOINTS:
        try:
            checkpoints[name] = load_offset_checkpoint(root / name)
        except IndexCorrupt as error:
            findings.corrupt(root / name, error)
    return checkpoints


def _check_root_entry(entry: Path, findings: Findings) -> None:
    known = {names.META_PROPERTIES, names.CLEAN_MARKER, names.LOCK_FILE, *names.OFFSET_CHECKPOINTS}
    if entry.name in known or entry.name in _OTHER_ROOT_ENTRIES:
        return
    if entry.name.endswith(TMP_SUFFIX):
        findings.note(entry, "left by a write that did not finish, never read")
    else:
        findings.error(entry, "stray: nothing of ours has such a name")


def _check_offset(
    path: Path, name: str, offset: int | None, facts: PartitionFacts, report: Report
) -> None:
    if offset is None:
        return
    message = f"{facts.name}: offset {offset} is beyond the log's end {facts.next_offset}"
    if offset > facts.next_offset:
        # After a crash the log may end below a checkpoint that was synced when its tail was not.
        (report.findings.error if report.is_clean else report.findings.note)(path, message)
    elif name == names.LOG_START_CHECKPOINT and offset < facts.log_start_offset:
        message = f"{facts.name}: offset {offset} is below the first one, {facts.log_start_offset}"
        report.findings.note(path, message)


def _check_topic_ids(report: Report) -> None:
    """Partitions of one topic have one id; two topics never share one."""
    ids: dict[str, bytes] = {}
    for facts in report.partitions:
        parsed = names.parse_partition_dir(facts.name)
        if parsed is None or facts.topic_id is None:
            continue
        path = Path(report.path, facts.name, names.PARTITION_METADATA)
        known = ids.setdefault(parsed.topic, facts.topic_id)
        if known != facts.topic_id:
            message = f"topic id {encode_id(facts.topic_id)}, other partitions {encode_id(known)}"
            report.findings.error(path, message)
    owners: dict[bytes, str] = {}
    for topic, topic_id in ids.items():
        if owners.setdefault(topic_id, topic) != topic:
            path = Path(report.path)
            message = f"topics {owners[topic_id]} and {topic} share the id {encode_id(topic_id)}"
            report.findings.error(path, message)


# ------------------------------------------------------------------------------------- the report


def write_table(report: Report, write: Write) -> None:
    stop = "stopped cleanly" if report.is_clean else "not stopped cleanly"
    write(f"{report.path}: {len(report.partitions)} partitions, {stop}\n")
    for facts in report.partitions:
        write(
            f"  {facts.name}: {facts.segment_count} segments, {facts.batch_count} batches, "
            f"{facts.record_count} records, {facts.size_bytes} bytes, "
            f"offsets {facts.log_start_offset}..{facts.next_offset}\n"
        )
    rows = [
        (item.level, _where(report, item.path, item.pos), item.message)
        for item in sorted(report.findings.items, key=lambda item: item.level)
    ]
    width = max((len(where) for _, where, _ in rows), default=0)
    for level, where, message in rows:
        write(f"{level:5}  {where:{width}}  {message}\n")
    errors, notes = report.findings.count("error"), report.findings.count("note")
    write(f"{errors} errors, {notes} notes\n")


def write_json(report: Report, write: Write) -> None:
    partitions = [
        {
            "name": facts.name,
            "segments": facts.segment_count,
            "batches": facts.batch_count,
            "records": facts.record_count,
            "size_bytes": facts.size_bytes,
            "log_start_offset": facts.log_start_offset,
            "next_offset": facts.next_offset,
            "topic_id": encode_id(facts.topic_id) if facts.topic_id else None,
        }
        for facts in report.partitions
    ]
    findings = [
        {"level": item.level, "path": item.path, "pos": item.pos, "message": item.message}
        for item in report.findings.items
    ]
    document = {
        "path": report.path,
        "stopped_cleanly": report.is_clean,
        "errors": report.findings.count("error"),
        "notes": report.findings.count("note"),
        "partitions": partitions,
        "findings": findings,
    }
    write(json.dumps(document, indent=2) + "\n")


def _where(report: Report, path: str, pos: int | None) -> str:
    relative = os.path.relpath(path, report.path)
    return relative if pos is None else f"{relative} @{pos}"
