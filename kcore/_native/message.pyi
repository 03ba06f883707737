from typing import Generic, TypeVar, final

from typing_extensions import Buffer

_T = TypeVar("_T")

@final
class Codec(Generic[_T]):
    """Decodes and encodes one message class in one version."""

    version: int

    def __init__(self, cls: type[_T], version: int) -> None: ...
    def decode(self, data: Buffer, pos: int = 0, *, exact: bool = True) -> _T: ...
    def encode(self, message: _T) -> bytes: ...
    def encode_frame(self, correlation_id: int, header_tags: bool, message: _T) -> bytes: ...

@final
class RequestHeader:
    """`body_pos` is where the body starts in the buffer that was parsed."""

    @property
    def api_key(self) -> int: ...
    @property
    def api_version(self) -> int: ...
    @property
    def correlation_id(self) -> int: ...
    @property
    def client_id(self) -> str | None: ...
    @property
    def body_pos(self) -> int: ...

@final
class HeaderParser:
    """Parses request headers v1 and v2."""

    def __init__(self, flexible_from: dict[int, int]) -> None: ...
    def __call__(self, data: Buffer, pos: int = 0) -> RequestHeader: ...
