"""`kcore dump`: prints any file of a data directory, as text or as one JSON object a line.

Every kind of file becomes a stream of rows (plain dicts, `kind` first), and both forms print the
same rows, so nothing can be seen in one that is missing in the other. Damage is a row too (`kind:
damage`), and what can still be read after it is printed. The file may be live: nothing is locked or
written.
"""

from __future__ import annotations

import argparse
import base64
import json
import mmap
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from kcore.errors import CoreError
from kcore.files import names
from kcore.files.atomic import TMP_SUFFIX, read_bounded
from kcore.files.batch_walk import Batch, walk_batches
from kcore.files.checkpoint_text import CHECKPOINT_BYTES_MAX
from kcore.files.clean_marker import CLEAN_MARKER_BYTES_MAX, decode_clean_marker
from kcore.files.control import read_control
from kcore.files.damaged_ranges import decode_damaged_ranges
from kcore.files.epoch_checkpoint import decode_epoch_checkpoint
from kcore.files.index_entries import INDEX_FILE_BYTES_MAX, decode_index, decode_time_index
from kcore.files.meta_properties import META_PROPERTIES_BYTES_MAX, decode_meta_properties
from kcore.files.offset_checkpoint import decode_offset_checkpoint
from kcore.files.partition_metadata import PARTITION_METADATA_BYTES_MAX, decode_partition_metadata
from kcore.files.producer_snapshot import SNAPSHOT_BYTES_MAX, decode_producer_snapshot
from kcore.files.topic_ids import encode_id
from kcore.files.txn_index import TXN_INDEX_BYTES_MAX, decode_txn_index

Row = dict[str, Any]
Write = Callable[[str], object]

EXIT_CLEAN: Final = 0
EXIT_DAMAGED: Final = 1
EXIT_USAGE: Final = 2

_EXIT_OF_KIND: Final = {"damage": EXIT_DAMAGED, "error": EXIT_USAGE}
_TEXT_CHARS_MAX: Final = 120  # of a key or value in a text row; JSON rows have all of it


def main(
    argv: Sequence[str] | None = None,
    write: Write = sys.stdout.write,
    complain: Write = sys.stderr.write,
) -> int:
    parser = argparse.ArgumentParser(
        prog="kcore dump", description="Print files of a data directory, whatever they hold."
    )
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--records", action="store_true", help="the records of every batch too")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args(argv)
    return dump_files(options.files, write, complain, records=options.records, as_json=options.json)


def dump_files(
    paths: Sequence[str | os.PathLike[str]],
    write: Write,
    complain: Write,
    *,
    records: bool = False,
    as_json: bool = False,
) -> int:
    """0: all read; 1: damage was found; 2: a file cannot be opened or is none of ours, which
    `complain` is told and `write` is not."""
    worst = EXIT_CLEAN
    for path in paths:
        for row in _rows_or_error(path, records):
            tell = complain if row["kind"] == "error" else write
            tell(_as_json(row) if as_json else _as_text(row))
            worst = max(worst, _EXIT_OF_KIND.get(row["kind"], EXIT_CLEAN))
    return worst


def dump_rows(path: str | os.PathLike[str], *, records: bool = False) -> Iterator[Row]:
    """The rows of one file. OSError when it cannot be read, ValueError when its name says nothing;
    damage inside it is a row, never an exception."""
    text = os.fspath(path)
    name = os.path.basename(text)
    segment = names.parse_segment_name(name)
    base_offset = segment.base_offset if segment else 0
    if segment is not None and segment.suffix == names.LOG_SUFFIX:
        rows = _log_rows(text, base_offset, records)
    else:
        reader = _READERS.get(segment.suffix if segment else name.removesuffix(TMP_SUFFIX))
        if reader is None:
            raise ValueError(f"{text}: not a file of a data directory, going by its name")
        rows = reader(text, base_offset)
    yield {"kind": "file", "path": text, "size": os.stat(text).st_size}
    try:
        yield from rows
    except CoreError as error:
        yield _damage(error)


