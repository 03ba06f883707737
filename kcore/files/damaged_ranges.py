"""`damaged-ranges`: the bytes of a partition's segments that recovery found bad and keeps unserved.

A text checkpoint of `<segment base> <pos> <end pos> <first offset> <next offset>` lines, positions
and offsets half-open. Recovery writes it; Kafka has no such file and ignores it.
"""

from __future__ import annotations

import os
from typing import Final, NamedTuple

from kcore.files.atomic import read_bounded
from kcore.files.checkpoint_text import CHECKPOINT_BYTES_MAX, corrupt, decode_lines, parse_int
from kcore.files.names import OFFSET_MAX

_WHAT: Final = "damaged ranges"


class DamagedRange(NamedTuple):
    base_offset: int
    pos: int
    end_pos: int
    first_offset: int
    next_offset: int


def decode_damaged_ranges(
    data: bytes | memoryview, *, path: str | None = None
) -> list[DamagedRange]:
    ranges: list[DamagedRange] = []
    for pos, fields in decode_lines(data, what=_WHAT, fields=5, path=path):
        item = DamagedRange(*(parse_int(text, _WHAT, path, pos, 0, OFFSET_MAX) for text in fields))
        if item.pos > item.end_pos or item.first_offset > item.next_offset:
            raise corrupt(_WHAT, "range ends before it begins", path, pos, "a range", tuple(item))
        ranges.append(item)
    return ranges


def load_damaged_ranges(path: str | os.PathLike[str]) -> list[DamagedRange]:
    """Empty when the file does not exist: nothing is damaged."""
    try:
        data = read_bounded(path, CHECKPOINT_BYTES_MAX)
    except FileNotFoundError:
        return []
    return decode_damaged_ranges(data, path=os.fspath(path))
