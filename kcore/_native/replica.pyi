from typing import Any

from kcore._native.log import Log

class Replica:
    """A base class for the partition of a broker: its log and how much of it may be seen."""

    log: Log
    key: tuple[bytes, int]
    high_watermark: int
    last_stable_offset: int
    leader_epoch: int
    deleted: bool
    counters: Any
