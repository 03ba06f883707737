"""What a leader checks before an append; lookups in one batch; records one by one."""

from __future__ import annotations

import struct

import pytest

import kcore
from kcore import CorruptBatch, InvalidRecord, LimitExceeded, UnsupportedCodec
from kcore._native import counters, records
from tests.native.test_batch import patched
from tests.ref import varint
from tests.ref.batch import Record, assemble, encode, encode_record
from tests.ref.batch import decode as reference_decode

PACKED = ["gzip", "snappy", "lz4", "zstd"]
RECORDS = [Record(i, 1000 + 10 * (i % 3), b"k%d" % i, b"v" * i, [("h", b"x")]) for i in range(6)]
GOOD = encode(RECORDS)
MAX = 1 << 20


def check(data: bytes | bytearray, **options: bool) -> kcore.BatchInfo:
    return kcore.check_produced(data, max_bytes=MAX, **options)


def section_of(*parts: bytes) -> bytes:
    """One record with these parts as its body."""
    body = b"".join(parts)
    return varint.encode(len(body), 32) + body


# ------------------------------------------------------------------ check_produced


@pytest.mark.parametrize("codec", ["none", *PACKED])
@pytest.mark.parametrize("need_keys", [False, True])
def test_good_batches_pass(codec: str, need_keys: bool) -> None:
    info = check(kcore.rebuild(GOOD, codec), need_keys=need_keys)
    assert (info.record_count, info.codec) == (6, codec)


def test_producer_fields() -> None:
    assert check(encode(RECORDS, producer=(4, 0, 0), attributes=16)).is_transactional
    for producer in ((4, -1, 0), (4, 0, -1)):
        with pytest.raises(InvalidRecord, match="needs an epoch and a sequence"):
            check(encode(RECORDS, producer=producer))
    with pytest.raises(InvalidRecord, match="needs a producer id"):
        check(encode(RECORDS, attributes=16))


def test_exactly_one_batch() -> None:
    with pytest.raises(InvalidRecord, match="exactly one batch") as caught:
        check(GOOD + GOOD)
    assert (caught.value.expected, caught.value.found) == (
        f"{len(GOOD)} bytes",
        f"{2 * len(GOOD)} bytes",
    )
    with pytest.raises(CorruptBatch):
        check(b"")


@pytest.mark.parametrize("magic", [0, 1, 3])
def test_old_formats_are_invalid_not_corrupt(magic: int) -> None:
    """A client retries a corrupt message for ever; what it can never send right it must drop."""
    with pytest.raises(InvalidRecord, match="version 2"):
        check(patched(GOOD, 16, ">b", magic))


def test_size_is_checked_before_the_crc() -> None:
    damaged = GOOD[:-1] + b"!"
    with pytest.raises(LimitExceeded, match="too large") as caught:
        kcore.check_produced(damaged, max_bytes=len(GOOD) - 1)
    assert caught.value.found == len(GOOD)
    with pytest.raises(CorruptBatch, match="CRC") as corrupt:
        kcore.check_produced(damaged, max_bytes=len(GOOD))
    assert corrupt.value.found != corrupt.value.expected
    kcore.check_produced(GOOD, max_bytes=len(GOOD))


@pytest.mark.parametrize(
    ("pos", "fmt", "value", "message"),
    [
        (0, ">q", 1, "base offset of a produced batch must be 0"),
        (57, ">i", 0, "at least one record"),
        (57, ">i", -1, "at least one record"),
        (57, ">i", 5, "record count minus one"),
        (23, ">i", 6, "record count minus one"),
        (23, ">i", -1, "record count minus one"),
        (21, ">h", 32, "control batches"),
        (21, ">h", 64, "delete horizon"),
    ],
)
def test_header_rules(pos: int, fmt: str, value: int, message: str) -> None:
    with pytest.raises(InvalidRecord, match=message) as caught:
        check(patched(GOOD, pos, fmt, value))
    assert caught.value.record_index == -1


@pytest.mark.parametrize("codec_id", [5, 6, 7])
def test_unknown_codecs(codec_id: int) -> None:
    with pytest.raises(UnsupportedCodec, match="none, gzip, snappy, lz4, zstd"):
        check(patched(GOOD, 21, ">h", codec_id))


def test_too_many_records() -> None:
    data = patched(patched(GOOD, 57, ">i", 1 << 25), 23, ">i", (1 << 25) - 1)
    with pytest.raises(LimitExceeded, match="too many records"):
        check(data)


