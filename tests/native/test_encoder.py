"""Building batches: byte for byte the reference's, from lists, buffers and Arrow arrays."""

from __future__ import annotations

import random
import time
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import kcore
from kcore import LimitExceeded, UnsupportedCodec
from kcore._native import encoder
from tests.ref.batch import Record, encode

VALUES = [b"one", None, b"", b"x" * 300, b"y" * 6000]
KEYS = [None, b"k", b"", b"key" * 50, None]
TIMES = [1000, 900, 2**40, 1000, 1]
HEADERS: list[Any] = [None, [("a", b"1"), ("b", None)], [], {"c": b""}, [(b"raw", b"2" * 200)]]
PLAIN = [[], [("a", b"1"), ("b", None)], [], [("c", b"")], [("raw", b"2" * 200)]]
KEPT_FIELDS = (
    "base_offset",
    "last_offset_delta",
    "base_timestamp",
    "max_timestamp",
    "producer_id",
    "producer_epoch",
    "base_sequence",
    "record_count",
    "leader_epoch",
    "is_transactional",
)
EXPECTED = [
    Record(i, t, k, v, h)
    for i, (t, k, v, h) in enumerate(zip(TIMES, KEYS, VALUES, PLAIN, strict=True))
]


def test_lists_byte_for_byte() -> None:
    assert kcore.encode(VALUES, keys=KEYS, headers=HEADERS, timestamps=TIMES) == encode(EXPECTED)


@pytest.mark.parametrize(("size", "count"), [(100, 2000), (700, 200), (5000, 30), (0, 9000)])
def test_large_batches_byte_for_byte(size: int, count: int) -> None:
    """The CRC follows the writing in stretches: several of them, of small and of large values."""
    values = [bytes([i % 251]) * size for i in range(count)]
    want = encode([Record(i, 7, None, v) for i, v in enumerate(values)])
    assert kcore.encode(values, timestamps=7) == want


