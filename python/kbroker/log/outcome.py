"""What an append answers, and how the engine's refusals become the wire's codes."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from kbroker.base import errors
from kcore.errors import (
    ClosedError,
    CoreError,
    CorruptBatch,
    DiskFull,
    InvalidRecord,
    LimitExceeded,
    StorageFailed,
    TooManyFiles,
    UnsupportedCodec,
)

logger = logging.getLogger(__name__)


class AppendOutcome:
    """An append's answer. `error_code` 0: the records have the offsets [base_offset, next_offset).

    A duplicate has the offsets of the first time, and counts as 0 records and 0 bytes.
    """

    __slots__ = (
        "append_time_ms",
        "base_offset",
        "error_code",
        "log_start_offset",
        "message",
        "next_offset",
        "record_count",
        "record_errors",
        "size",
    )

    def __init__(
        self,
        error_code: int,
        base_offset: int,
        next_offset: int,
        append_time_ms: int,
        log_start_offset: int,
        record_count: int = 0,
        size: int = 0,
        message: str | None = None,
        record_errors: Sequence[tuple[int, str | None]] = (),
    ) -> None:
        self.error_code = error_code
        self.base_offset = base_offset
        self.next_offset = next_offset
        self.append_time_ms = append_time_ms
        self.log_start_offset = log_start_offset
        self.record_count = record_count
        self.size = size
        self.message = message
        self.record_errors = record_errors


def refused(
    error_code: int,
    message: str | None,
    record_errors: Sequence[tuple[int, str | None]] = (),
) -> AppendOutcome:
    return AppendOutcome(error_code, -1, -1, -1, -1, 0, 0, message, record_errors)


def refused_by_engine(error: CoreError) -> AppendOutcome:
    text = str(error)
    if isinstance(error, InvalidRecord):
        index = error.record_index
        return refused(errors.INVALID_RECORD, text, [(index, text)] if index >= 0 else ())
    for kind, error_code in _CODES:
        if isinstance(error, kind):
            return refused(error_code, text)
    # A kind nobody thought of: a producer must not lose records over it, so a code it retries.
    logger.error("an append was refused for an unexpected reason: %r", error)
    return refused(errors.KAFKA_STORAGE_ERROR, text)


_CODES: tuple[tuple[type[CoreError], int], ...] = (
    (CorruptBatch, errors.CORRUPT_MESSAGE),
    (LimitExceeded, errors.MESSAGE_TOO_LARGE),
    (UnsupportedCodec, errors.UNSUPPORTED_COMPRESSION_TYPE),
    (DiskFull, errors.KAFKA_STORAGE_ERROR),
    (TooManyFiles, errors.KAFKA_STORAGE_ERROR),
    (StorageFailed, errors.KAFKA_STORAGE_ERROR),
    (ClosedError, errors.NOT_LEADER_OR_FOLLOWER),
)
