"""Batches of other clients: read with the same records, and written by us with the same bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

import kcore
from tests.golden.cases import CODECS, PRODUCER, RECORDS
from tests.ref import batch as reference

FOLDER = Path(__file__).parent
CLIENTS = ("aiokafka", "kafka-python", "java")
EXPECTED = [(r.offset, r.timestamp, r.key, r.value, r.headers) for r in RECORDS]


def golden(name: str) -> bytes:
    return (FOLDER / f"{name}.batch").read_bytes()


def read(data: bytes) -> list[tuple[object, ...]]:
    return [(r.offset, r.timestamp, r.key, r.value, r.headers) for r in kcore.records(data)]


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("codec", CODECS)
def test_read(client: str, codec: str) -> None:
    data = golden(f"{client}-{codec}")
    info = kcore.check_produced(data, max_bytes=len(data))
    assert info.codec == codec
    assert (info.producer_id, info.producer_epoch, info.base_sequence) == PRODUCER
    assert info.max_timestamp == max(r.timestamp for r in RECORDS)
    assert read(data) == EXPECTED
    columns = kcore.decode(data)
    assert columns.values() == [r.value for r in RECORDS]
    assert columns.keys() == [r.key for r in RECORDS]
    assert reference.decode(data) == RECORDS, "the reference reads it too"


@pytest.mark.parametrize("client", CLIENTS)
def test_written_byte_for_byte(client: str) -> None:
    ours = kcore.encode(
        [r.value for r in RECORDS],
        keys=[r.key for r in RECORDS],
        headers=[r.headers for r in RECORDS],
        timestamps=[r.timestamp for r in RECORDS],
        producer_id=PRODUCER[0],
        producer_epoch=PRODUCER[1],
        base_sequence=PRODUCER[2],
    )
    theirs = golden(f"{client}-none")
    # The leader epoch, which the leader overwrites and no CRC covers, is 0 or -1 by taste.
    assert ours[:12] + ours[16:] == theirs[:12] + theirs[16:]
    for codec in CODECS:
        rebuilt = kcore.rebuild(golden(f"{client}-{codec}"), "none")
        assert rebuilt[16:] == ours[16:]


def test_append_time_of_java() -> None:
    data = golden("java-append-time")
    info = kcore.inspect(data)
    assert info.is_append_time
    assert {r.timestamp for r in kcore.records(data)} == {info.max_timestamp}
    assert kcore.find_timestamp(data, info.max_timestamp) == (info.max_timestamp, 0)
    assert kcore.find_timestamp(data, info.max_timestamp + 1) is None


def test_transaction_of_java() -> None:
    data = golden("java-transactional")
    info = kcore.inspect(data)
    assert (info.base_offset, info.leader_epoch, info.is_transactional) == (70, 3, True)
    span = data + golden("java-commit")
    assert [r.offset for r in kcore.records(span)] == list(range(70, 78))
    columns = kcore.decode(span)
    assert len(columns) == 8
    assert columns.control == [kcore.ControlMarker(78, 1700000000008, 4000, 5, "commit", 9)]
    (abort,) = kcore.decode(golden("java-abort")).control
    assert abort.kind == "abort"


def test_control_batch_byte_for_byte() -> None:
    theirs = golden("java-commit")
    (record,) = kcore.records(theirs, include_control=True)
    ours = kcore.encode(
        [record.value],
        keys=[record.key],
        timestamps=1700000000008,
        base_offset=78,
        producer_id=4000,
        producer_epoch=5,
        transactional=True,
        control=True,
        leader_epoch=3,
    )
    assert ours == theirs
