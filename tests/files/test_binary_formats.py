"""Transaction index and producer snapshot: golden bytes, round trips, and damage at every byte."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kcore._native.crc32c import crc32c
from kcore.errors import IndexCorrupt
from kcore.files.producer_snapshot import (
    PRODUCER_ENTRY_BYTES,
    ProducerEntry,
    decode_producer_snapshot,
    encode_producer_snapshot,
    load_producer_snapshot,
    store_producer_snapshot,
)
from kcore.files.txn_index import (
    AbortedTxn,
    aborted_in,
    decode_txn_index,
    encode_txn_index,
    load_txn_index,
    store_txn_index,
)

TXNS = [AbortedTxn(7, 10, 20, 11), AbortedTxn(9, 11, 30, 25), AbortedTxn(7, 25, 40, 41)]
PRODUCERS = [
    ProducerEntry(1000, 0, 9, 49, 4, 1700000000000),
    ProducerEntry(1001, 3, -1, -1, 0, 1700000000001, 2, 50),
]


def test_txn_index_bytes() -> None:
    data = encode_txn_index(TXNS[:1])
    assert data.hex() == "0000" + "0000000000000007000000000000000a0000000000000014" + (
        "000000000000000b"
    )
    assert decode_txn_index(encode_txn_index(TXNS)) == TXNS
    assert decode_txn_index(b"") == []


@pytest.mark.parametrize(
    ("entry", "words", "pos"),
    [
        (AbortedTxn(-1, 1, 2, 3), "producer id is negative", 36),
        (AbortedTxn(1, 31, 30, 3), "ends before it begins", 44),
        (AbortedTxn(1, -1, 50, 3), "ends before it begins", 44),
        (AbortedTxn(1, 1, 20, 3), "markers do not rise", 52),
        (AbortedTxn(1, 1, 50, -3), "stable offset is negative", 60),
    ],
)
def test_txn_index_damage(entry: AbortedTxn, words: str, pos: int) -> None:
    with pytest.raises(IndexCorrupt, match=words) as caught:
        decode_txn_index(encode_txn_index([TXNS[0], entry]), path="x")
    assert caught.value.pos == pos


def test_txn_index_version_size_and_base() -> None:
    data = encode_txn_index(TXNS)
    with pytest.raises(IndexCorrupt, match="unknown entry version"):
        decode_txn_index(b"\0\1" + data[2:])
    for cut in range(1, 34):
        with pytest.raises(IndexCorrupt, match="not a multiple"):
            decode_txn_index(data[:-cut])
    with pytest.raises(IndexCorrupt, match="below the segment"):
        decode_txn_index(data, base_offset=21)


def test_aborted_in_stops_where_everything_is_decided() -> None:
    assert aborted_in(TXNS, 0, 10) == ([], True)
    assert aborted_in(TXNS, 0, 11) == (TXNS[:1], True)
    assert aborted_in(TXNS, 21, 26) == (TXNS[1:], True)
    assert aborted_in(TXNS, 41, 99) == ([], False)


@given(st.data())
def test_aborted_in_equals_a_plain_overlap(data: st.DataObject) -> None:
    """Random histories written the way a log writes them: the early stop loses nothing."""
    open_at: dict[int, int] = {}
    entries: list[AbortedTxn] = []
    offset = 0
    for pid in data.draw(st.lists(st.integers(0, 3), max_size=30)):
        if pid in open_at:
            first = open_at.pop(pid)
            stable = min(open_at.values(), default=offset + 1)
            entries.append(AbortedTxn(pid, first, offset, stable))
        else:
            open_at[pid] = offset
        offset += 1
    stable_end = min(open_at.values(), default=offset)
    first = data.draw(st.integers(0, 30))
    end = data.draw(st.integers(0, 30))
    if end > stable_end:  # a reader is never shown more than the last stable offset
        end = stable_end
    plain = [e for e in entries if e.last_offset >= first and e.first_offset < end]
    assert aborted_in(entries, first, end)[0] == plain


def test_producer_snapshot_bytes() -> None:
    data = encode_producer_snapshot(PRODUCERS)
    body = struct.pack(">i", 2)
    body += struct.pack(">qhiqiqiq", 1000, 0, 9, 49, 4, 1700000000000, -1, -1)
    body += struct.pack(">qhiqiqiq", 1001, 3, -1, -1, 0, 1700000000001, 2, 50)
    assert data == struct.pack(">hI", 1, crc32c(body)) + body
    assert PRODUCER_ENTRY_BYTES == 46
    assert decode_producer_snapshot(data) == PRODUCERS
    assert decode_producer_snapshot(encode_producer_snapshot([])) == []


def test_producer_snapshot_damage_at_every_byte() -> None:
    data = encode_producer_snapshot(PRODUCERS)
    for at in range(len(data)):
        broken = bytearray(data)
        broken[at] ^= 0x40
        with pytest.raises(IndexCorrupt):
            decode_producer_snapshot(bytes(broken))
    for size in range(len(data)):
        with pytest.raises(IndexCorrupt):
            decode_producer_snapshot(data[:size])


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([PRODUCERS[0], PRODUCERS[0]], "appears twice"),
        ([ProducerEntry(-1, 0, 0, 0, 0, 0)], "negative"),
        ([ProducerEntry(1, 0, 0, 5, 6, 0)], "offset delta out of range"),
        ([ProducerEntry(1, 0, 0, 100, 0, 0)], "at or above the snapshot's"),
        ([ProducerEntry(1, 0, -1, -1, 0, 0, 0, 100)], "at or above the snapshot's"),
    ],
)
def test_producer_snapshot_rules(entries: list[ProducerEntry], words: str) -> None:
    with pytest.raises(IndexCorrupt, match=words):
        decode_producer_snapshot(encode_producer_snapshot(entries), next_offset=100)


@pytest.mark.parametrize("count", [-1, 0, 1, 3, (1 << 31) - 1])
def test_producer_snapshot_count_is_checked_against_the_bytes(count: int) -> None:
    """With a CRC made right again, so that only the count is wrong."""
    body = struct.pack(">i", count) + encode_producer_snapshot(PRODUCERS)[10:]
    with pytest.raises(IndexCorrupt, match="entry count is wrong"):
        decode_producer_snapshot(struct.pack(">hI", 1, crc32c(body)) + body)


def test_load_and_store(tmp_path: Path) -> None:
    path = tmp_path / "00000000000000000100.snapshot"
    store_producer_snapshot(path, PRODUCERS)
    assert load_producer_snapshot(path, next_offset=100) == PRODUCERS
    index = tmp_path / "00000000000000000000.txnindex"
    assert load_txn_index(index) == []
    store_txn_index(index, TXNS)
    assert load_txn_index(index) == TXNS


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    for decode in (decode_txn_index, decode_producer_snapshot):
        try:
            decode(data)
        except IndexCorrupt as error:
            assert error.pos is not None
