from collections.abc import Callable

from kcore._native.fileops import FileOps

class MemoryOps(FileOps):
    capacity_bytes: int | None
    calls: dict[str, int]
    def __init__(
        self,
        *,
        crashes: bool = False,
        capacity_bytes: int | None = None,
        stores: bool = True,
        clock_ms: Callable[[], int] | None = None,
    ) -> None: ...
    def fail_next(
        self,
        op: str,
        errno: int,
        *,
        after: int = 0,
        short_bytes: int | None = None,
        suffix: str = "",
        times: int = 1,
    ) -> None: ...
    def heal(self) -> None: ...
    def crash(self, choose: Callable[[int], int] | None = None) -> MemoryOps: ...
    def used_bytes(self) -> int: ...
    def write(self, path: str, data: bytes) -> None: ...
