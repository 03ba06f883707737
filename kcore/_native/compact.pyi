from collections.abc import Iterable

from typing_extensions import Buffer

from kcore._native.keymap import AbortedTxns, OffsetMap

class Cleaning:
    kept_aborts: list[int]
    bytes_read: int
    records_read: int
    bytes_kept: int
    records_kept: int
    keyless: int
    changed: int
    def __init__(
        self,
        map: OffsetMap,
        aborted: AbortedTxns,
        *,
        producers: Iterable[tuple[int, int, int]] = (),
        now_ms: int,
        delete_retention_ms: int,
    ) -> None: ...
    def filter(self, span: Buffer) -> int: ...
    def end_group(self) -> None: ...
    def take_aborts(self) -> list[int]: ...
    def gathered(self) -> memoryview: ...
    def written(self) -> None: ...
