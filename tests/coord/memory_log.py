"""A coordinator's log in memory: what was appended, a high watermark, failures to inject."""

from __future__ import annotations

from collections.abc import Sequence

from kbroker.base import errors
from kbroker.base.errors import KafkaError
from kbroker.coord.result import Bulk
from kbroker.coord.writer import KeyValue

from kcore import records


class MemoryLog:
    """`holds`: appends stay below the high watermark until `advance()`. `failures`: codes that the
    next appends are refused with, in order; 0 lets one pass. `bytes_max`: of keys and values of one
    append, about as message.max.bytes bounds it."""

    def __init__(self) -> None:
        self.batches: dict[int, list[list[KeyValue]]] = {}
        self.high_watermarks: dict[int, int] = {}
        self.holds = False
        self.failures: list[int] = []
        self.bytes_max = 1 << 30

    def append(self, index: int, records: Sequence[KeyValue], now_ms: int) -> int:
        assert records, "an append has records"
        if self.failures and (code := self.failures.pop(0)):
            raise KafkaError(code)
        if sum(len(key) + len(value or b"") + 8 for key, value in records) > self.bytes_max:
            raise KafkaError(errors.MESSAGE_TOO_LARGE)
        self.batches.setdefault(index, []).append(list(records))
        if not self.holds:
            self.high_watermarks[index] = self.next_offset(index)
        return self.next_offset(index)

    def append_bulk(self, index: int, bulk: Bulk) -> int:
        batch = [(r.key, r.value) for r in records(bulk.encode_batch(1 << 20))]
        assert len(batch) == len(bulk)
        return self.append(index, batch, bulk.now_ms)

    def next_offset(self, index: int) -> int:
        return sum(len(batch) for batch in self.batches.get(index, ()))

    def high_watermark(self, index: int) -> int:
        return self.high_watermarks.get(index, 0)

    def advance(self, index: int, to_offset: int | None = None) -> None:
        end = self.next_offset(index) if to_offset is None else to_offset
        self.high_watermarks[index] = end

    def records(self, index: int) -> list[KeyValue]:
        return [record for batch in self.batches.get(index, ()) for record in batch]
