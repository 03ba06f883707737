"""`leader-epoch-checkpoint`: at which offset each leader epoch of a partition began.

A text checkpoint of `<epoch> <start offset>` lines. Epochs rise strictly; start offsets too,
because an epoch whose leader wrote nothing leaves no line.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final, NamedTuple

from kcore.files.atomic import read_bounded, write_atomic
from kcore.files.checkpoint_text import (
    CHECKPOINT_BYTES_MAX,
    corrupt,
    decode_lines,
    encode_lines,
    parse_int,
)
from kcore.files.names import OFFSET_MAX

_WHAT: Final = "leader epoch checkpoint"
_EPOCH_MAX: Final = (1 << 31) - 1


class EpochEntry(NamedTuple):
    leader_epoch: int
    start_offset: int


def encode_epoch_checkpoint(entries: Sequence[EpochEntry]) -> bytes:
    return encode_lines([f"{epoch} {start}" for epoch, start in entries])


def decode_epoch_checkpoint(
    data: bytes | memoryview, *, path: str | None = None
) -> list[EpochEntry]:
    entries: list[EpochEntry] = []
    for pos, (epoch_text, start_text) in decode_lines(data, what=_WHAT, fields=2, path=path):
        epoch = parse_int(epoch_text, _WHAT, path, pos, 0, _EPOCH_MAX)
        start = parse_int(start_text, _WHAT, path, pos, 0, OFFSET_MAX)
        if entries and epoch <= entries[-1].leader_epoch:
            expected = f"above {entries[-1].leader_epoch}"
            raise corrupt(_WHAT, "epochs do not rise", path, pos, expected, epoch)
        if entries and start <= entries[-1].start_offset:
            expected = f"above {entries[-1].start_offset}"
            raise corrupt(_WHAT, "start offsets do not rise", path, pos, expected, start)
        entries.append(EpochEntry(epoch, start))
    return entries


def load_epoch_checkpoint(path: str | os.PathLike[str]) -> list[EpochEntry]:
    """Empty when the file does not exist yet."""
    try:
        data = read_bounded(path, CHECKPOINT_BYTES_MAX)
    except FileNotFoundError:
        return []
    return decode_epoch_checkpoint(data, path=os.fspath(path))


def store_epoch_checkpoint(path: str | os.PathLike[str], entries: Sequence[EpochEntry]) -> None:
    write_atomic(path, encode_epoch_checkpoint(entries))
