from kcore._native.batch import BatchInfo
from kcore._native.log import AppendResult, Log

class LeaderRules:
    def __init__(
        self,
        *,
        max_bytes: int,
        segment_bytes: int,
        timestamp_after_max_ms: int,
        need_keys: bool,
        plain: bool,
    ) -> None: ...

def append_produced(
    log: Log,
    data: bytearray | memoryview,
    rules: LeaderRules,
    leader_epoch: int,
    now_ms: int,
) -> AppendResult | BatchInfo: ...
