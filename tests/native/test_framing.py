"""Goal: requests come out of any chunking of the bytes as they went in, memory follows what has
arrived, and nothing but a BadFrame leaves for bytes that are no request.

Method: the same stream is fed whole, byte by byte and in random cuts; sizes are watched through
`capacity` and `held_bytes`; headers are made with obvious Python.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kcore._native.framing import BadFrame, FrameBuffer, ReceivePool

FLEXIBLE_FROM = bytes([255, 12, 6, 9])  # key 0 never, 1 from 12, ...
LIMIT = 8 << 20
Seen = tuple[int, int, int, str | None, bytes]


def request(
    key: int = 0,
    version: int = 3,
    correlation_id: int = 7,
    client_id: str | None = "me",
    body: bytes = b"body",
    tags: bytes = b"",
) -> bytes:
    name = b"" if client_id is None else client_id.encode()
    size = -1 if client_id is None else len(name)
    frame = struct.pack(">hhih", key, version, correlation_id, size) + name + tags + body
    return struct.pack(">i", len(frame)) + frame


def new_buffer(limit: int = LIMIT, pool: ReceivePool | None = None) -> FrameBuffer:
    return FrameBuffer(pool or ReceivePool(), FLEXIBLE_FROM, limit)


def receive(frames: FrameBuffer, data: bytes) -> int:
    """One read, as a loop does it: at most what there is room for."""
    room = frames.get_buffer(-1)
    count = min(len(room), len(data))
    room[:count] = data[:count]
    frames.buffer_updated(count)
    return count


def taken(frames: FrameBuffer) -> Iterator[Seen]:
    while frames.next_request():
        yield (
            frames.api_key,
            frames.api_version,
            frames.correlation_id,
            frames.client_id,
            bytes(frames.frame[frames.body_pos :]) if frames.body_pos >= 0 else b"?",
        )


def feed(frames: FrameBuffer, data: bytes, cut: int) -> list[Seen]:
    seen: list[Seen] = []
    while data:
        count = receive(frames, data[:cut])
        data = data[count:]
        seen += taken(frames)
        frames.settle()
    return seen


@pytest.mark.parametrize("cut", [1, 3, 100, 1 << 20])
def test_any_chunking_gives_the_same_requests(cut: int) -> None:
    requests = [
        request(body=bytes([n]) * size, correlation_id=n)
        for n, size in enumerate([0, 1, 50, 5_000, 40_000, 3])
    ]
    seen = feed(new_buffer(), b"".join(requests), cut)
    assert [one[2] for one in seen] == [0, 1, 2, 3, 4, 5]
    assert [len(one[4]) for one in seen] == [0, 1, 50, 5_000, 40_000, 3]
    assert all(set(one[4]) <= {one[2]} for one in seen)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 90_000), min_size=1, max_size=5),
    st.lists(st.integers(200, 70_000), min_size=1, max_size=8),
)
def test_random_cuts_and_two_connections_on_one_pool(sizes: list[int], cuts: list[int]) -> None:
    pool = ReceivePool(32_768)
    one, other = new_buffer(pool=pool), new_buffer(pool=pool)
    data = b"".join(request(body=bytes([n + 1]) * size) for n, size in enumerate(sizes))
    mine, others = memoryview(data), memoryview(data)
    seen_one: list[Seen] = []
    seen_other: list[Seen] = []
    turn = 0
    while mine or others:
        cut = cuts[turn % len(cuts)]
        turn += 1
        mine = mine[receive(one, bytes(mine[:cut])) :]
        seen_one += taken(one)
        one.settle()
        others = others[receive(other, bytes(others[:cut])) :]
        seen_other += taken(other)
        other.settle()
    assert [seen[4] for seen in seen_one] == [bytes([n + 1]) * s for n, s in enumerate(sizes)]
    assert seen_one == seen_other
    assert pool.held_bytes == 0


def test_frames_are_writable_and_without_their_length() -> None:
    frames = new_buffer()
    receive(frames, request(body=b"abc"))
    assert frames.next_request()
    frames.frame[frames.body_pos] = ord("X")
    assert bytes(frames.frame) == request(body=b"Xbc")[4:]


def test_what_is_not_taken_is_kept() -> None:
    frames = new_buffer()
    receive(frames, request(correlation_id=1) + request(correlation_id=2))
    assert frames.next_request()
    frames.settle()  # the connection is held back after the first
    assert frames.unconsumed == len(request())
    assert receive(frames, request(correlation_id=3)) > 0
    assert [one[2] for one in taken(frames)] == [2, 3]


@pytest.mark.parametrize(
    ("length", "why"),
    [
        (0, "length 0 is not positive"),
        (-5, "length -5 is not positive"),
        (7, "length 7 is too short"),
        (LIMIT + 1, f"length {LIMIT + 1} is above the limit of {LIMIT}"),
    ],
)
def test_a_wrong_length_is_named(length: int, why: str) -> None:
    frames = new_buffer()
    receive(frames, struct.pack(">i", length) + b"x" * 40)
    with pytest.raises(BadFrame, match=why):
        frames.next_request()


def test_a_claimed_length_costs_nothing() -> None:
    frames = new_buffer(limit=100 << 20)
    receive(frames, struct.pack(">i", 100 << 20) + b"x" * 10)
    assert not frames.next_request()
    frames.settle()
    assert frames.capacity <= 256 * 1024
    arrived = 14
    while arrived < 1_000_000:
        arrived += receive(frames, b"y" * 50_000)
        frames.settle()
        assert frames.capacity <= max(256 * 1024, 4 * arrived)


def test_a_buffer_grows_by_doubling_and_no_further_than_the_frame() -> None:
    frames = new_buffer()
    data = request(body=b"z" * (5 << 20))
    sizes = set()
    while data:
        data = data[receive(frames, data) :]
        sizes.add(frames.capacity)
        if not data:
            assert frames.next_request()
        frames.settle()
    assert max(sizes) == len(request(body=b"z" * (5 << 20)))
    assert len(sizes) < 10


def test_an_idle_connection_gives_its_buffer_back() -> None:
    pool = ReceivePool()
    frames = new_buffer(pool=pool)
    feed(frames, request(body=b"z" * (1 << 20)), 1 << 20)
    assert frames.capacity >= 1 << 20, "kept while frames keep coming"
    frames.sweep()
    assert frames.capacity >= 1 << 20, "it was used since the last sweep"
    frames.sweep()
    assert frames.capacity == 0
    assert feed(frames, request(body=b"small"), 100)[0][4] == b"small"
    assert frames.capacity == 0, "small frames need no buffer of their own"


def test_a_sweep_keeps_the_bytes_of_an_unfinished_frame() -> None:
    frames = new_buffer()
    data = request(body=b"q" * 50_000)
    receive(frames, data[:30_000])
    frames.settle()
    frames.sweep()
    frames.sweep()
    assert feed(frames, data[30_000:], 9_000)[0][4] == b"q" * 50_000


def test_held_bytes_are_summed_over_connections_and_go_with_them() -> None:
    pool = ReceivePool()
    one, other = new_buffer(pool=pool), new_buffer(pool=pool)
    for frames in (one, other):
        receive(frames, request(body=b"x" * 1000)[:500])
        frames.settle()
    assert pool.held_bytes == 1000
    one.close()
    assert pool.held_bytes == 500
    other.close()
    assert pool.held_bytes == 0


def test_a_view_that_outlives_its_frame_stays_readable() -> None:
    frames = new_buffer()
    receive(frames, request(body=b"a" * 60_000))
    assert frames.next_request()
    kept = frames.frame
    frames.settle()
    data = request(body=b"b" * (1 << 20))
    feed(frames, data, 50_000)
    frames.close()
    assert len(bytes(kept)) == len(request(body=b"a" * 60_000)) - 4


def test_flexible_headers_skip_tags() -> None:
    tags = b"\x02" + b"\x05\x03abc" + b"\x81\x01\x00"  # two unknown tags, the second numbered 129
    frames = new_buffer()
    receive(frames, request(key=1, version=12, tags=tags) + request(key=1, version=11))
    assert [one[4] for one in taken(frames)] == [b"body", b"body"]


def test_an_unknown_key_is_read_as_not_flexible() -> None:
    frames = new_buffer()
    receive(frames, request(key=900) + request(key=-1))
    assert [(one[0], one[4]) for one in taken(frames)] == [(900, b"body"), (-1, b"body")]


@pytest.mark.parametrize(
    ("header", "why"),
    [
        (struct.pack(">hhi", 1, 12, 1), "ends before the client id"),
        (struct.pack(">hhih", 1, 12, 1, -2), "client id length -2"),
        (struct.pack(">hhih", 1, 12, 1, 5) + b"abc", "client id length 5, 3 bytes remain"),
        (struct.pack(">hhih", 1, 12, 1, 2) + b"\xff\xfe", "not UTF-8"),
        (struct.pack(">hhih", 1, 12, 1, 0), "tagged fields"),
        (struct.pack(">hhih", 1, 12, 1, 0) + b"\x01\x00\x09abc", "tagged fields"),
        (struct.pack(">hhih", 1, 12, 1, 0) + b"\x41" + b"\x00\x00" * 65, "tagged fields"),
        (struct.pack(">hhih", 1, 12, 1, 0) + b"\xff\xff\xff\xff\x1f", "tagged fields"),
        (struct.pack(">hhih", 1, 12, 1, 0) + b"\xff" * 30, "tagged fields"),
    ],
)
def test_a_wrong_header_says_what_is_wrong(header: bytes, why: str) -> None:
    frames = new_buffer()
    receive(frames, struct.pack(">i", len(header)) + header)
    assert frames.next_request(), "the fixed part is there: the caller decides"
    assert frames.body_pos == -1
    assert frames.client_id is None
    assert why in (frames.header_error or "")


def test_a_client_id_is_cached_and_changes() -> None:
    frames = new_buffer()
    receive(frames, b"".join(request(client_id=c) for c in ("a", "a", None, "a", "b", "")))
    names = []
    objects = []
    while frames.next_request():
        names.append(frames.client_id)
        objects.append(id(frames.client_id))
    assert names == ["a", "a", None, "a", "b", ""]
    assert objects[0] == objects[1]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400), st.integers(1, 50))
def test_garbage_only_ever_raises_bad_frame(data: bytes, cut: int) -> None:
    frames = new_buffer(limit=1 << 16)
    try:
        feed(frames, data, cut)
    except BadFrame:
        frames.close()
    assert frames.capacity <= 1 << 18


def test_more_bytes_than_there_was_room_for_are_refused() -> None:
    frames = new_buffer()
    room = len(frames.get_buffer(-1))
    with pytest.raises(ValueError, match="bytes reported"):
        frames.buffer_updated(room + 1)
    with pytest.raises(ValueError, match="bytes reported"):
        frames.buffer_updated(-1)
