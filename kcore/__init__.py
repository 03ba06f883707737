"""kcore: a Kafka-format log engine. Record batches in and out, and logs of them on disk.

The names below are the public face. Each is imported when first used: `import kcore` itself loads
neither NumPy nor any extension module, so that a program which needs one function pays for one.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kcore._native.batch import BatchInfo, inspect
    from kcore._native.columns import Columns, decode
    from kcore._native.crc32c import crc32c
    from kcore._native.encoder import encode, rebuild
    from kcore._native.log import AppendResult, Log
    from kcore._native.mapping import FetchSpan
    from kcore._native.records import (
        Record,
        check_produced,
        find_timestamp,
        keyless_record,
        max_timestamp_record,
        records,
    )
    from kcore._native.simops import MemoryOps
    from kcore.errors import (
        ClosedError,
        CoreError,
        CorruptBatch,
        DamagedRange,
        DiskFull,
        IndexCorrupt,
        InvalidRecord,
        LimitExceeded,
        OffsetOutOfRange,
        StorageFailed,
        TooManyFiles,
        TornTail,
        UnsupportedCodec,
    )
    from kcore.log_config import LogConfig
    from kcore.log_types import (
        DamagedSpan,
        RecoveryReport,
        SegmentInfo,
        TimestampOffset,
    )
    from kcore.types import ControlMarker

__version__ = "0.1.0"

__all__ = [
    "AppendResult",
    "BatchInfo",
    "ClosedError",
    "Columns",
    "ControlMarker",
    "CoreError",
    "CorruptBatch",
    "DamagedRange",
    "DamagedSpan",
    "DiskFull",
    "FetchSpan",
    "IndexCorrupt",
    "InvalidRecord",
    "LimitExceeded",
    "Log",
    "LogConfig",
    "MemoryOps",
    "OffsetOutOfRange",
    "Record",
    "RecoveryReport",
    "SegmentInfo",
    "StorageFailed",
    "TimestampOffset",
    "TooManyFiles",
    "TornTail",
    "UnsupportedCodec",
    "check_produced",
    "crc32c",
    "decode",
    "encode",
    "find_timestamp",
    "inspect",
    "keyless_record",
    "max_timestamp_record",
    "rebuild",
    "records",
]

_HOMES = {
    "kcore._native.log": ("AppendResult", "Log"),
    "kcore._native.mapping": ("FetchSpan",),
    "kcore._native.simops": ("MemoryOps",),
    "kcore.log_config": ("LogConfig",),
    "kcore.log_types": ("DamagedSpan", "RecoveryReport", "SegmentInfo", "TimestampOffset"),
    "kcore._native.batch": ("BatchInfo", "inspect"),
    "kcore._native.columns": ("Columns", "decode"),
    "kcore._native.crc32c": ("crc32c",),
    "kcore._native.encoder": ("encode", "rebuild"),
    "kcore._native.records": (
        "Record",
        "check_produced",
        "find_timestamp",
        "keyless_record",
        "max_timestamp_record",
        "records",
    ),
    "kcore.errors": (
        "ClosedError",
        "CoreError",
        "CorruptBatch",
        "DamagedRange",
        "DiskFull",
        "IndexCorrupt",
        "InvalidRecord",
        "LimitExceeded",
        "OffsetOutOfRange",
        "StorageFailed",
        "TooManyFiles",
        "TornTail",
        "UnsupportedCodec",
    ),
    "kcore.types": ("ControlMarker",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'kcore' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value  # the next use finds it without coming here
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
