"""The only door of a coordinator to a log: what the runtime needs of a partition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from kbroker.coord.result import Bulk

KeyValue = tuple[bytes, bytes | None]


class PartitionWriter(Protocol):
    """`index` is a partition of the coordinator's internal topic."""

    def append(self, index: int, records: Sequence[KeyValue], now_ms: int) -> int:
        """Appends all of them as one batch; returns the offset after the last. KafkaError, and
        then nothing was appended."""
        ...

    def append_bulk(self, index: int, bulk: Bulk) -> int:
        """`append` of records that encode themselves."""
        ...

    def next_offset(self, index: int) -> int: ...

    def high_watermark(self, index: int) -> int: ...
