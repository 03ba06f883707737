from collections.abc import Mapping, Sequence
from typing import Any

from typing_extensions import Buffer

# A list of bytes or None, a pair (buffer, offsets), or an Arrow binary array.
Values = Any
Headers = Sequence[tuple[str | bytes, bytes | None]] | Mapping[str, bytes | None] | None

def encode(
    values: Values,
    *,
    keys: Values | None = None,
    headers: Sequence[Headers] | None = None,
    timestamps: int | Sequence[int] | Buffer | None = None,
    codec: str = "none",
    level: int | None = None,
    base_offset: int = 0,
    producer_id: int = -1,
    producer_epoch: int = -1,
    base_sequence: int = -1,
    transactional: bool = False,
    control: bool = False,
    leader_epoch: int = -1,
    append_time: int | None = None,
) -> bytes: ...
def rebuild(data: Buffer, codec: str, level: int | None = None) -> bytes: ...
