"""Topic and directory ids: 16 bytes, written as 22 characters of URL-safe base64, unpadded."""

from __future__ import annotations

import binascii
from typing import Final

ID_BYTES: Final = 16
ZERO_ID: Final = bytes(ID_BYTES)

_TEXT_CHARS: Final = 22
_TO_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")
_FROM_URL_SAFE: Final = bytes.maketrans(b"-_", b"+/")


def encode_id(raw: bytes) -> str:
    if len(raw) != ID_BYTES:
        raise ValueError(f"an id is {ID_BYTES} bytes, not {len(raw)}")
    text = binascii.b2a_base64(raw, newline=False).translate(_TO_URL_SAFE)
    return text[:_TEXT_CHARS].decode("ascii")


def decode_id(text: str) -> bytes:
    """ValueError unless `text` is the one way to write its id."""
    if len(text) != _TEXT_CHARS or not text.isascii():
        raise ValueError(f"{text!r} is not {_TEXT_CHARS} characters of URL-safe base64")
    raw = binascii.a2b_base64(text.encode("ascii").translate(_FROM_URL_SAFE) + b"==")
    # 22 characters hold 132 bits, four more than an id, and the decoder skips what is no digit:
    # two texts must not mean one id.
    if len(raw) != ID_BYTES or encode_id(raw) != text:
        raise ValueError(f"{text!r} is not how an id of {ID_BYTES} bytes is written")
    return raw
