"""offset_commit: a request, its answer and its records in native code, against the schemas.

The oracles are `message.Codec` over the generated request and answer, and the record structs one by
one: all must read and write the same bytes, and refuse the same damage.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kbroker.wire import apis, messages
from kbroker.wire.errors import BadRequest
from kbroker.wire.schema.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
)

from kcore import check_produced, encode, records
from kcore._native.offset_commit import OffsetCommits, TopicCommits, parse_offset_commit
from kcore._native.offset_record import OffsetCommitKey, OffsetCommitValue
from kcore.errors import LimitExceeded

INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
INT32 = st.integers(-(1 << 31), (1 << 31) - 1)
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
VERSIONS = range(2, 11)
UNKNOWN, LARGE, STOPPED = 3, 12, 25
PARTS = st.lists(
    st.builds(
        OffsetCommitRequestPartition,
        partition_index=st.integers(-1, 5) | INT32,
        committed_offset=INT64,
        committed_leader_epoch=INT32,
        committed_metadata=st.none() | TEXT,
    ),
    max_size=4,
)
REQUESTS = st.builds(
    OffsetCommitRequest,
    group_id=TEXT,
    generation_id_or_member_epoch=INT32,
    member_id=TEXT,
    retention_time_ms=INT64,
    group_instance_id=st.none() | TEXT,
    topics=st.lists(
        st.builds(
            OffsetCommitRequestTopic,
            name=TEXT,
            topic_id=st.binary(min_size=16, max_size=16),
            partitions=PARTS,
        ),
        max_size=3,
    ),
)


def as_sent(request: OffsetCommitRequest, version: int) -> tuple[bytes, OffsetCommitRequest]:
    """What a version says of it, as bytes and as they read."""
    body = messages.encode_request(apis.OFFSET_COMMIT, version, request)
    return body, messages.decode_request(apis.OFFSET_COMMIT, version, body)


def decide(commits: OffsetCommits, partition_count: int = 4, metadata_max: int = 8) -> None:
    for number, topic in enumerate(commits.topics):
        topic.check(f"topic {number}", partition_count, metadata_max, UNKNOWN, LARGE)


def expected_code(part: OffsetCommitRequestPartition) -> int:
    if not 0 <= part.partition_index < 4:
        return UNKNOWN
    return LARGE if len(part.committed_metadata or "") > 8 else 0


@given(REQUESTS, st.sampled_from(VERSIONS), st.binary(max_size=3))
def test_a_request_reads_as_its_schema(
    request: OffsetCommitRequest, version: int, behind: bytes
) -> None:
    body, sent = as_sent(request, version)
    frame = memoryview(bytearray(b"head" + body + behind))
    commits = parse_offset_commit(frame, 4, version)
    assert commits.version == version
    assert commits.group_id == sent.group_id
    assert commits.generation_or_epoch == sent.generation_id_or_member_epoch
    assert commits.member_id == sent.member_id
    assert commits.group_instance_id == sent.group_instance_id
    assert commits.retention_ms == sent.retention_time_ms
    assert [(t.name, t.topic_id, t.count) for t in commits.topics] == [
        (t.name, t.topic_id, len(t.partitions)) for t in sent.topics
    ]
    assert len(commits) == sum(len(topic.partitions) for topic in sent.topics)


@given(REQUESTS, st.sampled_from(VERSIONS), INT32)
def test_an_answer_is_written_as_its_schema(
    request: OffsetCommitRequest, version: int, correlation_id: int
) -> None:
    body, sent = as_sent(request, version)
    commits = parse_offset_commit(body, 0, version)
    decide(commits)
    response = OffsetCommitResponse(
        topics=[
            OffsetCommitResponseTopic(
                name=topic.name,
                topic_id=topic.topic_id,
                partitions=[
                    OffsetCommitResponsePartition(
                        partition_index=part.partition_index, error_code=expected_code(part)
                    )
                    for part in topic.partitions
                ],
            )
            for topic in sent.topics
        ]
    )
    assert commits.encode_answer(correlation_id) == messages.encode_response_frame(
        apis.OFFSET_COMMIT, version, correlation_id, response
    )
    commits.refuse(STOPPED)
    for topic in response.topics:
        for told in topic.partitions:
            told.error_code = STOPPED
    assert commits.encode_answer(0) == messages.encode_response_frame(
        apis.OFFSET_COMMIT, version, 0, response
    )


@given(REQUESTS, st.sampled_from(VERSIONS), st.just(-1) | INT64)
def test_records_and_table_are_those_of_the_structs(
    request: OffsetCommitRequest, version: int, expires_ms: int
) -> None:
    body, sent = as_sent(request, version)
    commits = parse_offset_commit(body, 0, version)
    decide(commits)
    commits.seal(1_700_000_000_123, expires_ms)
    written: list[tuple[OffsetCommitKey, OffsetCommitValue]] = []
    for number, topic in enumerate(sent.topics):
        for part in topic.partitions:
            if expected_code(part):
                continue
            value = OffsetCommitValue(
                offset=part.committed_offset, leader_epoch=part.committed_leader_epoch,
                metadata=part.committed_metadata or "", commit_timestamp=1_700_000_000_123,
                expire_timestamp=expires_ms,
            )  # fmt: skip
            key = OffsetCommitKey(
                group=sent.group_id, topic=f"topic {number}", partition=part.partition_index
            )
            written.append((key, value))
    assert len(commits) == len(written)
    if not written:
        with pytest.raises(ValueError, match="at least one"):
            commits.encode_batch(1 << 20)
        return
    assert commits.encode_batch(1 << 20) == encode(
        [value.encode() for _, value in written],
        keys=[key.encode() for key, _ in written],
        timestamps=1_700_000_000_123,
    )
    first = written[0][0]
    was: dict[Any, Any] = {(first.topic, first.partition): "before", ("other", 1): "kept"}
    table, model, undo = dict(was), dict(was), []
    added = commits.put_into(table, undo)
    told = []
    for key, value in written:
        told += [(key.topic, key.partition), model.get((key.topic, key.partition))]
        model[key.topic, key.partition] = value
    assert table == model and list(table) == list(model)
    assert undo == told
    assert added == len(model) - len(was)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_truncation_is_refused(version: int) -> None:
    body, _ = as_sent(sample(), version)
    for size in range(len(body)):
        with pytest.raises(BadRequest):
            parse_offset_commit(body[:size], 0, version)


@given(st.sampled_from(VERSIONS), st.data())
def test_damage_is_refused_as_by_the_schema(version: int, data: st.DataObject) -> None:
    body, _ = as_sent(sample(), version)
    damaged = bytearray(body)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        sent = messages.decode_request(apis.OFFSET_COMMIT, version, bytes(damaged))
    except BadRequest:
        with pytest.raises(BadRequest):
            parse_offset_commit(damaged, 0, version)
        return
    commits = parse_offset_commit(damaged, 0, version)
    assert (commits.group_id, commits.member_id) == (sent.group_id, sent.member_id)
    assert [topic.count for topic in commits.topics] == [len(t.partitions) for t in sent.topics]


def sample() -> OffsetCommitRequest:
    return OffsetCommitRequest(
        group_id="g", member_id="m", group_instance_id="i",
        topics=[
            OffsetCommitRequestTopic(
                name="t",
                topic_id=b"0123456789abcdef",
                partitions=[
                    OffsetCommitRequestPartition(partition_index=1, committed_metadata="why"),
                    OffsetCommitRequestPartition(partition_index=2, committed_metadata=None),
                ],
            )
        ],
    )  # fmt: skip


def test_counts_are_bounded_by_the_bytes_and_by_the_budget() -> None:
    body, _ = as_sent(sample(), 9)
    topics_at = body.index(b"\x02\x02t")
    lying = body[:topics_at] + b"\xff\xff\xff\x7f" + body[topics_at + 1 :]
    with pytest.raises(BadRequest, match="elements in the bytes that remain"):
        parse_offset_commit(lying, 0, 9)
    parts_at = topics_at + 3
    assert body[parts_at] == 2 + 1
    lying = body[:parts_at] + b"\x04" + body[parts_at + 1 :]
    with pytest.raises(BadRequest, match="at most 2 elements in the bytes that remain"):
        parse_offset_commit(lying, 0, 9)
    empty_topics = (1 << 18) + 1
    count = bytes([0x80 | (empty_topics + 1) & 0x7F, 0x80 | (empty_topics + 1) >> 7 & 0x7F,
                   (empty_topics + 1) >> 14])  # fmt: skip
    with pytest.raises(BadRequest, match="in one message"):
        parse_offset_commit(body[:topics_at] + count + b"\1\1\0" * empty_topics + b"\0", 0, 9)


def test_a_batch_is_bounded_before_it_is_made() -> None:
    """A key repeats the group's name: a frame of 5 MB would be a batch of 8 GB."""
    part = OffsetCommitRequestPartition()
    request = OffsetCommitRequest(
        group_id="g" * 32_767,
        topics=[OffsetCommitRequestTopic(name="t", partitions=[part] * 200_000)],
    )
    commits = parse_offset_commit(as_sent(request, 9)[0], 0, 9)
    decide(commits)
    commits.seal(0, -1)
    with pytest.raises(LimitExceeded):
        commits.encode_batch(1 << 40)
    small = parse_offset_commit(as_sent(sample(), 9)[0], 0, 9)
    decide(small)
    small.seal(0, -1)
    size = len(small.encode_batch(1 << 20))
    assert len(small.encode_batch(size)) == size
    with pytest.raises(LimitExceeded):
        small.encode_batch(size - 1)