@pytest.mark.parametrize("deltas", [(1, 2), (0, 2), (0, 0), (1, 0), (0, -1)])
def test_offset_deltas_must_count_up(deltas: tuple[int, int]) -> None:
    section = b"".join(encode_record(d, 0, Record(0, 0, None, b"v")) for d in deltas)
    with pytest.raises(InvalidRecord, match="offset delta") as caught:
        check(assemble(section, count=2))
    assert caught.value.record_index == (0 if deltas[0] else 1)


def test_compressed_records_are_opened_only_for_keys() -> None:
    """The broker passes compressed batches on: it must not pay for opening them."""
    junk = assemble(b"not gzip", count=1, attributes=1)
    assert check(junk).codec == "gzip"
    with pytest.raises(CorruptBatch, match="gzip"):
        check(junk, need_keys=True)


@pytest.mark.parametrize("codec", ["none", *PACKED])
def test_keys_where_needed(codec: str) -> None:
    batch = [*RECORDS[:3], Record(3, 0, None, b"v"), *RECORDS[4:]]
    data = kcore.rebuild(encode(batch), codec)
    check(data)
    with pytest.raises(InvalidRecord, match="record 3 is not valid: it has no key") as caught:
        check(data, need_keys=True)
    assert caught.value.record_index == 3
    assert kcore.keyless_record(data) == 3
    assert kcore.keyless_record(GOOD) is None
    check(encode([Record(0, 0, b"", None)]), need_keys=True)  # an empty key is a key


