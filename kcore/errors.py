"""The engine's errors: one family, each saying where, what was expected, what was found.

`CoreError` means bytes or a disk are wrong, or a call is refused; the log it came from keeps the
state it had before the call. A bug in the engine itself is an `AssertionError`, never one of these.
"""

from __future__ import annotations


class CoreError(Exception):
    """Base of all engine errors.

    `path` is the file (or None for bytes in memory), `pos` the byte position in it, `expected`
    and `found` what the check compared. They are attributes so that callers need not parse text.
    """

    def __init__(
        self,
        message: str,
        *,
        path: str | None = None,
        pos: int | None = None,
        expected: object = None,
        found: object = None,
    ) -> None:
        self.message = message
        self.path = path
        self.pos = pos
        self.expected = expected
        self.found = found
        super().__init__(message)

    def __str__(self) -> str:
        text = self.message
        if self.path is not None:
            text += f" [{self.path}" + (f" at byte {self.pos}]" if self.pos is not None else "]")
        elif self.pos is not None:
            text += f" [at byte {self.pos}]"
        if self.expected is not None or self.found is not None:
            text += f": expected {self.expected}, found {self.found}"
        return text


class CorruptBatch(CoreError):
    """Bytes that claim to be a record batch are not one: length, magic, CRC or layout."""


class InvalidRecord(CoreError):
    """A well-formed batch breaks a rule of records: counts, deltas, keys, headers, timestamps.

    `record_index` is the 0-based record the rule failed on, or -1 for the batch itself.
    """

    def __init__(self, message: str, *, record_index: int = -1, **where: object) -> None:
        super().__init__(message, **where)  # type: ignore[arg-type]
        self.record_index = record_index


class UnsupportedCodec(CoreError):
    """The codec id is not one of Kafka's five, or its library is missing."""


class LimitExceeded(CoreError):
    """A size, count or decompression budget would be passed."""


class TornTail(CoreError):
    """The last bytes of a file are an unfinished write: recovery cuts them, no reader sees them."""


class IndexCorrupt(CoreError):
    """An index, snapshot or checkpoint file does not hold what its format says."""


class OffsetOutOfRange(CoreError):
    """The offset is below the log start or above the log end."""


class DamagedRange(CoreError):
    """The offset lies in a quarantined range: damaged bytes that are kept but never served.

    `first_offset` and `next_offset` (exclusive) bound the range.
    """

    def __init__(
        self, message: str, *, first_offset: int = -1, next_offset: int = -1, **where: object
    ) -> None:
        super().__init__(message, **where)  # type: ignore[arg-type]
        self.first_offset = first_offset
        self.next_offset = next_offset


class DiskFull(CoreError):
    """No space for this append. Nothing was written; reads and deletes go on."""


class TooManyFiles(CoreError):
    """No descriptor, mapping or memory for the call: RLIMIT_NOFILE or vm.max_map_count. The log is
    as it was; the call may succeed once others were given back (`Log.rest`)."""


class StorageFailed(CoreError):
    """A write or sync failed (EIO and its kin). The log takes no appends until it is reopened."""


class ClosedError(CoreError):
    """The log, segment or mapping was closed."""
