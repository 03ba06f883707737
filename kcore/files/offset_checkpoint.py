"""The checkpoints in the root of a data directory: one offset for each partition.

Recovery point, log start, high watermark and cleaner position each have a file of this one shape: a
text checkpoint of `<topic> <partition> <offset>` lines. Writing them costs two fsyncs whatever the
number of partitions, which is why they are per directory and not per partition.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from kcore.files.atomic import read_bounded, write_atomic
from kcore.files.checkpoint_text import (
    CHECKPOINT_BYTES_MAX,
    corrupt,
    decode_lines,
    encode_lines,
    parse_int,
)
from kcore.files.names import OFFSET_MAX, PARTITION_MAX, is_valid_topic

_WHAT: Final = "offset checkpoint"


def encode_offset_checkpoint(offsets: Mapping[tuple[str, int], int]) -> bytes:
    """`offsets`: (topic, partition) -> offset. Sorted, so that equal maps are equal files."""
    return encode_lines(
        [f"{topic} {partition} {offset}" for (topic, partition), offset in sorted(offsets.items())]
    )


def decode_offset_checkpoint(
    data: bytes | memoryview, *, path: str | None = None
) -> dict[tuple[str, int], int]:
    offsets: dict[tuple[str, int], int] = {}
    for pos, (topic, index_text, offset_text) in decode_lines(
        data, what=_WHAT, fields=3, path=path
    ):
        if not is_valid_topic(topic):
            raise corrupt(_WHAT, "bad topic name", path, pos, "a topic name", repr(topic))
        partition = parse_int(index_text, _WHAT, path, pos, 0, PARTITION_MAX)
        offset = parse_int(offset_text, _WHAT, path, pos, 0, OFFSET_MAX)
        if (topic, partition) in offsets:
            raise corrupt(
                _WHAT, "partition appears twice", path, pos, "once", f"{topic}-{partition}"
            )
        offsets[topic, partition] = offset
    return offsets


def load_offset_checkpoint(path: str | os.PathLike[str]) -> dict[tuple[str, int], int]:
    """Empty when the file does not exist yet."""
    try:
        data = read_bounded(path, CHECKPOINT_BYTES_MAX)
    except FileNotFoundError:
        return {}
    return decode_offset_checkpoint(data, path=os.fspath(path))


def store_offset_checkpoint(
    path: str | os.PathLike[str], offsets: Mapping[tuple[str, int], int], *, sync: bool = True
) -> None:
    write_atomic(path, encode_offset_checkpoint(offsets), sync=sync)
