from kcore._native.batch import BatchInfo
from kcore._native.log import AppendResult
from kcore._native.replica import Replica

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
    leader: Replica,
    data: bytearray | memoryview,
    rules: LeaderRules,
    now_ms: int,
) -> AppendResult | BatchInfo: ...
