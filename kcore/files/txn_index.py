"""`.txnindex`: the aborted transactions that end in a segment, in the order of their markers.

Fixed entries of 34 bytes, big endian: version i16 (0), producer id i64, first offset i64, last
offset i64 (of the abort marker), last stable offset i64 (when the marker was written). A file that
was never needed does not exist. Marker offsets strictly rise, which is what makes a search stop.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from kcore.errors import IndexCorrupt
from kcore.files.atomic import read_bounded, write_atomic
from kcore.limits import TXN_INDEX_ENTRY_BYTES

VERSION: Final = 0
TXN_INDEX_BYTES_MAX: Final = 256 * 1024 * 1024  # 8 million aborted transactions in one segment

_ENTRY = struct.Struct(">hqqqq")
if _ENTRY.size != TXN_INDEX_ENTRY_BYTES:
    raise AssertionError("txn index entry is not its documented size")


class AbortedTxn(NamedTuple):
    """Records of `producer_id` in [first_offset, last_offset] are not to be delivered."""

    producer_id: int
    first_offset: int
    last_offset: int  # the abort marker's own offset, inclusive
    last_stable_offset: int


def encode_txn_index(entries: Iterable[AbortedTxn]) -> bytes:
    """Bytes of a whole file, or of entries to append to one."""
    return b"".join(_ENTRY.pack(VERSION, *entry) for entry in entries)


def decode_txn_index(
    data: bytes | memoryview, *, path: str | None = None, base_offset: int = 0
) -> list[AbortedTxn]:
    """All entries. `base_offset` is the segment's: no marker in it can lie below."""
    whole = len(data) - len(data) % TXN_INDEX_ENTRY_BYTES
    entries: list[AbortedTxn] = []
    last_marker = -1
    for index, (version, *fields) in enumerate(_ENTRY.iter_unpack(memoryview(data)[:whole])):
        pos = index * TXN_INDEX_ENTRY_BYTES
        if version != VERSION:
            raise _corrupt("unknown entry version", path, pos, VERSION, version)
        entry = AbortedTxn(*fields)
        if entry.producer_id < 0:
            raise _corrupt("producer id is negative", path, pos + 2, ">= 0", entry.producer_id)
        if not 0 <= entry.first_offset <= entry.last_offset:
            found = f"{entry.first_offset}..{entry.last_offset}"
            raise _corrupt("transaction ends before it begins", path, pos + 10, "a range", found)
        if entry.last_offset <= last_marker:
            expected = f"above {last_marker}"
            raise _corrupt("markers do not rise", path, pos + 18, expected, entry.last_offset)
        if entry.last_offset < base_offset:
            expected = f">= {base_offset}"
            raise _corrupt("marker below the segment", path, pos + 18, expected, entry.last_offset)
        if entry.last_stable_offset < 0:
            stable = entry.last_stable_offset
            raise _corrupt("last stable offset is negative", path, pos + 26, ">= 0", stable)
        last_marker = entry.last_offset
        entries.append(entry)
    if whole != len(data):
        raise _corrupt(
            "size is not a multiple of an entry",
            path,
            whole,
            f"{TXN_INDEX_ENTRY_BYTES} bytes",
            f"{len(data) - whole} bytes",
        )
    return entries


def aborted_in(
    entries: Sequence[AbortedTxn], first_offset: int, next_offset: int
) -> tuple[list[AbortedTxn], bool]:
    """Transactions overlapping [first_offset, next_offset), and whether the search is complete.

    Complete means that an entry's last stable offset reached the end of the range: every
    transaction that began below it was decided by then. Otherwise the next segment's index may
    still hold one that overlaps.
    """
    found: list[AbortedTxn] = []
    for entry in entries:
        if entry.last_offset >= first_offset and entry.first_offset < next_offset:
            found.append(entry)
        if entry.last_stable_offset >= next_offset:
            return found, True
    return found, False


def load_txn_index(path: str | os.PathLike[str], *, base_offset: int = 0) -> list[AbortedTxn]:
    """Empty when the file does not exist: no transaction was aborted in that segment."""
    try:
        data = read_bounded(path, TXN_INDEX_BYTES_MAX)
    except FileNotFoundError:
        return []
    return decode_txn_index(data, path=os.fspath(path), base_offset=base_offset)


def store_txn_index(path: str | os.PathLike[str], entries: Iterable[AbortedTxn]) -> None:
    """Replace the file by these entries (recovery, truncation). An append needs no such care: it
    writes `encode_txn_index([entry])` at the end, and recovery rebuilds a torn one."""
    write_atomic(path, encode_txn_index(entries))


def _corrupt(
    message: str, path: str | None, pos: int, expected: object, found: object
) -> IndexCorrupt:
    return IndexCorrupt(f"txn index: {message}", path=path, pos=pos, expected=expected, found=found)