def _rows_or_error(path: str | os.PathLike[str], records: bool) -> Iterator[Row]:
    try:
        yield from dump_rows(path, records=records)
    except (OSError, ValueError) as error:
        yield {"kind": "error", "path": os.fspath(path), "message": str(error)}


# ------------------------------------------------------------------------------ a row per kind


def _log_rows(path: str, base_offset: int, records: bool) -> Iterator[Row]:
    if os.stat(path).st_size == 0:
        return
    with open(path, "rb") as file:
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    for item in walk_batches(data, base_offset=base_offset, path=path):
        if not isinstance(item, Batch):
            if item.kind == "zeros":
                yield {"kind": "zeros", "pos": item.pos, "size": item.end_pos - item.pos}
            else:
                yield {**_damage(item.error), "size": item.end_pos - item.pos}
            continue
        batch = data[item.pos : item.pos + item.info.size]
        yield _batch_row(item, batch)
        if records and not item.info.is_control:
            yield from _record_rows(batch, item.pos, path)


def _batch_row(item: Batch, data: memoryview) -> Row:
    info = item.info
    row: Row = {
        "kind": "batch",
        "pos": item.pos,
        "size": info.size,
        "base_offset": info.base_offset,
        "last_offset": info.last_offset,
        "record_count": info.record_count,
        "codec": info.codec,
        "base_timestamp": info.base_timestamp,
        "max_timestamp": info.max_timestamp,
        "timestamp_type": "append" if info.is_append_time else "create",
        "leader_epoch": info.leader_epoch,
        "crc": f"{info.crc:#010x}",
    }
    if info.has_delete_horizon:
        row["delete_horizon"] = row.pop("base_timestamp")
    if info.producer_id >= 0:
        row["producer_id"] = info.producer_id
        row["producer_epoch"] = info.producer_epoch
        row["base_sequence"] = info.base_sequence
        row["transactional"] = info.is_transactional
    if info.is_control:
        control = read_control(data)
        row["control"] = control.name
        if control.coordinator_epoch >= 0:
            row["coordinator_epoch"] = control.coordinator_epoch
    return row


def _record_rows(batch: memoryview, pos: int, path: str) -> Iterator[Row]:
    from kcore._native.records import records

    try:
        for record in records(batch):
            yield {
                "kind": "record",
                "offset": record.offset,
                "timestamp": record.timestamp,
                "key": record.key,
                "value": record.value,
                "headers": [[name, value] for name, value in record.headers],
            }
    except CoreError as error:
        error.path, error.pos = path, pos
        yield _damage(error)


def _index_rows(path: str, base_offset: int) -> Iterator[Row]:
    data = read_bounded(path, INDEX_FILE_BYTES_MAX)
    entries, zero_bytes = decode_index(data, base_offset=base_offset, path=path)
    for entry in entries:
        yield {"kind": "index_entry", "offset": entry.offset, "pos": entry.pos}
    yield from _zeros(len(data), zero_bytes)


def _time_index_rows(path: str, base_offset: int) -> Iterator[Row]:
    data = read_bounded(path, INDEX_FILE_BYTES_MAX)
    entries, zero_bytes = decode_time_index(data, base_offset=base_offset, path=path)
    for entry in entries:
        yield {"kind": "time_index_entry", "timestamp": entry.timestamp, "offset": entry.offset}
    yield from _zeros(len(data), zero_bytes)


def _zeros(size: int, zero_bytes: int) -> Iterator[Row]:
    if zero_bytes:
        yield {"kind": "zeros", "pos": size - zero_bytes, "size": zero_bytes}


def _txn_index_rows(path: str, base_offset: int) -> Iterator[Row]:
    data = read_bounded(path, TXN_INDEX_BYTES_MAX)
    for entry in decode_txn_index(data, path=path, base_offset=base_offset):
        yield {"kind": "aborted_txn", **entry._asdict()}


def _snapshot_rows(path: str, next_offset: int) -> Iterator[Row]:
    data = read_bounded(path, SNAPSHOT_BYTES_MAX)
    for entry in decode_producer_snapshot(data, path=path, next_offset=next_offset):
        yield {"kind": "producer", **entry._asdict()}


