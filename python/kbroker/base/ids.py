"""Ids of 16 bytes: how one is made, and which ones a topic may have.

The 22 characters that Kafka writes one in are `kcore.files.topic_ids`.
"""

from __future__ import annotations

from typing import Final

from kcore.files.topic_ids import ID_BYTES, ZERO_ID, encode_id

# The id of KRaft's own metadata topic: never given to another one.
_METADATA_TOPIC_ID: Final = bytes(ID_BYTES - 1) + b"\x01"
_RESERVED: Final = (ZERO_ID, _METADATA_TOPIC_ID)


def make_uuid(random_bytes: bytes) -> bytes:
    """A version 4 UUID from 16 random bytes."""
    if len(random_bytes) != ID_BYTES:
        raise ValueError(f"an id is {ID_BYTES} bytes, not {len(random_bytes)}")
    uuid = bytearray(random_bytes)
    uuid[6] = (uuid[6] & 0x0F) | 0x40
    uuid[8] = (uuid[8] & 0x3F) | 0x80
    return bytes(uuid)


def is_usable_id(uuid: bytes) -> bool:
    """False for reserved ids, and for one whose text starts with '-': command lines choke on it."""
    return uuid not in _RESERVED and not encode_id(uuid).startswith("-")
