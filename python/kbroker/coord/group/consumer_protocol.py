"""The bytes that members of protocol type "consumer" send each other through the coordinator.

A subscription is version (int16), topics, user data; version 1 adds the owned partitions, 2 the
generation, 3 the rack. An assignment is version, partitions by topic, user data. What follows the
known fields of a version is of a newer one and read over.

These bytes are the members' own business. The coordinator looks at them to know which topics a
group reads; bytes that it cannot read are None: unknown, never an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from struct import Struct, pack
from typing import Final, NamedTuple

from kbroker.coord.group.limits import TOPICS_PER_SUBSCRIPTION_MAX

PROTOCOL_TYPE: Final = "consumer"
NEWEST_VERSION: Final = 3
_OWNED_FROM, _GENERATION_FROM, _RACK_FROM = 1, 2, 3
_INT16, _INT32 = Struct(">h"), Struct(">i")

Partitions = dict[str, list[int]]


class Subscription(NamedTuple):
    """`owned`, `generation` and `rack` are what older versions do not say: {}, -1 and None."""

    version: int
    topics: list[str]
    user_data: bytes | None
    owned: Partitions
    generation: int
    rack: str | None


class _Unreadable(Exception):
    pass


class _Reader:
    __slots__ = ("_data", "_pos")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._pos = 0

    @property
    def remaining(self) -> int:
        return len(self._data) - self._pos

    def int16(self) -> int:
        return self._number(_INT16)

    def int32(self) -> int:
        return self._number(_INT32)

    def count(self, element_bytes: int) -> int:
        count = self.int32()
        if not 0 <= count <= min(self.remaining // element_bytes, TOPICS_PER_SUBSCRIPTION_MAX):
            raise _Unreadable
        return count

    def string(self) -> str:
        text = self.nullable_string()
        if text is None:
            raise _Unreadable
        return text

    def nullable_string(self) -> str | None:
        size = self.int16()
        if size < 0:
            return None
        try:
            return self._take(size).decode()
        except UnicodeDecodeError:
            raise _Unreadable from None

    def nullable_bytes(self) -> bytes | None:
        size = self.int32()
        return None if size < 0 else self._take(size)

    def partitions(self) -> Partitions:
        by_topic: Partitions = {}
        for _ in range(self.count(6)):
            topic = self.string()
            indexes = [self.int32() for _ in range(self.count(4))]
            by_topic.setdefault(topic, []).extend(indexes)
        return by_topic

    def _number(self, form: Struct) -> int:
        if self.remaining < form.size:
            raise _Unreadable
        (number,) = form.unpack_from(self._data, self._pos)
        self._pos += form.size
        return int(number)

    def _take(self, size: int) -> bytes:
        if self.remaining < size:
            raise _Unreadable
        self._pos += size
        return self._data[self._pos - size : self._pos]


def decode_subscription(data: bytes) -> Subscription | None:
    """All fields that `data`'s version has; None for bytes that are not a subscription."""
    try:
        reader = _Reader(data)
        version = reader.int16()
        topics = _topics(reader, version)
        user_data = reader.nullable_bytes()
        owned = reader.partitions() if version >= _OWNED_FROM else {}
        generation = reader.int32() if version >= _GENERATION_FROM else -1
        rack = reader.nullable_string() if version >= _RACK_FROM else None
    except _Unreadable:
        return None
    return Subscription(version, topics, user_data, owned, generation, rack)


def decode_topics(data: bytes) -> list[str] | None:
    """Only the topics, which every version begins with; None for bytes that do not have them."""
    try:
        reader = _Reader(data)
        topics = _topics(reader, reader.int16())
        reader.nullable_bytes()
    except _Unreadable:
        return None
    return topics


def _topics(reader: _Reader, version: int) -> list[str]:
    if version < 0:
        raise _Unreadable
    return [reader.string() for _ in range(reader.count(2))]


def decode_assignment(data: bytes) -> Partitions | None:
    try:
        reader = _Reader(data)
        if reader.int16() < 0:
            return None
        return reader.partitions()
    except _Unreadable:
        return None


def encode_subscription(subscription: Subscription) -> bytes:
    parts = [_INT16.pack(subscription.version), _INT32.pack(len(subscription.topics))]
    parts += map(_string, subscription.topics)
    parts.append(_bytes(subscription.user_data))
    if subscription.version >= _OWNED_FROM:
        parts.append(_partitions(subscription.owned))
    if subscription.version >= _GENERATION_FROM:
        parts.append(_INT32.pack(subscription.generation))
    if subscription.version >= _RACK_FROM:
        rack = subscription.rack
        parts.append(_INT16.pack(-1) if rack is None else _string(rack))
    return b"".join(parts)


def encode_assignment(
    partitions: Mapping[str, Sequence[int]], version: int, user_data: bytes | None = None
) -> bytes:
    """In the version of the member's own subscription, as far as it is known here."""
    version = max(0, min(version, NEWEST_VERSION))
    return _INT16.pack(version) + _partitions(partitions) + _bytes(user_data)


def _partitions(by_topic: Mapping[str, Sequence[int]]) -> bytes:
    parts = [_INT32.pack(len(by_topic))]
    for topic, indexes in by_topic.items():
        parts.append(_string(topic))
        parts.append(pack(f">i{len(indexes)}i", len(indexes), *indexes))
    return b"".join(parts)


def _string(text: str) -> bytes:
    data = text.encode()
    return _INT16.pack(len(data)) + data


def _bytes(data: bytes | None) -> bytes:
    return _INT32.pack(-1) if data is None else _INT32.pack(len(data)) + data
