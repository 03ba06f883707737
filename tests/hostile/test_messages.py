"""No bytes from a socket may crash, hang or make the decoder allocate ahead of what was received.

Lies are generated from the schemas: each length, count and tag size of each API in each version
claims 2^31 - 1, -2 and one more than what remains; each gets BadRequest and at most 1 MiB.
"""

from __future__ import annotations

import contextlib
import random
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kbroker.wire import apis, messages
from kbroker.wire.errors import BadRequest

from kcore._native.fetch_codec import parse_fetch
from kcore._native.produce_codec import parse_produce
from tests.wire import reference

ALLOCATION_BYTES_MAX = 1 << 20
TAGS_MAX = 64
ELEMENTS_MAX = 1 << 18

DIRECTIONS: dict[str, Any] = {
    "request": (messages.request_class, messages.decode_request),
    "response": (messages.response_class, messages.decode_response),
}
CASES = [
    pytest.param(api, direction, id=f"{api.module}-{direction}")
    for api in apis.APIS.values()
    for direction in DIRECTIONS
]


@pytest.fixture
def allocation() -> Iterator[Callable[[], int]]:
    """Peak of traced memory since the last call."""
    tracemalloc.start()

    def peak() -> int:
        value = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        return value[1] - value[0]

    try:
        yield peak
    finally:
        tracemalloc.stop()


def decoders(api: apis.Api, direction: str, version: int) -> list[Callable[[bytes], Any]]:
    """The schema codec, and the hot codec where the message has one."""
    decode = DIRECTIONS[direction][1]
    found = [lambda data: decode(api.key, version, data)]
    if direction == "request" and api.key == apis.PRODUCE:
        found.append(lambda data: parse_produce(data, 0, version))
    if direction == "request" and api.key == apis.FETCH:
        found.append(lambda data: parse_fetch(data, 0, version))
    return found


@pytest.mark.parametrize("api, direction", CASES)
def test_every_length_lies(api: apis.Api, direction: str, allocation: Callable[[], int]) -> None:
    message = reference.filled(DIRECTIONS[direction][0](api.key))
    versions = range(api.first, api.last + 1)
    if direction == "response":  # a broker decodes none: enough to see both encodings
        versions = sorted({api.first, max(api.first, api.flexible_from), api.last})
    allocation()
    for version in versions:
        encoder = reference.encode(message, version)
        for decode in decoders(api, direction, version):
            decode(bytes(encoder.data))
            for length in encoder.lengths:
                remaining = len(encoder.data) - length.pos - length.width
                for claim in (2**31 - 1, -2, remaining + 1):
                    try:
                        decode(reference.lie(encoder, length, claim))
                    except BadRequest as error:
                        # Found at the lie itself, not when the bytes run out behind it.
                        assert error.pos == length.pos, (version, length, claim)
                    else:
                        pytest.fail(f"v{version}: {length} may claim {claim}")
    assert allocation() < ALLOCATION_BYTES_MAX


def test_a_count_is_bounded_by_the_least_size_of_its_elements() -> None:
    """Room for one element and nearly another, a claim of two: refused at the count."""
    head = b"\0\0\0\1\0\1t"  # one topic named t
    cases: list[tuple[bytes, int, Callable[[bytes], Any]]] = [
        (bytes(4) + head, 12, lambda data: messages.decode_request(apis.LIST_OFFSETS, 1, data)),
        (b"\xff\xff" + bytes(6) + head, 8, lambda data: parse_produce(data, 0, 3)),
        (bytes(17) + head, 16, lambda data: parse_fetch(data, 0, 4)),
    ]
    for before, element_bytes, decode in cases:
        with pytest.raises(BadRequest, match="at most 1 elements") as caught:
            decode(before + b"\0\0\0\2" + bytes(2 * element_bytes - 1))
        assert caught.value.pos == len(before)


def test_tagged_fields_must_have_their_size() -> None:
    """One byte more or less than the value of a known tag is refused, not read past or skipped."""
    seen = 0
    for api in apis.APIS.values():
        for direction, (cls, _) in DIRECTIONS.items():
            encoder = reference.encode(reference.filled(cls(api.key)), api.last)
            for length in encoder.lengths:
                if length.kind != "tag":
                    continue
                assert length.width == 1
                size = encoder.data[length.pos]
                after = length.pos + 1 + size
                longer = reference.lie(encoder, length, size + 1)
                padded = longer[:after] + b"\0" + longer[after:]
                for decode in decoders(api, direction, api.last):
                    for bad in (reference.lie(encoder, length, size - 1), longer, padded):
                        with pytest.raises(BadRequest):
                            decode(bad)
                        seen += 1
    assert seen > 50


@pytest.mark.parametrize("api, direction", CASES)
def test_random_damage_is_refused_or_decodes(api: apis.Api, direction: str) -> None:
    """Flipped bytes may still be a message; they may never be anything but that or BadRequest."""
    rng = random.Random(api.key)
    message = reference.filled(DIRECTIONS[direction][0](api.key))
    for version in (api.first, api.last):
        whole = bytes(reference.encode(message, version).data)
        for decode in decoders(api, direction, version):
            for _ in range(15):
                bad = bytearray(whole)
                for _ in range(rng.randint(1, 4)):
                    if bad:
                        bad[rng.randrange(len(bad))] = rng.choice([0, 1, 0x7F, 0x80, 0xFF])
                try:
                    decode(bytes(bad))
                except BadRequest:
                    continue