@pytest.mark.parametrize("count", [1, 2, 63, 64, 65, 66, 8191, 8192, 8193, 8194])
def test_where_offsets_and_sizes_grow_a_byte(count: int) -> None:
    """Values-only records go through writers of their own, which reuse what stays the same."""
    sizes = (0, 0, 54, 55, 56, 57, 58, 59, 60, 0, 63, 64, 64, 64, 65)
    values: list[bytes | None] = [b"v" * sizes[i % len(sizes)] for i in range(count)]
    values[count // 2] = None
    batch = kcore.encode(values, timestamps=7)
    assert batch == encode([Record(i, 7, None, v) for i, v in enumerate(values)])
    same = [b"x" * 57] * count
    expected = encode([Record(i, 7, None, v) for i, v in enumerate(same)])
    assert kcore.encode(same, timestamps=7) == expected
    buffer, bounds = b"".join(same), np.arange(count + 1) * 57
    for kind in (np.int32, np.int64):
        pair = (buffer, bounds.astype(kind))
        assert kcore.encode(pair, timestamps=7) == expected


@pytest.mark.parametrize("part", [0, 1, 3, 4, 7, 8, 9, 16, 17, 32, 33, 63, 64, 65, 512, 513])
def test_where_sizes_grow_a_byte_beside_keys_and_headers(part: int) -> None:
    """Such records have a writer of their own: short ones know their size before they are written,
    long ones after."""
    sizes = [None, 0, 1, *range(35, 70), 127, 128, 129, 512, 513, 4095, 4096, 4097]
    records = []
    for i, size in enumerate(sizes * 2):
        value = None if size is None else b"v" * size
        key = (None, b"k" * part, b"")[i % 3]
        headers = [("n" * part, b"h" * (i % 70)), ("", b"")][: i % 4]
        records.append(Record(i, 5 + (-1) ** i * (i * 40) ** (i % 5), key, value, headers))
    got = kcore.encode(
        [r.value for r in records], keys=[r.key for r in records],
        headers=[r.headers for r in records], timestamps=[r.timestamp for r in records],
    )  # fmt: skip
    assert got == encode(records)


def _sizes(shape: str, count: int) -> list[int]:
    source = random.Random(shape)
    if shape == "rising":
        return [i * i // 50 for i in range(count)]
    if shape == "falling":
        return [(count - i) ** 2 // 50 for i in range(count)]
    if shape == "sampled ones large":  # every third of 200 is looked at
        return [2000 if i % 3 == 0 else 1 for i in range(count)]
    if shape == "sampled ones small":
        return [0 if i % 3 == 0 else 4500 for i in range(count)]
    if shape == "a large one at the end":
        return [3] * (count - 1) + [90_000]
    return [source.choice([0, 1, 60, 200, 4500]) for _ in range(count)]


@pytest.mark.parametrize("what", ["values", "keys", "headers", "buffer"])
@pytest.mark.parametrize(
    "shape",
    ["rising", "falling", "sampled ones large", "sampled ones small", "a large one at the end",
     "any"],
)  # fmt: skip
def test_room_that_was_guessed_wrong(shape: str, what: str) -> None:
    """Where the sample of sizes misleads, the batch grows, or gives back what was too much."""
    count = 200
    parts = [bytes([i % 251]) * size for i, size in enumerate(_sizes(shape, count))]
    records = [Record(i, 5, None, part) for i, part in enumerate(parts)]
    given: dict[str, Any] = {"values": parts}
    if what == "keys":
        records = [Record(i, 5, part, None) for i, part in enumerate(parts)]
        given = {"values": [None] * count, "keys": parts}
    elif what == "headers":
        records = [Record(i, 5, None, b"v" * 70, [("h", part)]) for i, part in enumerate(parts)]
        given = {"values": [b"v" * 70] * count, "headers": [[("h", part)] for part in parts]}
    elif what == "buffer":
        ends = np.cumsum([0] + [len(part) for part in parts])
        given = {"values": (b"".join(parts), ends)}
    want = encode(records)
    got = kcore.encode(**given, timestamps=5)
    assert got == want
    assert hash(got) == hash(want)
    lz4 = kcore.encode(**given, timestamps=5, codec="lz4")
    assert [(r.key, r.value, r.headers) for r in kcore.records(lz4)] == [
        (r.key, r.value, list(r.headers)) for r in records
    ]


def test_rare_parts_behind_the_usual_ones() -> None:
    """Found while the batch is being written, which then begins again."""
    values: list[Any] = [b"v" * 70] * 1000
    usual: list[Any] = [[("a", b"1"), ("b", None)], [], None] * 333 + [None]
    for rare in (
        {"n": b"1"},
        [("n" * 600, b"1")],
        [("\u00e9", b"1")],
        [(b"n", b"")],
        [["n", b"1"]],
    ):
        headers = [*usual[:-1], rare]
        pairs = list(rare.items()) if isinstance(rare, dict) else rare
        plain = [(n.decode() if isinstance(n, bytes) else n, v) for n, v in pairs]
        records = [
            Record(i, 5, None, v, h or [])
            for i, (v, h) in enumerate(zip(values, usual, strict=True))
        ]
        records[-1] = Record(999, 5, None, values[-1], plain)
        assert kcore.encode(values, headers=headers, timestamps=5) == encode(records)
    values[998] = bytearray(b"w" * 70)
    plain_values = [bytes(v) for v in values]
    assert kcore.encode(values, timestamps=5) == kcore.encode(plain_values, timestamps=5)
    values[998] = "text"
    with pytest.raises(TypeError, match=r"values\[998\] is str"):
        kcore.encode(values, timestamps=5)
    with pytest.raises(TypeError, match=r"headers\[999\]: a header's value is str"):
        kcore.encode(plain_values, headers=[*usual[:-1], [("a", "b")]], timestamps=5)
    bounds = np.arange(1001) * 70
    bounds[999] = 7
    with pytest.raises(ValueError, match="must ascend"):
        kcore.encode((bytes(70_000), bounds), timestamps=5)


@pytest.mark.parametrize("which", ["values", "keys", "headers"])
def test_lists_that_change_meanwhile(which: str) -> None:
    """What the caller gives may run code: a list that is shorter afterwards is not read beyond."""
    lists: dict[str, list[Any]] = {
        "values": [b"v"] * 300, "keys": [b"k"] * 300, "headers": [[("h", b"")] for _ in range(300)]
    }  # fmt: skip

    class Pairs:
        def __len__(self) -> int:
            return 1

        def __iter__(self) -> Any:
            lists[which].clear()
            return iter([("h", b"")])

    lists["headers"][200] = Pairs()
    with pytest.raises(ValueError, match=f"the {which} changed while they were encoded"):
        kcore.encode(lists["values"], keys=lists["keys"], headers=lists["headers"])


def test_timestamps_that_change_meanwhile() -> None:
    times: list[Any] = [5] * 300

    class Time:
        def __int__(self) -> int:
            times.clear()
            return 5

    times[200] = Time()
    with pytest.raises(ValueError, match="the timestamps changed"):
        kcore.encode([b"v"] * 300, timestamps=times)


def test_a_batch_of_more_than_a_million_records() -> None:
    count = (1 << 20) + 3
    columns = kcore.decode(kcore.encode([b"ab"] * count))
    assert (columns.offsets == np.arange(count)).all()
    assert bytes(columns.buffer[columns.value_bounds[-1][0] : columns.value_bounds[-1][1]]) == b"ab"


def test_header_fields() -> None:
    data = kcore.encode(
        [b"v"] * 3,
        timestamps=5,
        base_offset=100,
        producer_id=2**40,
        producer_epoch=3,
        base_sequence=17,
        transactional=True,
        control=True,
        leader_epoch=8,
        append_time=99,
    )
    records = [Record(100 + i, 5, None, b"v") for i in range(3)]
    assert data == encode(
        records,
        attributes=8 | 16 | 32,
        leader_epoch=8,
        producer=(2**40, 3, 17),
        max_timestamp=99,
    )


def test_offsets_and_buffers() -> None:
    data = b"".join(v or b"" for v in VALUES)
    ends = np.cumsum([0] + [len(v or b"") for v in VALUES])
    want = kcore.encode([v or b"" for v in VALUES], timestamps=TIMES)
    for kind in (np.int32, np.int64):
        for buffer in (data, bytearray(data), memoryview(data), np.frombuffer(data, np.uint8)):
            got = kcore.encode((buffer, ends.astype(kind)), timestamps=np.array(TIMES))
            assert got == want
    # Parts of a larger buffer, and the same bytes as keys.
    inner = kcore.encode((data, ends[1:3]), keys=(data, ends[1:3]), timestamps=0)
    assert inner == kcore.encode([b""], keys=[b""], timestamps=0)


@pytest.mark.parametrize(
    "kind", [pa.binary(), pa.large_binary(), pa.string(), pa.large_string(), pa.binary_view()]
)
def test_arrow(kind: pa.DataType) -> None:
    texts = [None if v is None else v.decode() for v in VALUES]
    array = pa.array(texts if "string" in str(kind) else VALUES, kind)
    want = kcore.encode(VALUES, keys=VALUES, timestamps=0)
    assert kcore.encode(array, keys=array, timestamps=0) == want
    chunked = pa.chunked_array([array.slice(0, 2), array.slice(2)])
    assert kcore.encode(chunked, keys=chunked, timestamps=0) == want
    part = kcore.encode(array.slice(1, 3), keys=array.slice(1, 3), timestamps=0)
    assert part == kcore.encode(VALUES[1:4], keys=VALUES[1:4], timestamps=0)


def test_other_byte_like_values() -> None:
    values = [bytearray(b"a"), memoryview(b"b"), b"c", None]
    assert kcore.encode(values, timestamps=0) == kcore.encode(
        [b"a", b"b", b"c", None], timestamps=0
    )
    assert kcore.encode((b"a", b"b"), timestamps=0) == kcore.encode([b"a", b"b"], timestamps=0)
    assert kcore.encode(iter([b"a"]), timestamps=0) == kcore.encode([b"a"], timestamps=0)


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_codecs(codec: str) -> None:
    data = kcore.encode(VALUES, keys=KEYS, headers=HEADERS, timestamps=TIMES, codec=codec)
    assert kcore.inspect(data).codec == codec
    assert kcore.rebuild(data, "none") == encode(EXPECTED)


def test_rebuild_keeps_all_but_the_codec() -> None:
    data = encode(EXPECTED, attributes=16, leader_epoch=4, producer=(7, 1, 3))
    packed = kcore.rebuild(data, "zstd", 9)
    before, after = kcore.inspect(data), kcore.inspect(packed)
    for name in KEPT_FIELDS:
        assert getattr(before, name) == getattr(after, name), name
    assert after.codec == "zstd"
    for codec in ("gzip", "snappy", "lz4", "none"):
        assert kcore.rebuild(kcore.rebuild(packed, codec), "none") == data


def test_time_now_by_default() -> None:
    before = int(time.time() * 1000)
    stamp = kcore.inspect(kcore.encode([b"v"])).max_timestamp
    assert before <= stamp <= int(time.time() * 1000)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"values": []}, ValueError, "at least one record"),
        ({"values": [b"a", "b"]}, TypeError, r"values\[1\] is str, not bytes or None"),
        ({"values": [b"a"], "keys": [7]}, TypeError, r"keys\[0\] is int"),
        ({"values": [b"a"], "keys": []}, ValueError, "0 keys for 1 values"),
        ({"values": [b"a"], "timestamps": [1, 2]}, ValueError, "2 timestamps for 1 values"),
        ({"values": [b"a"], "timestamps": np.array([1], np.int32)}, TypeError, "int64"),
        ({"values": [b"a"], "headers": []}, ValueError, "headers of 0 records for 1 values"),
        ({"values": [b"a"], "headers": [[(1, b"")]]}, TypeError, r"headers\[0\]: .* name is int"),
        (
            {"values": [b"a"], "headers": [[("a", "b")]]},
            TypeError,
            r"headers\[0\].* value is str",
        ),
        ({"values": [b"a"], "codec": "brotli"}, UnsupportedCodec, "none, gzip"),
        ({"values": (b"abc", np.array([0, 4]))}, ValueError, "within the buffer"),
        ({"values": (b"abc", np.array([2, 4]))}, ValueError, "within the buffer"),
        ({"values": (b"abc", np.array([2, 1]))}, ValueError, "ascend"),
        ({"values": (b"abc", np.array([-1, 1]))}, ValueError, "within the buffer"),
        ({"values": (b"abc", np.array([0, 2**62]))}, ValueError, "within the buffer"),
        ({"values": (b"abc", np.array([], np.int64))}, ValueError, "are empty"),
        ({"values": (b"abc", np.array([0.5]).view(np.uint8))}, TypeError, "int32 or int64"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        kcore.encode(arguments.pop("values"), **arguments)


def test_batches_that_would_be_too_large() -> None:
    big = bytes(60 << 20)
    with pytest.raises(LimitExceeded, match="too large"):
        kcore.encode([big, big])


def test_native_names() -> None:
    assert encoder.encode is kcore.encode
