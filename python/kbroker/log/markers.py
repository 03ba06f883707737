"""The one record of a transaction marker: COMMIT or ABORT, and the coordinator's epoch.

A control batch holds one record: key = version i16, type i16; value of a marker = version i16,
coordinator epoch i32 . Other types are not transactions'.
"""

from __future__ import annotations

from typing import NamedTuple

from kcore import records
from kcore.errors import CorruptBatch

ABORT = 0
COMMIT = 1

_KEY_BYTES = 4
_VALUE_BYTES = 6


class Marker(NamedTuple):
    aborted: bool
    coordinator_epoch: int


def parse_marker(batch: bytes | bytearray | memoryview) -> Marker | None:
    """None for a control batch of another kind. CorruptBatch when it is no control record."""
    record = next(records(batch, include_control=True), None)
    key = record.key if record is not None else None
    value = record.value if record is not None else None
    if key is None or len(key) < _KEY_BYTES:
        raise CorruptBatch("a control batch without a control record's key")
    kind = int.from_bytes(key[2:4], "big", signed=True)
    if kind not in (ABORT, COMMIT):
        return None
    if value is None or len(value) < _VALUE_BYTES:
        raise CorruptBatch("a transaction marker without a coordinator epoch")
    return Marker(kind == ABORT, int.from_bytes(value[2:6], "big", signed=True))
