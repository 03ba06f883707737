from typing import Any, ClassVar, Final, final

@final
class OffsetCommitKey:
    TYPE: ClassVar[int]
    VERSIONS: ClassVar[tuple[int, int]]
    FLEXIBLE_FROM: ClassVar[int]
    FIELDS: ClassVar[tuple[tuple[Any, ...], ...]]
    group: Final[str]
    topic: Final[str]
    partition: Final[int]

    def __init__(self, *, group: str = "", topic: str = "", partition: int = 0) -> None: ...
    def encode(self) -> bytes: ...

@final
class OffsetCommitValue:
    """Written as version 3, or as 1 when the commit has an expiry of its own, as Kafka does."""

    VERSIONS: ClassVar[tuple[int, int]]
    FLEXIBLE_FROM: ClassVar[int]
    FIELDS: ClassVar[tuple[tuple[Any, ...], ...]]
    offset: Final[int]
    leader_epoch: Final[int]
    metadata: Final[str]
    commit_timestamp: Final[int]
    expire_timestamp: Final[int]
    topic_id: Final[bytes]

    def __init__(
        self,
        *,
        offset: int = 0,
        leader_epoch: int = -1,
        metadata: str = "",
        commit_timestamp: int = 0,
        expire_timestamp: int = -1,
        topic_id: bytes = ...,
    ) -> None: ...
    def version(self) -> int: ...
    def encode(self) -> bytes: ...

def decode_key(data: bytes) -> OffsetCommitKey: ...
def decode_value(data: bytes) -> OffsetCommitValue: ...
