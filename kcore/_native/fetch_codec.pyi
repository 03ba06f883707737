from collections.abc import Sequence
from typing import final

from typing_extensions import Buffer

@final
class FetchPartition:
    """One partition of a request."""

    index: int
    current_leader_epoch: int
    fetch_offset: int
    last_fetched_epoch: int
    log_start_offset: int
    max_bytes: int
    replica_directory_id: bytes
    high_watermark: int

    def __init__(
        self,
        index: int,
        current_leader_epoch: int = -1,
        fetch_offset: int = 0,
        last_fetched_epoch: int = -1,
        log_start_offset: int = -1,
        max_bytes: int = 0,
        replica_directory_id: bytes = ...,
        high_watermark: int = ...,
    ) -> None: ...

@final
class FetchRequest:
    """A parsed request."""

    @property
    def replica_id(self) -> int: ...
    @property
    def replica_epoch(self) -> int: ...
    @property
    def cluster_id(self) -> str | None: ...
    @property
    def max_wait_ms(self) -> int: ...
    @property
    def min_bytes(self) -> int: ...
    @property
    def max_bytes(self) -> int: ...
    @property
    def isolation_level(self) -> int: ...
    @property
    def session_id(self) -> int: ...
    @property
    def session_epoch(self) -> int: ...
    @property
    def topics(self) -> list[tuple[str | bytes, list[FetchPartition]]]: ...
    @property
    def forgotten(self) -> list[tuple[str | bytes, list[int]]]: ...
    @property
    def rack_id(self) -> str: ...

@final
class FetchResult:
    """The answer for one partition."""

    index: int
    error_code: int
    high_watermark: int
    last_stable_offset: int
    log_start_offset: int
    aborted: Sequence[tuple[int, int]] | None
    preferred_read_replica: int
    records: Buffer | None
    diverging_epoch: tuple[int, int] | None
    current_leader: tuple[int, int] | None
    snapshot_id: tuple[int, int] | None

    def __init__(
        self,
        index: int,
        error_code: int = 0,
        high_watermark: int = -1,
        last_stable_offset: int = -1,
        log_start_offset: int = -1,
        aborted: Sequence[tuple[int, int]] | None = None,
        preferred_read_replica: int = -1,
        records: Buffer | None = None,
        diverging_epoch: tuple[int, int] | None = None,
        current_leader: tuple[int, int] | None = None,
        snapshot_id: tuple[int, int] | None = None,
    ) -> None: ...

def parse_fetch(frame: Buffer, pos: int, version: int) -> FetchRequest: ...
def build_fetch(
    version: int,
    correlation_id: int,
    throttle_ms: int,
    error_code: int,
    session_id: int,
    topics: list[tuple[str, list[FetchResult]]]
    | list[tuple[bytes, list[FetchResult]]]
    | list[tuple[str | bytes, list[FetchResult]]],
    node_endpoints: Sequence[tuple[int, str, int, str | None]] | None = None,
) -> list[Buffer]: ...
