"""Goal: the map of keys answers as a dictionary does, is bounded, and its hash is SipHash."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kcore
from kcore._native.compact import Cleaning
from kcore._native.keymap import AbortedTxns, OffsetMap, key_hash
from kcore.limits import INFLATED_BYTES_MAX

SECRET = bytes(range(16))
NO_TXNS = AbortedTxns()


def offset_map(slots: int = 64, limit: int | None = None) -> OffsetMap:
    return OffsetMap(slots, limit=slots if limit is None else limit, secret=SECRET)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (0, "a3817f04ba25a8e66df67214c7550293"),
        (1, "da87c1d86b99af44347659119b22fc45"),
        (2, "8177228da4a45dc7fca38bdef60affe4"),
        (8, "3b62a9ba6258f5610f83e264f31497b4"),
    ],
)
def test_the_hash_is_that_of_its_authors(size: int, expected: str) -> None:
    assert key_hash(bytes(range(size)), SECRET).hex() == expected


@given(st.lists(st.tuples(st.binary(max_size=20), st.integers(0, 1 << 62)), max_size=60))
def test_it_is_a_dictionary_of_last_offsets(pairs: list[tuple[bytes, int]]) -> None:
    offsets = offset_map()
    expected: dict[bytes, int] = {}
    for key, offset in pairs:
        assert offsets.remember(key, offset)
        expected[key] = max(offset, expected.get(key, -1))
    assert len(offsets) == len(expected)
    assert {key: offsets.last_offset(key) for key in expected} == expected
    assert offsets.last_offset(b"x" * 21) == -1


def test_a_full_map_still_knows_its_keys() -> None:
    offsets = offset_map(3)
    assert [offsets.remember(b"%d" % n, n) for n in range(5)] == [True] * 3 + [False] * 2
    assert offsets.remember(b"1", 9) and offsets.last_offset(b"1") == 9
    assert offsets.last_offset(b"4") == -1


@pytest.mark.parametrize("slots, limit", [(0, 1), (4, 0), (4, 5)])
def test_bad_sizes(slots: int, limit: int) -> None:
    with pytest.raises(ValueError, match="slots"):
        OffsetMap(slots, limit=limit, secret=SECRET)


def test_loading_stops_where_the_map_is_full() -> None:
    offsets = offset_map(2)
    data = kcore.encode([b"v"] * 2, keys=[b"a", b"b"]) + kcore.encode(
        [b"v"] * 2, keys=[b"a", b"c"], base_offset=2
    )
    assert offsets.load(data, 0, NO_TXNS)
    # Only whole batches count, and what was taken of the other is true all the same.
    assert offsets.latest_offset == 1 and offsets.last_offset(b"a") == 2


def test_aborted_batches_have_no_keys() -> None:
    offsets = offset_map()
    aborted = AbortedTxns([(7, 0, 5), (7, 20, 25), (8, 0, 99)])
    data = b"".join(
        kcore.encode([b"v"], keys=[b"%d" % base], base_offset=base, producer_id=7,
                     producer_epoch=0, base_sequence=base, transactional=True)
        for base in (3, 6, 20, 26)
    )  # fmt: skip
    assert not offsets.load(data, 0, aborted)
    assert [offsets.last_offset(b"%d" % base) for base in (3, 6, 20, 26)] == [-1, 6, -1, 26]
    assert offsets.latest_offset == 26


@pytest.mark.parametrize("cut", [70, 100, 130])
def test_bad_records_are_refused(cut: int) -> None:
    import crc32c

    raw = bytearray(kcore.encode([b"v" * 30] * 3, keys=[b"a", b"b", b"c"]))
    raw[cut % len(raw)] ^= 0x40
    raw[17:21] = crc32c.crc32c(bytes(raw[21:])).to_bytes(4, "big")
    offsets = offset_map()
    cleaning = Cleaning(offsets, NO_TXNS, now_ms=0, delete_retention_ms=0)
    try:
        list(kcore.records(bytes(raw)))
    except kcore.CorruptBatch:
        with pytest.raises(kcore.CorruptBatch):
            offsets.load(raw, 0, NO_TXNS)
        with pytest.raises(kcore.CorruptBatch):
            cleaning.filter(raw)
    else:
        offsets.load(raw, 0, NO_TXNS)
        cleaning.filter(raw)


def test_what_nobody_would_inflate_is_not_written() -> None:
    """A batch within its budget is beyond it once the records that did not compress are gone."""
    noise, plain = random.Random(1).randbytes(1 << 20), bytes(INFLATED_BYTES_MAX + 1)
    data = kcore.encode([noise, plain], keys=[b"a", b"b"], codec="zstd")
    offsets = offset_map()
    assert not offsets.load(data, 0, NO_TXNS)
    assert offsets.remember(b"a", 2)
    cleaning = Cleaning(offsets, NO_TXNS, now_ms=0, delete_retention_ms=0)
    with pytest.raises(kcore.LimitExceeded):
        cleaning.filter(data)
