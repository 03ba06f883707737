"""Topic and directory ids: 16 bytes, written as 22 characters of URL-safe base64, unpadded."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

ID_BYTES: Final = 16
ZERO_ID: Final = bytes(ID_BYTES)

_TEXT = re.compile(r"[A-Za-z0-9_-]{22}", re.ASCII)


def encode_id(raw: bytes) -> str:
    if len(raw) != ID_BYTES:
        raise ValueError(f"an id is {ID_BYTES} bytes, not {len(raw)}")
    return base64.urlsafe_b64encode(raw).decode("ascii").rstrip("=")


def decode_id(text: str) -> bytes:
    """ValueError unless `text` is the one way to write its id."""
    if _TEXT.fullmatch(text) is None:
        raise ValueError(f"{text!r} is not 22 characters of URL-safe base64")
    try:
        raw = base64.urlsafe_b64decode(text + "==")
    except binascii.Error as error:
        raise ValueError(f"{text!r} is not base64: {error}") from None
    # 22 characters hold 132 bits, four more than an id: two texts must not mean one id.
    if encode_id(raw) != text:
        raise ValueError(f"{text!r} has bits set beyond its 16 bytes")
    return raw