def test_a_batch_passes_the_checks_of_an_append() -> None:
    commits = parse_offset_commit(as_sent(sample(), 9)[0], 0, 9)
    decide(commits)
    commits.seal(5, -1)
    batch = commits.encode_batch(1 << 20)
    info = check_produced(batch, max_bytes=len(batch), need_keys=True)
    assert (info.record_count, info.max_timestamp, info.producer_id) == (2, 5, -1)
    assert [r.headers for r in records(batch)] == [[], []]


def test_decisions() -> None:
    commits = parse_offset_commit(as_sent(sample(), 9)[0], 0, 9)
    (topic,) = commits.topics
    with pytest.raises(ValueError, match="seal"):
        commits.encode_batch(1 << 20)
    with pytest.raises(ValueError, match="seal"):
        commits.put_into({}, [])
    with pytest.raises(ValueError, match="neither refused nor checked"):
        commits.seal(0, -1)
    for refuse in (commits.refuse, topic.refuse, lambda code: topic.refuse_at(0, code)):
        with pytest.raises(ValueError, match="error code"):
            refuse(0)
    with pytest.raises(IndexError):
        topic.refuse_at(2, 1)
    with pytest.raises(IndexError):
        topic.refuse_at(-1, 1)
    topic.check("t", 2, 8, UNKNOWN, LARGE)
    assert topic.accepted() == [(0, 1)]
    topic.refuse(STOPPED)
    assert topic.accepted() == [] and len(commits) == 0
    response = OffsetCommitResponse(
        topics=[
            OffsetCommitResponseTopic(
                name="t",
                partitions=[
                    OffsetCommitResponsePartition(partition_index=1, error_code=STOPPED),
                    OffsetCommitResponsePartition(partition_index=2, error_code=UNKNOWN),
                ],
            )
        ]
    )
    assert commits.encode_answer(1) == messages.encode_response_frame(8, 9, 1, response)


