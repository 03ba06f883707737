"""The records that every golden batch holds, whoever wrote it."""

from __future__ import annotations

from tests.ref.batch import Record

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")

RECORDS = [
    Record(0, 1700000000000, b"key", b"value"),
    Record(1, 1700000000005, None, b"no key"),
    Record(2, 1699999999000, b"tombstone", None),
    Record(3, 1700000000005, b"", b""),
    Record(4, 1700000086400000, None, None),
    Record(5, 1700000000006, b"headers", b"v", [("a", b"1"), ("b", None), ("a", b"")]),
    Record(6, 1700000000007, b"long", b"abcdefghij" * 700),
    Record(7, 1700000000007, b"\x00\xff" * 40, bytes(range(256)) * 3),
]
PRODUCER = (4000, 5, 6)
