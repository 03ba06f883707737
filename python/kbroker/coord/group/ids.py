"""Ids that the coordinator makes up."""

from __future__ import annotations

from typing import Final

from kbroker.base.rng import Rng

_PREFIX_CHARS_MAX: Final = 1_024  # ids stay well below what a record's string holds


def new_uuid(rng: Rng) -> str:
    data = bytearray(rng.random_bytes(16))
    data[6] = data[6] & 0x0F | 0x40
    data[8] = data[8] & 0x3F | 0x80
    text = data.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def new_member_id(rng: Rng, prefix: str) -> str:
    """`prefix` and a random UUID, as tools and people know the ids of Kafka's members."""
    return f"{prefix[:_PREFIX_CHARS_MAX]}-{new_uuid(rng)}"