@pytest.mark.parametrize("version", [-1, 0, 1, 11, 1 << 20])
def test_versions_that_are_not_ours(version: int) -> None:
    with pytest.raises(ValueError, match="no version"):
        parse_offset_commit(b"", 0, version)


def test_they_come_from_bytes_alone() -> None:
    for cls in (OffsetCommits, TopicCommits):
        with pytest.raises(TypeError):
            cls()


def test_nothing_leaks() -> None:
    metadata = "of one's own " * 10
    request = sample()
    request.topics[0].partitions[0].committed_metadata = metadata
    body, _ = as_sent(request, 9)
    table: dict[Any, Any] = {}
    truncated = body[:-4]

    def work() -> None:
        commits = parse_offset_commit(body, 0, 9)
        decide(commits, metadata_max=1_000)
        commits.seal(0, -1)
        commits.put_into(table, [])
        commits.encode_batch(1 << 20)
        commits.encode_answer(0)
        with contextlib.suppress(BadRequest):
            parse_offset_commit(truncated, 0, 9)

    for _ in range(10):
        work()
    before = sys.getallocatedblocks()
    for _ in range(1_000):
        work()
    assert sys.getallocatedblocks() - before < 100
    value = table["topic 0", 1]
    assert value.metadata == metadata
    assert sys.getrefcount(value.metadata) == 2 + 1
