from kcore._native.log import Log

class TopicCounters:
    """What one topic took in and gave out since its broker started."""

    messages_in: int
    bytes_in: int
    bytes_out: int
    bytes_rejected: int
    produce_requests: int
    fetch_requests: int
    failed_produce_requests: int
    failed_fetch_requests: int
    def took(self, records: int, size: int) -> None: ...
    def refused(self, size: int) -> None: ...
    def add(self, other: TopicCounters) -> None: ...

class Replica:
    """A base class for the partition of a broker: its log and how much of it may be seen."""

    log: Log
    key: tuple[bytes, int]
    high_watermark: int
    last_stable_offset: int
    leader_epoch: int
    deleted: bool
    counters: TopicCounters | None
