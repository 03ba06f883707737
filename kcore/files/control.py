"""Control batches: the transaction markers and KRaft's own records that a log carries between data.

A control record's key is version i16 and type i16; an end-of-transaction marker's value is version
i16 and coordinator epoch i32. Control batches are never compressed.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from kcore.errors import CorruptBatch
from kcore.limits import BATCH_HEADER_BYTES

ABORT: Final = 0
COMMIT: Final = 1
CONTROL_NAMES: Final = (
    "abort", "commit", "leader_change", "snapshot_header", "snapshot_footer", "kraft_version",
    "kraft_voters",
)  # fmt: skip

_KEY = struct.Struct(">hh")
_MARKER = struct.Struct(">hi")
_VARINT_BYTES_MAX: Final = 10


class ControlRecord(NamedTuple):
    """The first record of a control batch. `coordinator_epoch`: -1 unless a transaction's end."""

    type_id: int
    coordinator_epoch: int

    @property
    def name(self) -> str:
        known = 0 <= self.type_id < len(CONTROL_NAMES)
        return CONTROL_NAMES[self.type_id] if known else f"unknown_{self.type_id}"


def read_control(batch: memoryview) -> ControlRecord:
    """`batch`: one whole control batch whose header was checked."""
    pos = BATCH_HEADER_BYTES
    length, pos = _varint(batch, pos)
    end = pos + length
    if length < 0 or end > len(batch):
        raise _bad("record length", pos, len(batch) - pos, length)
    pos += 1  # attributes, unused
    _, pos = _varint(batch, pos)  # timestamp delta
    _, pos = _varint(batch, pos)  # offset delta
    key_size, pos = _varint(batch, pos)
    if key_size < _KEY.size or pos + key_size > end:
        raise _bad("key size", pos, f"{_KEY.size} bytes", key_size)
    _, type_id = _KEY.unpack_from(batch, pos)
    pos += key_size
    if type_id not in (ABORT, COMMIT):
        return ControlRecord(type_id, -1)
    value_size, pos = _varint(batch, pos)
    if value_size < _MARKER.size or pos + value_size > end:
        raise _bad("marker size", pos, f"{_MARKER.size} bytes", value_size)
    _, coordinator_epoch = _MARKER.unpack_from(batch, pos)
    return ControlRecord(type_id, coordinator_epoch)


def _varint(data: memoryview, pos: int) -> tuple[int, int]:
    raw = shift = 0
    for at in range(pos, min(pos + _VARINT_BYTES_MAX, len(data))):
        raw |= (data[at] & 0x7F) << shift
        if data[at] < 0x80:
            return (raw >> 1) ^ -(raw & 1), at + 1
        shift += 7
    raise _bad("varint", pos, f"at most {_VARINT_BYTES_MAX} bytes", "no end")


def _bad(what: str, pos: int, expected: object, found: object) -> CorruptBatch:
    return CorruptBatch(f"control record: bad {what}", pos=pos, expected=expected, found=found)
