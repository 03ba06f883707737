from collections.abc import Callable, Sequence
from typing import Any, final

LATENCY_BUCKETS: int

@final
class RequestMetrics:
    errors: int
    @property
    def count(self) -> int: ...
    @property
    def total_us(self) -> int: ...
    @property
    def buckets(self) -> list[int]: ...
    def observe(self, elapsed_us: int) -> int: ...

class RequestContext:
    def __init__(
        self,
        api_key: int,
        api_version: int,
        correlation_id: int,
        client_id: str | None,
        session: Any,
        services: Any,
        principal: str,
        listener: str,
        now_ms: int,
    ) -> None: ...
    @property
    def api_key(self) -> int: ...
    @property
    def api_version(self) -> int: ...
    @property
    def correlation_id(self) -> int: ...
    @property
    def client_id(self) -> str | None: ...
    @property
    def session(self) -> Any: ...
    @property
    def services(self) -> Any: ...
    @property
    def principal(self) -> str: ...
    @property
    def listener(self) -> str: ...
    @property
    def now_ms(self) -> int: ...

class RunHandler: ...

class RequestRow:
    handler: Callable[..., Any]
    runs: RunHandler | None
    def __init__(
        self,
        key: int,
        min_version: int,
        max_version: int,
        raw: bool,
        pipelined: bool,
        handler: Callable[..., Any],
        metrics: RequestMetrics,
    ) -> None: ...
    @property
    def key(self) -> int: ...
    @property
    def min_version(self) -> int: ...
    @property
    def max_version(self) -> int: ...
    @property
    def raw(self) -> bool: ...
    @property
    def pipelined(self) -> bool: ...
    @property
    def metrics(self) -> RequestMetrics: ...

class RequestDispatch:
    def __init__(
        self,
        rows: Sequence[RequestRow],
        decode: Callable[[int, int, memoryview, int], Any],
        encode: Callable[[int, int, int, Any], bytes],
    ) -> None: ...
    def row(self, api_key: int, api_version: int) -> Any: ...
    def begin(self, row: RequestRow, ctx: RequestContext, frame: memoryview, pos: int) -> Any: ...
