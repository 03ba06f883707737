"""The native engine and the reference say the same about any records, and about any bytes."""

from __future__ import annotations

import crc32c as crc_package
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import kcore
from kcore._native import crc32c as native_crc
from tests.ref import batch as reference
from tests.ref.crc32c import crc32c as reference_crc

SIZES = st.one_of(
    st.integers(0, 70), st.sampled_from([127, 128, 511, 512, 513, 4095, 4096, 8191, 8192, 20_000])
)
BLOBS = st.builds(lambda size, byte: bytes([byte]) * size, SIZES, st.integers(0, 255))
VALUES = st.one_of(st.none(), st.binary(max_size=40), BLOBS)
TIMES = st.one_of(
    st.integers(0, 5), st.integers(1_600_000_000_000, 1_800_000_000_000), st.integers(-1, 2**62)
)
HEADERS = st.lists(st.tuples(st.text(max_size=5), st.one_of(st.none(), st.binary(max_size=5))))
CODECS = st.sampled_from(["none", "gzip", "snappy", "lz4", "zstd"])


@st.composite
def record_lists(draw: st.DrawFn) -> list[reference.Record]:
    base = draw(st.sampled_from([0, 1, 2**40]))
    parts = draw(st.lists(st.tuples(TIMES, VALUES, VALUES, HEADERS), min_size=1, max_size=12))
    return [reference.Record(base + i, *part) for i, part in enumerate(parts)]


def native_encode(records: list[reference.Record], codec: str = "none") -> bytes:
    return kcore.encode(
        [r.value for r in records],
        keys=[r.key for r in records],
        headers=[r.headers for r in records],
        timestamps=[r.timestamp for r in records],
        base_offset=records[0].offset,
        codec=codec,
    )


def native_decode(data: bytes) -> list[reference.Record]:
    return [
        reference.Record(r.offset, r.timestamp, r.key, r.value, r.headers)
        for r in kcore.records(data)
    ]


@settings(max_examples=150, deadline=None)
@given(record_lists())
def test_encode_is_the_references(records: list[reference.Record]) -> None:
    assert native_encode(records) == reference.encode(records)


@settings(max_examples=100, deadline=None)
@given(record_lists(), CODECS)
def test_decode_is_the_references(records: list[reference.Record], codec: str) -> None:
    data = native_encode(records, codec)
    assert native_decode(data) == reference.decode(data) == records
    columns = kcore.decode(data)
    assert columns.offsets.tolist() == [r.offset for r in records]
    assert columns.timestamps.tolist() == [r.timestamp for r in records]
    assert columns.keys() == [r.key for r in records]
    assert columns.values() == [r.value for r in records]


@settings(max_examples=100, deadline=None)
@given(record_lists())
def test_encode_is_aiokafkas(records: list[reference.Record]) -> None:
    assume(records[0].timestamp != -1)  # their builder takes -1 for "no record yet"
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=False,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=1 << 26,
    )
    for i, r in enumerate(records):
        builder.append(i, r.timestamp, r.key, r.value, r.headers)
    theirs = bytes(builder.build())
    # From the magic on: base offset and leader epoch are the leader's to write.
    assert native_encode(records)[16:] == theirs[16:]
    read = [(r.timestamp, r.key, r.value) for r in DefaultRecordBatch(native_encode(records))]
    assert read == [(r.timestamp, r.key, r.value) for r in records]


@settings(max_examples=100, deadline=None)
@given(record_lists(), CODECS, TIMES)
def test_lookups_are_a_scan(records: list[reference.Record], codec: str, target: int) -> None:
    data = native_encode(records, codec)
    late = [(r.timestamp, r.offset) for r in records if r.timestamp >= target]
    assert kcore.find_timestamp(data, target) == (late[0] if late else None)
    top = max(r.timestamp for r in records)
    first = next(r.offset for r in records if r.timestamp == top)
    assert kcore.max_timestamp_record(data) == (top, first)
    keyless = [i for i, r in enumerate(records) if r.key is None]
    assert kcore.keyless_record(data) == (keyless[0] if keyless else None)


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 4), st.integers(0, 6))
def test_same_verdict_on_any_section(section: bytes, count: int, last_delta: int) -> None:
    """Random bytes as records, under a header that is right: both read the same or both refuse."""
    data = reference.assemble(section, count=count, last_offset_delta=last_delta)
    try:
        expected: list[reference.Record] | None = reference.decode(data)
    except ValueError:
        expected = None
    if count > last_delta + 1:
        expected = None
    try:
        got: list[reference.Record] | None = native_decode(data)
        columns = kcore.decode(data)
        assert columns.values() == [r.value for r in got or []]
    except kcore.CorruptBatch:
        got = None
    if count == 0:
        # Without records nobody looks at the section: the header alone counts.
        got = expected = None
    assert got == expected


@settings(max_examples=250, deadline=None)
@given(record_lists(), st.data())
def test_same_verdict_on_damaged_records(
    records: list[reference.Record], data: st.DataObject
) -> None:
    """One byte of the records changed and the CRC made to fit."""
    section = bytearray(native_encode(records)[61:])
    pos = data.draw(st.integers(0, min(len(section), 400) - 1))
    section[pos] = data.draw(st.integers(0, 255))
    batch = reference.assemble(bytes(section), count=len(records))
    try:
        expected: list[reference.Record] | None = reference.decode(batch)
    except ValueError:
        expected = None
    try:
        got: list[reference.Record] | None = native_decode(batch)
    except kcore.CorruptBatch:
        got = None
    assert got == expected


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=3000), st.integers(0, 2**32 - 1))
def test_crc(data: bytes, seed: int) -> None:
    want = crc_package.crc32c(data, seed)
    assert native_crc.crc32c(data, seed) == want
    assert native_crc.crc32c_into(bytearray(len(data)), data, seed) == want
    if len(data) < 200:
        assert reference_crc(data, seed) == want