def _epoch_rows(path: str, _base_offset: int) -> Iterator[Row]:
    for entry in decode_epoch_checkpoint(read_bounded(path, CHECKPOINT_BYTES_MAX), path=path):
        yield {"kind": "leader_epoch", **entry._asdict()}


def _damaged_range_rows(path: str, _base_offset: int) -> Iterator[Row]:
    for item in decode_damaged_ranges(read_bounded(path, CHECKPOINT_BYTES_MAX), path=path):
        yield {"kind": "damaged_range", **item._asdict()}


def _offset_rows(path: str, _base_offset: int) -> Iterator[Row]:
    data = read_bounded(path, CHECKPOINT_BYTES_MAX)
    for (topic, partition), offset in decode_offset_checkpoint(data, path=path).items():
        yield {"kind": "offset", "topic": topic, "partition": partition, "offset": offset}


def _partition_metadata_rows(path: str, _base_offset: int) -> Iterator[Row]:
    data = read_bounded(path, PARTITION_METADATA_BYTES_MAX)
    meta = decode_partition_metadata(data, path=path)
    row = {"version": meta.version, "topic_id": encode_id(meta.topic_id)}
    yield {"kind": "partition_metadata", **row}


def _meta_properties_rows(path: str, _base_offset: int) -> Iterator[Row]:
    meta = decode_meta_properties(read_bounded(path, META_PROPERTIES_BYTES_MAX), path=path)
    directory_id = encode_id(meta.directory_id) if meta.directory_id is not None else None
    yield {"kind": "meta_properties", **meta._asdict(), "directory_id": directory_id}


def _clean_marker_rows(path: str, _base_offset: int) -> Iterator[Row]:
    marker = decode_clean_marker(read_bounded(path, CLEAN_MARKER_BYTES_MAX), path=path)
    yield {"kind": "clean_marker", **marker._asdict()}


def _damage(error: CoreError) -> Row:
    row: Row = {"kind": "damage", "pos": error.pos, "message": error.message}
    if error.expected is not None or error.found is not None:
        row["expected"], row["found"] = str(error.expected), str(error.found)
    return row


# ------------------------------------------------------------------------------- the two forms


def _as_json(row: Row) -> str:
    """Bytes that are text stay text; others are `{"base64": ...}`."""
    return json.dumps(row, default=_json_bytes) + "\n"


def _json_bytes(value: object) -> object:
    if not isinstance(value, bytes):
        raise TypeError(f"{type(value).__name__} in a row")
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode("ascii")}


def _as_text(row: Row) -> str:
    kind = row["kind"]
    indent = "" if kind == "file" else "    " if kind == "record" else "  "
    fields = " ".join(f"{key}={_text(value)}" for key, value in row.items() if key != "kind")
    return f"{indent}{kind} {fields}\n"


def _text(value: object) -> str:
    if isinstance(value, bytes):
        # Escapes and quotes as in a Python literal: the output stays one line of plain text
        # whatever a record holds.
        shown = repr(value[:_TEXT_CHARS_MAX])[1:]
        more = len(value) - _TEXT_CHARS_MAX
        return f"{shown}...(+{more} bytes)" if more > 0 else shown
    if isinstance(value, list):
        return "{" + ", ".join(f"{_text(name)}: {_text(item)}" for name, item in value) + "}"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        plain = value.isascii() and value.isprintable() and " " not in value and value
        return value if plain else ascii(value)
    return str(value)


_READERS: Final[dict[str, Callable[[str, int], Iterator[Row]]]] = {
    names.INDEX_SUFFIX: _index_rows,
    names.TIME_INDEX_SUFFIX: _time_index_rows,
    names.TXN_INDEX_SUFFIX: _txn_index_rows,
    names.SNAPSHOT_SUFFIX: _snapshot_rows,
    names.LEADER_EPOCH_CHECKPOINT: _epoch_rows,
    names.DAMAGED_RANGES: _damaged_range_rows,
    names.PARTITION_METADATA: _partition_metadata_rows,
    names.META_PROPERTIES: _meta_properties_rows,
    names.CLEAN_MARKER: _clean_marker_rows,
    **dict.fromkeys(names.OFFSET_CHECKPOINTS, _offset_rows),
}
