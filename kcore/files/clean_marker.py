"""`.kafka_cleanshutdown`: written last on a clean stop, removed first on a start.

JSON, `{"version":0,"brokerEpoch":N}`. Its presence means that every file was synced and trimmed, so
that nothing has to be scanned. Kafka before 3.7 wrote it empty, and that still means clean.
"""

from __future__ import annotations

import os
from typing import Final, NamedTuple

from kcore.errors import IndexCorrupt
from kcore.files.atomic import read_bounded, remove_if_exists, write_atomic

VERSION: Final = 0
CLEAN_MARKER_BYTES_MAX: Final = 4096


class CleanMarker(NamedTuple):
    broker_epoch: int = -1  # -1: not known
    version: int = VERSION


def encode_clean_marker(broker_epoch: int = -1) -> bytes:
    return b'{"version":%d,"brokerEpoch":%d}' % (VERSION, broker_epoch)


def decode_clean_marker(data: bytes | memoryview, *, path: str | None = None) -> CleanMarker:
    raw = bytes(data)
    if not raw.strip():
        return CleanMarker()
    import json  # here: a broker that starts after a crash, or for the first time, needs none

    try:
        content = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise _corrupt(path, "JSON", str(error)[:120]) from None
    if not isinstance(content, dict):
        raise _corrupt(path, "an object", type(content).__name__)
    version, broker_epoch = content.get("version", VERSION), content.get("brokerEpoch")
    if broker_epoch is None:
        broker_epoch = -1
    for name, value in (("version", version), ("brokerEpoch", broker_epoch)):
        if type(value) is not int or not -1 <= value < 1 << 63:
            raise _corrupt(path, f"an integer {name}", repr(value)[:80])
    return CleanMarker(broker_epoch, version)


def load_clean_marker(path: str | os.PathLike[str]) -> CleanMarker | None:
    """None when there is none: the last stop was not clean."""
    try:
        data = read_bounded(path, CLEAN_MARKER_BYTES_MAX)
    except FileNotFoundError:
        return None
    return decode_clean_marker(data, path=os.fspath(path))


def store_clean_marker(path: str | os.PathLike[str], broker_epoch: int = -1) -> None:
    write_atomic(path, encode_clean_marker(broker_epoch))


def take_clean_marker(path: str | os.PathLike[str]) -> bool:
    """True when the last stop was clean. The marker is gone, durably, when this returns: should the
    process die in the next moment, the start after it must scan. A marker that does not parse is
    not trusted, and goes too."""
    try:
        marker = load_clean_marker(path)
    except IndexCorrupt:
        marker = None
    remove_if_exists(path)
    return marker is not None


def _corrupt(path: str | None, expected: object, found: object) -> IndexCorrupt:
    return IndexCorrupt("clean marker: malformed", path=path, pos=0, expected=expected, found=found)
