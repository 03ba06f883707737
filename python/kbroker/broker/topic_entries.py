"""Metadata answers about all topics, joined from entries that are encoded once each.

A topic's entry is kept until the topic changes: one new topic among 100,000 does not encode the
others again. Its bytes depend on the version and on whether operations were asked for; a few such
kinds are kept, each for the topics of the last image it was asked about.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from kbroker.meta.image import TopicImage
from kbroker.wire import apis, messages
from kbroker.wire.schema.metadata import MetadataResponse, MetadataResponseTopic

KINDS_MAX = 4
BYTES_MAX = 64 << 20

_FLEXIBLE_FROM = MetadataResponse.FLEXIBLE_FROM
_AFTER_TOPICS = {8: 4, 9: 4, 10: 4, 13: 2}  # bytes before the tags: operations, an error code

Kept = dict[bytes, tuple[TopicImage, bytes]]
KeptKinds = dict[tuple[int, int], Kept]


def fill(
    kept: KeptKinds,
    body: bytes,
    topics: Collection[TopicImage],
    version: int,
    operations: int,
    make: Callable[[TopicImage, int], MetadataResponseTopic],
) -> bytes:
    """`body`, an answer without topics, with all of `topics` in their order. `make` turns a topic
    and the operations into what is encoded."""
    after = len(body) - _size_after(version)
    before = after - (1 if version >= _FLEXIBLE_FROM else 4)
    count = len(topics)
    size = _uvarint(count + 1) if version >= _FLEXIBLE_FROM else count.to_bytes(4, "big")
    old = kept.pop((version, operations), {})
    new: Kept = {}
    parts = [body[:before], size]
    # Alone in an answer without brokers, an entry is what stands between these two.
    first = len(messages.encode_response(apis.METADATA, version, MetadataResponse()))
    first -= _size_after(version)
    last = -_size_after(version) or None
    for topic in topics:
        known = old.get(topic.topic_id)
        # The same object: images share what a change did not touch.
        if known is None or known[0] is not topic:
            alone = MetadataResponse(topics=[make(topic, operations)])
            entry = messages.encode_response(apis.METADATA, version, alone)[first:last]
            known = topic, entry
        new[topic.topic_id] = known
        parts.append(known[1])
    parts.append(body[after:])
    filled = b"".join(parts)
    if len(filled) <= BYTES_MAX:
        while len(kept) >= KINDS_MAX:
            del kept[next(iter(kept))]  # asked for longest ago
        kept[version, operations] = new
    return filled


def _size_after(version: int) -> int:
    """Bytes of an answer behind its topics."""
    return _AFTER_TOPICS.get(version, 0) + (version >= _FLEXIBLE_FROM)


def _uvarint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