@pytest.mark.parametrize("fill", [0x00, 0x01, 0x02, 0x7F, 0x80, 0xFF])
def test_long_junk_stays_bounded(fill: int, allocation: Callable[[], int]) -> None:
    """Half a MiB of one byte as the body of every request: a small multiple of it, at most."""
    junk = bytes([fill]) * (1 << 19)
    for api in apis.APIS.values():
        for decode in decoders(api, "request", api.last):
            allocation()
            # A request that these bytes happen to begin with is one: what follows is let be.
            with contextlib.suppress(BadRequest):
                decode(junk)
            assert allocation() < 4 << 20, api


def test_many_tiny_elements_stay_bounded(allocation: Callable[[], int]) -> None:
    """A legal count of one-byte elements: objects are a hundred times larger than their bytes."""
    for count in (ELEMENTS_MAX + 1, 20_000_000):
        body = count.to_bytes(4, "big") + bytes(2 * count)
        allocation()
        with pytest.raises(BadRequest, match="elements in one message"):
            messages.decode_request(apis.METADATA, 0, body)
        assert allocation() < ALLOCATION_BYTES_MAX
    body = ELEMENTS_MAX.to_bytes(4, "big") + bytes(2 * ELEMENTS_MAX)
    topics = messages.decode_request(apis.METADATA, 0, body).topics
    assert topics is not None and len(topics) == ELEMENTS_MAX


def test_element_budget_is_of_the_whole_message() -> None:
    """Nested arrays draw on one budget, in the schema codec and in the hot ones."""
    indexes = 2000
    topic = b"\0\1t" + indexes.to_bytes(4, "big") + bytes(4 * indexes)
    count = ELEMENTS_MAX // indexes + 1
    body = count.to_bytes(4, "big") + topic * count + bytes(4)
    with pytest.raises(BadRequest, match="elements in one message"):
        # AddPartitionsToTxn v0: transactional id, producer id and epoch, topics.
        messages.decode_request(apis.ADD_PARTITIONS_TO_TXN, 0, b"\0\1x" + bytes(10) + body)
    partition = bytes(4) + b"\xff\xff\xff\xff"
    topic = b"\0\1t" + indexes.to_bytes(4, "big") + partition * indexes
    body = b"\xff\xff" + bytes(6) + count.to_bytes(4, "big") + topic * count
    with pytest.raises(BadRequest, match="elements in one message"):
        parse_produce(body, 0, 3)
    topic = b"\0\1t" + indexes.to_bytes(4, "big") + bytes(16 * indexes)
    body = bytes(17) + count.to_bytes(4, "big") + topic * count
    with pytest.raises(BadRequest, match="elements in one message"):
        parse_fetch(body, 0, 4)

    # ApiVersions v3 response: error code, no keys, no throttling, then two tagged arrays.
    feature = b"\1" + bytes(5)
    array = reference.varint(ELEMENTS_MAX * 3 // 4 + 1) + feature * (ELEMENTS_MAX * 3 // 4)
    tagged = reference.varint(len(array)) + array
    body = b"\0\0\1" + bytes(4) + b"\2\0" + tagged
    with pytest.raises(BadRequest, match="elements in one message"):
        messages.decode_response(apis.API_VERSIONS, 3, body + b"\2" + tagged)


def flexible_tag_sections() -> Iterator[tuple[apis.Api, int, bytes]]:
    """The body of each flexible request up to its own tag section."""
    for api in apis.APIS.values():
        if api.flexible_from >= 0:
            cls = messages.request_class(api.key)
            body = messages.encode_request(api.key, api.last, cls())
            yield api, api.last, body[:-1]


def test_tag_bombs(allocation: Callable[[], int]) -> None:
    """Tag counts of every size: too many, more than the bytes hold, or millions of empty ones."""
    bombs = [
        reference.varint(TAGS_MAX + 1)
        + b"".join(reference.varint(9 + i) + b"\0" for i in range(65)),
        reference.varint(2**32 - 1),
        reference.varint(2**31),
        reference.varint(20_000_000) + bytes(1 << 20),
        b"\x02\x63",  # the size is missing
        b"\x01\x63" + reference.varint(2**32 - 1),
        b"\xff\xff\xff\xff\xff\x01",
        b"\x02\x63\x00\x63\x00",  # the same tag twice
        b"\x02\x64\x00\x63\x00",  # descending
    ]
    for api, version, head in flexible_tag_sections():
        for decode in decoders(api, "request", version):
            for bomb in bombs:
                body = head + bomb
                allocation()
                with pytest.raises(BadRequest):
                    decode(body)
                assert allocation() < ALLOCATION_BYTES_MAX


def test_unknown_tags_are_skipped_without_being_kept(allocation: Callable[[], int]) -> None:
    tags = b"".join(
        reference.varint(1000 + i) + reference.varint(9000) + bytes(9000) for i in range(64)
    )
    for api, version, head in flexible_tag_sections():
        for decode in decoders(api, "request", version):
            body = head + reference.varint(TAGS_MAX) + tags
            allocation()
            decode(body)
            assert allocation() < 100_000