NULL = b"\x01"
PREFIX = b"\x00\x00\x00"  # attributes, timestamp delta, offset delta
FAULTS = {
    "no length": (b"", "length"),
    "length cut": (b"\x80", "length"),
    "negative length": (varint.encode(-1, 32) + PREFIX + NULL + NULL + b"\0", "length"),
    "length 2^31-1": (varint.encode(2**31 - 1, 32) + PREFIX + NULL + NULL + b"\0", "length"),
    "length one too many": (varint.encode(7, 32) + PREFIX + NULL + NULL + b"\0", "length"),
    "length one too few": (varint.encode(5, 32) + PREFIX + NULL + NULL + b"\0", "fields"),
    "empty body": (section_of(), "fields"),
    "only attributes": (section_of(b"\0"), "fields"),
    "nothing after deltas": (section_of(PREFIX), "fields"),
    "key size -2": (section_of(PREFIX, varint.encode(-2, 32), NULL, b"\0"), "larger"),
    "key size 2^31-1": (section_of(PREFIX, varint.encode(2**31 - 1, 32), NULL, b"\0"), "larger"),
    "key one too long": (section_of(PREFIX, varint.encode(4, 32), b"k", NULL, b"\0"), "larger"),
    "value size -2": (section_of(PREFIX, NULL, varint.encode(-2, 32), b"\0"), "larger"),
    "value one too long": (section_of(PREFIX, NULL, varint.encode(2, 32), b"\0"), "larger|fields"),
    "no header count": (section_of(PREFIX, NULL, NULL), "fields"),
    "bytes after no headers": (section_of(PREFIX, NULL, NULL, b"\0\0"), "fields"),
    "header count -1": (section_of(PREFIX, NULL, NULL, varint.encode(-1, 32)), "header count"),
    "header count 2^31-1": (
        section_of(PREFIX, NULL, NULL, varint.encode(2**31 - 1, 32), b"\0\0"),
        "header count",
    ),
    "one header too many": (
        section_of(PREFIX, NULL, NULL, varint.encode(2, 32), b"\0\0\0"),
        "header count",
    ),
    "header without a key": (
        section_of(PREFIX, NULL, NULL, varint.encode(1, 32), NULL, NULL),
        "a header has no key",
    ),
    "header key too long": (
        section_of(PREFIX, NULL, NULL, varint.encode(1, 32), varint.encode(9, 32), b"\0"),
        "larger",
    ),
    "header value size -2": (
        section_of(PREFIX, NULL, NULL, varint.encode(1, 32), b"\0", varint.encode(-2, 32)),
        "larger",
    ),
    "bytes after headers": (
        section_of(PREFIX, NULL, NULL, varint.encode(1, 32), b"\0", b"\0", b"\0"),
        "fields",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_in_a_record(name: str) -> None:
    """After a good first record, so that the index is seen to be right."""
    section, message = FAULTS[name]
    good = section_of(PREFIX, NULL, NULL, b"\0")
    # Two records need 14 bytes at least: pad what is shorter, so that the walk comes to the fault.
    data = assemble((good + section).ljust(14, b"\x80"), count=2)
    with pytest.raises(InvalidRecord, match=message) as caught:
        check(data)
    assert caught.value.record_index == 1
    for read in (kcore.decode, lambda d: list(kcore.records(d)), kcore.max_timestamp_record):
        with pytest.raises(CorruptBatch, match="record 1"):
            read(data)


@pytest.mark.parametrize("name", FAULTS)
def test_faults_with_room_behind_them(name: str) -> None:
    """Records with 32 bytes behind them are decoded in another way than the last of a batch: it
    must refuse the same, and never take bytes of the next record for its own."""
    good = section_of(PREFIX, NULL, NULL, b"\0")
    long = encode_record(2, 0, Record(0, 0, b"k" * 40, b"v" * 40))
    data = assemble(good + FAULTS[name][0] + long, count=3, last_offset_delta=5)
    with pytest.raises(ValueError):
        reference_decode(data)
    for read in (kcore.decode, lambda d: list(kcore.records(d)), kcore.max_timestamp_record):
        with pytest.raises(CorruptBatch, match=r"record [12]|bytes follow"):
            read(data)
    with pytest.raises(InvalidRecord):
        check(patched(data, 23, ">i", 2))


@pytest.mark.parametrize("need_keys", [False, True])
def test_the_leaders_quick_walk_takes_what_a_reader_takes(need_keys: bool) -> None:
    """Any byte around the start and end of a record, whatever it becomes: both walks agree."""
    parts = [
        encode_record(i, 7 * i, Record(0, 0, key, value))
        for i, (key, value) in enumerate(
            [
                (None, b"v" * 50),
                (b"", None),
                (b"k" * 70, b"v" * 9000),
                (b"k", b""),
                (b"k", b"v" * 60),
            ]
        )
    ]
    parts += [encode_record(5, 0, Record(0, 0, b"k" * 40, b"v" * 40))]
    starts = [61 + sum(map(len, parts[:i])) for i in range(len(parts))]
    good = assemble(b"".join(parts), count=len(parts))
    taken = 0
    for at in sorted({start + d for start in starts for d in range(-2, 14)} - {59, 60}):
        for byte in range(256):
            data = bytearray(good)
            data[at] = byte
            struct.pack_into(">I", data, 17, kcore.crc32c(bytes(data[21:])))
            try:
                found = [(r.offset, r.key) for r in kcore.records(data)]
                expected = [offset for offset, _ in found] == list(range(len(parts)))
                expected &= not need_keys or all(key is not None for _, key in found)
            except CorruptBatch:
                expected = False
            try:
                check(data, need_keys=need_keys)
            except InvalidRecord:
                assert not expected, (at, byte)
            else:
                assert expected, (at, byte)
                taken += 1
    assert taken > (0 if need_keys else 1000)


def test_bytes_after_the_last_record() -> None:
    data = assemble(section_of(PREFIX, NULL, NULL, b"\0") + b"\0", count=1)
    with pytest.raises(InvalidRecord, match="bytes follow the last record"):
        check(data)
    for read in (kcore.decode, lambda d: list(kcore.records(d))):
        with pytest.raises(CorruptBatch, match="bytes follow the last record"):
            read(data)


def test_more_records_than_inflated_bytes() -> None:
    packed = kcore.rebuild(GOOD, "gzip")
    data = patched(patched(packed, 57, ">i", 10**6), 23, ">i", 10**6 - 1)
    with pytest.raises(CorruptBatch, match="1000000 records cannot fit"):
        check(data, need_keys=True)


# ------------------------------------------------------------------ lookups


@pytest.mark.parametrize("codec", ["none", *PACKED])
def test_find_timestamp(codec: str) -> None:
    data = kcore.rebuild(GOOD, codec)  # timestamps 1000, 1010, 1020, 1000, 1010, 1020
    assert kcore.find_timestamp(data, 0) == (1000, 0)
    assert kcore.find_timestamp(data, 1001) == (1010, 1)
    assert kcore.find_timestamp(data, 1011) == (1020, 2)
    assert kcore.find_timestamp(data, 1020, min_offset=3) == (1020, 5)
    assert kcore.find_timestamp(data, 1021) is None
    assert kcore.max_timestamp_record(data) == (1020, 2), "the first of equals"
    assert kcore.max_timestamp_record(data, min_offset=3) == (1020, 5)
    assert kcore.max_timestamp_record(data, min_offset=6) is None


def test_append_time_hides_the_records_times() -> None:
    data = encode(RECORDS, attributes=8, max_timestamp=5000)
    assert kcore.find_timestamp(data, 1010) == (5000, 0)
    assert kcore.find_timestamp(data, 5001) is None
    assert kcore.max_timestamp_record(data) == (5000, 0)
    assert {r.timestamp for r in kcore.records(data)} == {5000}
    assert set(kcore.decode(data).timestamps.tolist()) == {5000}


def test_empty_batch_of_the_compactor() -> None:
    data = assemble(b"", count=0, last_offset_delta=9, max_timestamp=77)
    assert kcore.find_timestamp(data, 0) is None
    assert kcore.max_timestamp_record(data) is None
    assert list(kcore.records(data)) == []
    assert len(kcore.decode(data)) == 0


def test_timestamps_wrap_like_java() -> None:
    section = encode_record(0, 2**62, Record(0, 0, None, None))
    data = assemble(section, count=1, base_timestamp=2**62 + 2**61)
    assert next(kcore.records(data)).timestamp == 2**62 + 2**61 + 2**62 - 2**64


# ------------------------------------------------------------------ records


def test_records_over_several_batches() -> None:
    later = [Record(6 + r.offset, *(r.timestamp, r.key, r.value, r.headers)) for r in RECORDS]
    marker = assemble(
        encode_record(0, 0, Record(0, 0, struct.pack(">hh", 0, 1), struct.pack(">hi", 0, 3))),
        count=1,
        base_offset=12,
        attributes=48,
        producer=(9, 2, -1),
    )
    span = kcore.rebuild(GOOD, "zstd") + encode(later) + marker
    got = list(kcore.records(span))
    assert [(r.offset, r.timestamp, r.key, r.value, r.headers) for r in got] == [
        (r.offset, r.timestamp, r.key, r.value, r.headers) for r in [*RECORDS, *later]
    ]
    with_marker = list(kcore.records(span, include_control=True))
    assert with_marker[-1].offset == 12
    assert with_marker[-1].key == b"\0\0\0\1"
    assert repr(got[0]) == (
        "Record(offset=0, timestamp=1000, key=b'k0', value=b'', headers=[('h', b'x')])"
    )


def test_nulls_are_not_empties() -> None:
    batch = [
        Record(0, 0, None, None, [("n", None), ("e", b"")]),
        Record(1, 0, b"", b"", [("", b"v"), ("\u00e9", b"v")]),
    ]
    got = list(kcore.records(encode(batch)))
    assert [(r.key, r.value, r.headers) for r in got] == [
        (r.key, r.value, r.headers) for r in batch
    ]


def test_header_names_that_are_not_utf8() -> None:
    """Kafka does not check them; a reader must not fail on them."""
    section = section_of(PREFIX, NULL, NULL, b"\x02\x04\xff\xfe\x01")
    assert next(kcore.records(assemble(section, count=1))).headers == [("\ufffd\ufffd", None)]


def test_headers_that_changed_under_the_record() -> None:
    data = bytearray(GOOD)
    record = next(kcore.records(data))
    at = data.index(b"\x02\x02h\x02x")
    data[at + 1] = 0x7E
    with pytest.raises(CorruptBatch, match="have changed"):
        _ = record.headers


def test_records_keep_the_bytes_and_let_them_go() -> None:
    before = counters.live()["buffers"]
    data = bytearray(GOOD)
    record = next(kcore.records(data))
    assert counters.live()["buffers"] == before + 1
    with pytest.raises(BufferError):
        data.extend(b"moved")
    assert record.value == b""
    del record
    data.extend(b"free again")
    assert counters.live()["buffers"] == before


def test_an_iterator_that_failed_stays_failed() -> None:
    it = kcore.records(GOOD + GOOD[:-1])
    assert [next(it).offset for _ in range(6)] == list(range(6))
    for _ in range(2):
        with pytest.raises(CorruptBatch, match="end inside a batch"):
            next(it)


def test_native_names() -> None:
    assert records.records is kcore.records
    with pytest.raises(TypeError, match=r"kcore\.records"):
        records.Record()
