from collections.abc import Sequence
from typing import final

from typing_extensions import Buffer

@final
class ProduceRequest:
    """A parsed request; spans are slices of the frame it was parsed from."""

    @property
    def transactional_id(self) -> str | None: ...
    @property
    def acks(self) -> int: ...
    @property
    def timeout_ms(self) -> int: ...
    @property
    def partitions(self) -> list[tuple[str | bytes, int, memoryview | None]]: ...

@final
class ProduceResult:
    """The answer for one partition."""

    index: int
    error_code: int
    base_offset: int
    append_time_ms: int
    log_start_offset: int
    record_errors: Sequence[tuple[int, str | None]]
    error_message: str | None
    current_leader: tuple[int, int] | None

    def __init__(
        self,
        index: int,
        error_code: int = 0,
        base_offset: int = -1,
        append_time_ms: int = -1,
        log_start_offset: int = -1,
        record_errors: Sequence[tuple[int, str | None]] = (),
        error_message: str | None = None,
        current_leader: tuple[int, int] | None = None,
    ) -> None: ...

def parse_produce(frame: Buffer, pos: int, version: int) -> ProduceRequest: ...
def build_produce(
    version: int,
    correlation_id: int,
    throttle_ms: int,
    results: list[tuple[str, list[ProduceResult]]]
    | list[tuple[bytes, list[ProduceResult]]]
    | list[tuple[str | bytes, list[ProduceResult]]],
    node_endpoints: Sequence[tuple[int, str, int, str | None]] | None = None,
) -> bytes: ...
