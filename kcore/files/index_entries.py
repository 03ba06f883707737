"""`.index` and `.timeindex` as an offline tool reads them: plain entries out of plain bytes.

The engine maps these files and searches them in place; this module only takes them apart, and
shares no code with the engine on purpose: it is what the engine's indexes are checked against.

`.index`: 8 bytes an entry, relative offset i32 and position i32. `.timeindex`: 12 bytes, timestamp
i64 and relative offset i32. An index that was not trimmed ends in zeros; a zero entry that is not
the first ends the list.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from kcore.errors import IndexCorrupt
from kcore.limits import INDEX_ENTRY_BYTES, TIME_INDEX_ENTRY_BYTES

INDEX_FILE_BYTES_MAX: Final = 256 * 1024 * 1024

_INDEX_ENTRY = struct.Struct(">ii")
_TIME_ENTRY = struct.Struct(">qi")


class IndexEntry(NamedTuple):
    offset: int  # the last offset of the batch at `pos`
    pos: int


class TimeIndexEntry(NamedTuple):
    timestamp: int  # the largest so far
    offset: int  # the last offset of the batch that has it


class IndexEntries(NamedTuple):
    """`entries` up to the zeros; `zero_bytes` of preallocation behind them."""

    entries: list[IndexEntry]
    zero_bytes: int


class TimeIndexEntries(NamedTuple):
    entries: list[TimeIndexEntry]
    zero_bytes: int


def decode_index(
    data: bytes | memoryview, *, base_offset: int, path: str | None = None
) -> IndexEntries:
    used = _used_bytes(data, INDEX_ENTRY_BYTES, "index", path)
    entries: list[IndexEntry] = []
    last_relative = last_pos = -1
    for index, (relative, pos) in enumerate(_INDEX_ENTRY.iter_unpack(memoryview(data)[:used])):
        at = index * INDEX_ENTRY_BYTES
        if relative <= last_relative:
            raise _corrupt("index: offsets do not rise", path, at, last_relative, relative)
        if pos <= last_pos:
            raise _corrupt("index: positions do not rise", path, at + 4, last_pos, pos)
        last_relative, last_pos = relative, pos
        entries.append(IndexEntry(base_offset + relative, pos))
    return IndexEntries(entries, len(data) - used)


def decode_time_index(
    data: bytes | memoryview, *, base_offset: int, path: str | None = None
) -> TimeIndexEntries:
    used = _used_bytes(data, TIME_INDEX_ENTRY_BYTES, "time index", path)
    entries: list[TimeIndexEntry] = []
    last_timestamp = last_relative = -1
    for index, (timestamp, relative) in enumerate(_TIME_ENTRY.iter_unpack(memoryview(data)[:used])):
        at = index * TIME_INDEX_ENTRY_BYTES
        if timestamp <= last_timestamp:
            raise _corrupt(
                "time index: timestamps do not rise", path, at, last_timestamp, timestamp
            )
        if relative < last_relative or relative < 0:
            raise _corrupt("time index: offsets fall", path, at + 8, last_relative, relative)
        last_timestamp, last_relative = timestamp, relative
        entries.append(TimeIndexEntry(timestamp, base_offset + relative))
    return TimeIndexEntries(entries, len(data) - used)


def _used_bytes(data: bytes | memoryview, entry_bytes: int, what: str, path: str | None) -> int:
    """Bytes before the zeros. Entries behind a zero entry are damage, not preallocation."""
    if len(data) % entry_bytes:
        found = f"{len(data)} bytes"
        at = len(data) - len(data) % entry_bytes
        raise _corrupt(f"{what}: torn entry", path, at, f"a multiple of {entry_bytes}", found)
    used = len(bytes(data).rstrip(b"\0"))
    used += -used % entry_bytes
    zero = bytes(entry_bytes)
    raw = bytes(data[:used])
    # The first entry may be all zeros (one record at offset 0, position 0 in a time index); any
    # later one would end a search in front of the entries behind it.
    for at in range(entry_bytes, used, entry_bytes):
        if raw[at : at + entry_bytes] == zero:
            raise _corrupt(f"{what}: zeros between entries", path, at, "an entry", "zeros")
    return used


def _corrupt(message: str, path: str | None, pos: int, last: object, found: object) -> IndexCorrupt:
    expected = f"above {last}" if isinstance(last, int) else last
    return IndexCorrupt(message, path=path, pos=pos, expected=expected, found=found)
