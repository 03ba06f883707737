"""Fetch: what is read, when it is answered, and every error code a consumer can get."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kbroker.base import errors
from kbroker.wire import apis
from kbroker.wire.schema.fetch import (
    FetchPartition,
    FetchRequest,
    FetchTopic,
    ForgottenTopic,
    ReplicaState,
)

import kcore
from tests.broker.data_support import TOPIC, TOPIC_ID, DataBroker, Parked
from tests.log.support import NOW_MS, append, batch, marker, sequenced

VERSIONS = range(4, 19)
MIB = 1 << 20


@pytest.fixture
def broker(tmp_path: Path) -> Any:
    found = DataBroker(tmp_path)
    found.create(partitions=3)
    yield found
    found.close()


def put(broker: DataBroker, *values: bytes, index: int = 0, **fields: Any) -> int:
    partition = broker.logs.get(TOPIC, index)
    assert partition is not None
    return append(partition, batch(*values, **fields))


def asked(index: int = 0, offset: int = 0, **fields: Any) -> FetchPartition:
    fields.setdefault("partition_max_bytes", MIB)
    return FetchPartition(partition=index, fetch_offset=offset, **fields)


def request(
    *partitions: FetchPartition, forget: tuple[int, ...] = (), **fields: Any
) -> FetchRequest:
    fields.setdefault("max_bytes", 50 * MIB)
    topics = [FetchTopic(topic=TOPIC, topic_id=TOPIC_ID, partitions=list(partitions))]
    forgotten = [ForgottenTopic(topic=TOPIC, topic_id=TOPIC_ID, partitions=list(forget))]
    return FetchRequest(
        topics=topics if partitions else [], forgotten_topics_data=forgotten if forget else [],
        **fields,
    )  # fmt: skip


def fetch(broker: DataBroker, *partitions: FetchPartition, version: int = 12, **fields: Any) -> Any:
    return broker.call(apis.FETCH, version, request(*partitions, **fields))


def rows(answer: Any) -> list[Any]:
    return [row for topic in answer.responses for row in topic.partitions]


def values(row: Any) -> list[bytes | None]:
    return [record.value for record in kcore.records(bytes(row.records))] if row.records else []


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_reads(broker: DataBroker, version: int) -> None:
    put(broker, b"a", b"b")
    put(broker, b"c")
    answer = fetch(broker, asked(offset=1), asked(2), version=version)
    topic = answer.responses[0]
    assert (topic.topic, topic.topic_id) == ((TOPIC, bytes(16)) if version < 13 else ("", TOPIC_ID))
    full, empty = rows(answer)
    assert values(full) == [b"a", b"b", b"c"]
    assert (full.error_code, full.high_watermark, full.last_stable_offset) == (0, 3, 3)
    assert full.preferred_read_replica == -1
    assert (empty.partition_index, empty.error_code, empty.high_watermark) == (2, 0, 0)
    assert bytes(empty.records) == b"" and empty.records is not None


# When it answers


def test_it_parks_until_an_append(broker: DataBroker) -> None:
    parked = fetch(broker, asked(), asked(1), max_wait_ms=500, min_bytes=1)
    assert isinstance(parked, Parked) and not parked.done
    put(broker, b"x", index=1)
    assert not parked.done  # not inside the append: a wake-up's appends are looked at once
    broker.turn()
    first, second = rows(parked.answer())
    assert values(first) == [] and values(second) == [b"x"]
    assert len(broker.purgatory) == 0


def test_min_bytes_counts_all_partitions(broker: DataBroker) -> None:
    size = len(batch(b"x"))
    parked = fetch(broker, asked(), asked(1), max_wait_ms=500, min_bytes=2 * size)
    put(broker, b"x")
    broker.turn()
    assert not parked.done
    put(broker, b"y", index=1)
    broker.turn()
    assert [values(row) for row in rows(parked.answer())] == [[b"x"], [b"y"]]


def test_max_wait_gives_what_there_is(broker: DataBroker) -> None:
    put(broker, b"x")
    parked = fetch(broker, asked(), max_wait_ms=500, min_bytes=MIB)
    broker.pass_time(499)
    assert not parked.done
    broker.pass_time(1)
    assert values(rows(parked.answer())[0]) == [b"x"]


def test_a_stop_answers_at_once(broker: DataBroker) -> None:
    parked = fetch(broker, asked(), max_wait_ms=500, min_bytes=1)
    broker.purgatory.stop()
    assert rows(parked.answer())[0].error_code == 0


@pytest.mark.parametrize(
    "fields", [{"max_wait_ms": 0, "min_bytes": 1}, {"max_wait_ms": 500, "min_bytes": 0}]
)
def test_nothing_to_wait_for(broker: DataBroker, fields: dict[str, int]) -> None:
    assert rows(fetch(broker, asked(), **fields))[0].high_watermark == 0


def test_no_partitions_do_not_wait(broker: DataBroker) -> None:
    assert rows(fetch(broker, max_wait_ms=500, min_bytes=1)) == []


def test_an_error_does_not_wait(broker: DataBroker) -> None:
    answer = fetch(broker, asked(), asked(9), max_wait_ms=500, min_bytes=1)
    assert [row.error_code for row in rows(answer)] == [0, 3]


def test_deleting_a_topic_wakes(broker: DataBroker) -> None:
    parked = fetch(broker, asked(), max_wait_ms=500, min_bytes=1)
    broker.logs.delete(TOPIC, 0)
    broker.turn()
    assert rows(parked.answer())[0].error_code == errors.UNKNOWN_TOPIC_OR_PARTITION


def test_a_change_of_leader_epoch_wakes(broker: DataBroker) -> None:
    parked = fetch(broker, asked(current_leader_epoch=0), max_wait_ms=500, min_bytes=1)
    broker.logs.get(TOPIC, 0).become_leader(1)  # type: ignore[union-attr]
    broker.turn()
    assert rows(parked.answer())[0].error_code == errors.FENCED_LEADER_EPOCH


def test_the_end_of_a_segment_does_not_wait_for_min_bytes(broker: DataBroker) -> None:
    broker.create("small", segment_bytes=str(MIB))
    partition = broker.logs.get("small", 0)
    assert partition is not None
    for _ in range(3):
        append(partition, batch(b"x" * (MIB // 2)))
    topics = [FetchTopic(topic="small", partitions=[asked(partition_max_bytes=50 * MIB)])]
    answer = broker.call(
        apis.FETCH, 12,
        FetchRequest(topics=topics, max_bytes=50 * MIB, max_wait_ms=500, min_bytes=50 * MIB),
    )  # fmt: skip
    assert not isinstance(answer, Parked)
    assert len(values(rows(answer)[0])) == 1


# How much it reads


def test_the_first_batch_comes_whole_and_the_rest_must_fit(broker: DataBroker) -> None:
    for index in range(3):
        put(broker, b"x" * 1000, index=index)
        put(broker, b"y" * 1000, index=index)
    size = len(batch(b"x" * 1000))
    tiny = fetch(broker, *[asked(n, partition_max_bytes=1) for n in range(3)])
    assert [len(values(row)) for row in rows(tiny)] == [1, 0, 0]
    some = fetch(broker, asked(0), asked(1), asked(2), max_bytes=3 * size + 10)
    assert [len(values(row)) for row in rows(some)] == [2, 1, 0]
    nothing = fetch(broker, asked(0), asked(1), max_bytes=0)
    assert [len(values(row)) for row in rows(nothing)] == [1, 0]
    negative = fetch(broker, asked(0, partition_max_bytes=-5), max_bytes=-5)
    assert [len(values(row)) for row in rows(negative)] == [1]


def test_the_broker_bounds_a_response(tmp_path: Path) -> None:
    broker = DataBroker(tmp_path, {"fetch.max.bytes": "1024"})
    broker.create()
    for _ in range(3):
        put(broker, b"x" * 600)
    assert len(values(rows(fetch(broker, asked()))[0])) == 1
    broker.close()


# Errors


@pytest.mark.parametrize("offset", [-1, 2])
def test_offset_out_of_range(broker: DataBroker, offset: int) -> None:
    put(broker, b"x")
    row = rows(fetch(broker, asked(offset=offset)))[0]
    assert row.error_code == errors.OFFSET_OUT_OF_RANGE
    assert (row.high_watermark, row.last_stable_offset, row.log_start_offset) == (-1, -1, -1)
    assert bytes(row.records) == b""


def test_out_of_range_is_told_though_the_response_is_full(broker: DataBroker) -> None:
    put(broker, b"x" * 1000)
    answer = fetch(broker, asked(), asked(1, offset=50), max_bytes=10)
    assert [row.error_code for row in rows(answer)] == [0, errors.OFFSET_OUT_OF_RANGE]


@pytest.mark.parametrize(("epoch", "code"), [(-1, 0), (1, 74), (2, 0), (3, 75)])
def test_leader_epochs_fence(broker: DataBroker, epoch: int, code: int) -> None:
    broker.logs.get(TOPIC, 0).become_leader(2)  # type: ignore[union-attr]
    assert rows(fetch(broker, asked(current_leader_epoch=epoch)))[0].error_code == code


def test_a_diverging_epoch_replaces_the_records(broker: DataBroker) -> None:
    put(broker, b"a")
    broker.logs.get(TOPIC, 0).become_leader(2)  # type: ignore[union-attr]
    put(broker, b"b")
    agrees = rows(fetch(broker, asked(offset=1, last_fetched_epoch=0)))[0]
    assert values(agrees) == [b"b"] and agrees.diverging_epoch.end_offset == -1
    parted = rows(fetch(broker, asked(offset=2, last_fetched_epoch=1), max_wait_ms=9, min_bytes=1))
    epoch = parted[0].diverging_epoch
    assert (epoch.epoch, epoch.end_offset, values(parted[0])) == (0, 1, [])
    past_end = rows(fetch(broker, asked(offset=2, last_fetched_epoch=0)))[0].diverging_epoch
    assert (past_end.epoch, past_end.end_offset) == (0, 1)
    unknown = rows(fetch(broker, asked(offset=2, last_fetched_epoch=7)))[0]
    assert unknown.error_code == errors.OFFSET_OUT_OF_RANGE


def test_unknown_topic_ids(broker: DataBroker) -> None:
    wanted = [FetchTopic(topic_id=b"?" * 16, partitions=[asked()])]
    answer = broker.call(apis.FETCH, 13, FetchRequest(topics=wanted, max_wait_ms=9, min_bytes=1))
    assert rows(answer)[0].error_code == errors.UNKNOWN_TOPIC_ID


def test_zstd_needs_version_10(broker: DataBroker) -> None:
    put(broker, b"a" * 100, codec="zstd")
    assert rows(fetch(broker, asked(), version=9))[0].error_code == 76
    assert values(rows(fetch(broker, asked(), version=10))[0]) == [b"a" * 100]


@pytest.mark.parametrize(("version", "code"), [(4, 6), (5, 6), (6, 56), (12, 56)])
def test_a_log_that_cannot_be_read(broker: DataBroker, version: int, code: int) -> None:
    put(broker, b"a")
    broker.logs.get(TOPIC, 0).log.close()  # type: ignore[union-attr]
    assert rows(fetch(broker, asked(), version=version))[0].error_code == code


def test_a_damaged_range(broker: DataBroker, caplog: pytest.LogCaptureFixture) -> None:
    for value in (b"a" * 20, b"b" * 20, b"c" * 20):
        put(broker, value)
    put(broker, b"d", index=1)
    damage(broker, 1)
    for _ in range(2):
        answer = fetch(broker, asked(offset=1), asked(1), max_wait_ms=500, min_bytes=MIB)
        first, second = rows(answer)
        assert first.error_code == errors.CORRUPT_MESSAGE
        assert values(second) == [b"d"]
    told = [line.getMessage() for line in caplog.records if "damaged" in line.getMessage()]
    assert len(told) == 1 and "go on at 2" in told[0]
    assert values(rows(fetch(broker, asked(offset=2)))[0]) == [b"c" * 20]


def damage(broker: DataBroker, offset: int) -> None:
    """A flipped bit in a batch of partition 0, which is then opened again."""
    partition = broker.logs.get(TOPIC, 0)
    assert partition is not None and partition.path is not None
    span = partition.log.read(offset, 1)
    assert span is not None
    pos = span.position + 70
    del span
    partition.log.close()
    file = Path(partition.path) / f"{0:020d}.log"
    data = bytearray(file.read_bytes())
    data[pos] ^= 0xFF
    file.write_bytes(data)
    partition.log = kcore.Log.open(str(partition.path))


@pytest.mark.parametrize("version", [4, 12, 15])
def test_a_forged_replica_is_refused(broker: DataBroker, version: int) -> None:
    put(broker, b"a")
    forged = {"replica_state": ReplicaState(replica_id=2)} if version >= 15 else {"replica_id": 2}
    answer = fetch(broker, asked(), version=version, **forged)
    if version < 7:
        assert [row.error_code for row in rows(answer)] == [errors.CLUSTER_AUTHORIZATION_FAILED]
    else:
        assert answer.error_code == errors.CLUSTER_AUTHORIZATION_FAILED
        assert rows(answer) == []


# Isolation


def test_read_committed(broker: DataBroker) -> None:
    partition = broker.logs.get(TOPIC, 0)
    assert partition is not None
    append(partition, sequenced(1, 0, 0, transactional=True), txn_verified=True)
    append(partition, sequenced(2, 0, 0, transactional=True), txn_verified=True)
    partition.append_marker(marker(1, 0, False), now_ms=NOW_MS)
    parked = fetch(broker, asked(), isolation_level=1, max_wait_ms=500, min_bytes=200)
    broker.turn()
    dirty = rows(fetch(broker, asked(), isolation_level=0))[0]
    assert (dirty.high_watermark, dirty.last_stable_offset) == (3, 1)
    assert dirty.aborted_transactions is None
    committed = rows(fetch(broker, asked(), isolation_level=1))[0]
    assert len(values(committed)) == 1
    assert [(t.producer_id, t.first_offset) for t in committed.aborted_transactions] == [(1, 0)]
    assert not parked.done
    partition.append_marker(marker(2, 0, True), now_ms=NOW_MS)
    broker.turn()
    assert parked.done


# Sessions, end to end (their rules: test_fetch_sessions.py)


def session(
    broker: DataBroker, session_id: int, epoch: int, *partitions: FetchPartition, **fields: Any
) -> Any:
    return fetch(broker, *partitions, session_id=session_id, session_epoch=epoch, **fields)


def test_a_session_tells_only_news(broker: DataBroker) -> None:
    full = session(broker, 0, 0, asked(0), asked(1), asked(2))
    assert full.session_id > 0 and len(rows(full)) == 3
    one = full.session_id
    quiet = session(broker, one, 1)
    assert (quiet.session_id, rows(quiet)) == (one, [])
    put(broker, b"x", index=1)
    news = session(broker, one, 2)
    assert [(row.partition_index, values(row)) for row in rows(news)] == [(1, [b"x"])]
    moved = session(broker, one, 3, asked(1, offset=1))
    assert rows(moved) == []
    gone = session(broker, one, 4, forget=(0, 1))
    assert gone.session_id == one
    put(broker, b"y", index=0)
    assert rows(session(broker, one, 5)) == []
    empty = session(broker, one, 6, forget=(2,))
    assert (empty.session_id, empty.error_code) == (0, 0)
    assert session(broker, one, 7).error_code == errors.FETCH_SESSION_ID_NOT_FOUND


def test_a_session_parks_and_wakes(broker: DataBroker) -> None:
    one = session(broker, 0, 0, asked(0), asked(1)).session_id
    parked = session(broker, one, 1, max_wait_ms=500, min_bytes=1)
    put(broker, b"x", index=1)
    broker.turn()
    assert [row.partition_index for row in rows(parked.answer())] == [1]
    timeout = session(broker, one, 2, asked(1, offset=1), max_wait_ms=500, min_bytes=1)
    broker.pass_time(500)
    assert rows(timeout.answer()) == []


def test_who_was_served_comes_last(broker: DataBroker) -> None:
    for index in range(3):
        put(broker, b"x" * 1000, index=index)
    one = session(broker, 0, 0, asked(0), asked(1), asked(2), max_bytes=1).session_id
    order = []
    for epoch in range(1, 4):
        answer = session(broker, one, epoch, max_bytes=1)
        order += [row.partition_index for row in rows(answer) if values(row)]
    assert order == [1, 2, 0]


def test_an_error_is_told_each_time_and_so_is_its_end(broker: DataBroker) -> None:
    one = session(broker, 0, 0, asked(0, offset=5)).session_id
    for epoch in (1, 2):
        told = rows(session(broker, one, epoch))
        assert [row.error_code for row in told] == [errors.OFFSET_OUT_OF_RANGE]
    told = rows(session(broker, one, 3, asked(0, offset=0)))
    assert [(row.error_code, row.high_watermark) for row in told] == [(0, 0)]


def test_a_later_request_of_the_session_ends_the_one_that_waits(broker: DataBroker) -> None:
    """Kafka answers it with the same error, though only once it has waited."""
    one = session(broker, 0, 0, asked(0), asked(1)).session_id
    waits = session(broker, one, 1, max_wait_ms=500, min_bytes=1)
    later = session(broker, one, 2, forget=(0,), max_wait_ms=500, min_bytes=1)
    answer = waits.answer()
    assert (answer.error_code, answer.session_id) == (errors.INVALID_FETCH_SESSION_EPOCH, one)
    put(broker, b"x")
    broker.turn()
    assert not later.done
    put(broker, b"y", index=1)
    broker.turn()
    assert [values(row) for row in rows(later.answer())] == [[b"y"]]


def test_a_session_that_is_closed_while_a_request_waits(broker: DataBroker) -> None:
    one = session(broker, 0, 0, asked(0)).session_id
    waits = session(broker, one, 1, max_wait_ms=500, min_bytes=1)
    session(broker, one, -1)
    put(broker, b"x")
    broker.turn()
    assert [values(row) for row in rows(waits.answer())] == [[b"x"]]
    assert len(broker.purgatory.watchers) == 0


def test_a_lost_connection_leaves_the_session_as_it_was(broker: DataBroker) -> None:
    one = session(broker, 0, 0, asked(0), asked(1)).session_id
    waits = session(broker, one, 1, max_wait_ms=500, min_bytes=1)
    waits.cancel()
    put(broker, b"x", index=1)
    broker.turn()
    assert [row.partition_index for row in rows(session(broker, one, 2))] == [1]
    assert len(broker.purgatory) == 0


def test_isolation_may_change_within_a_session(broker: DataBroker) -> None:
    partition = broker.logs.get(TOPIC, 0)
    assert partition is not None
    one = session(broker, 0, 0, asked(0), isolation_level=1).session_id
    append(partition, sequenced(1, 0, 0, transactional=True), txn_verified=True)
    for epoch in (1, 2):  # the high watermark is news once
        told = rows(session(broker, one, epoch, isolation_level=1))
        assert [(row.high_watermark, values(row)) for row in told] == [(1, [])] * (2 - epoch)
    assert len(values(rows(session(broker, one, 3, isolation_level=0))[0])) == 1
    assert rows(session(broker, one, 4, isolation_level=1)) == []


def test_a_topic_made_again_is_found_again(broker: DataBroker) -> None:
    one = session(broker, 0, 0, asked(0)).session_id
    assert rows(session(broker, one, 1)) == []
    broker.logs.delete(TOPIC, 0)
    gone = rows(session(broker, one, 2))
    assert [row.error_code for row in gone] == [errors.UNKNOWN_TOPIC_OR_PARTITION]
    broker.create()
    put(broker, b"x")
    assert [values(row) for row in rows(session(broker, one, 3))] == [[b"x"]]


def test_without_a_session_nothing_is_left_behind(broker: DataBroker) -> None:
    for outcome in range(3):
        waits = fetch(broker, asked(0), asked(1), max_wait_ms=500, min_bytes=1)
        assert len(broker.purgatory.watchers) == 2
        if outcome == 0:
            broker.pass_time(500)
        elif outcome == 1:
            waits.cancel()
        else:
            put(broker, b"x", index=1)
            broker.turn()
        assert waits.done == (outcome != 1)
        assert len(broker.purgatory.watchers) == 0


def test_counts(broker: DataBroker) -> None:
    put(broker, b"x")
    fetch(broker, asked(0), asked(9))
    counted = broker.metrics.topic(TOPIC)
    assert (counted.fetch_requests, counted.bytes_out) == (1, len(batch(b"x")))
