"""The Fetch codec against the schema codec, whose own oracle is kio: every version, both ways."""

import pytest
from kbroker.wire import messages
from kbroker.wire.apis import FETCH
from kbroker.wire.errors import BadRequest
from kbroker.wire.schema import fetch as schema

from kcore._native.fetch_codec import FetchResult, build_fetch, parse_fetch

VERSIONS = range(4, 19)
TOPIC_ID = bytes(range(16))
DIRECTORY_ID = bytes(range(16, 32))


def topic_of(version):
    return TOPIC_ID if version >= 13 else "orders"


def full_request():
    return schema.FetchRequest(
        cluster_id="cluster",
        replica_id=4,
        replica_state=schema.ReplicaState(replica_id=4, replica_epoch=2**40),
        max_wait_ms=500,
        min_bytes=1,
        max_bytes=50 << 20,
        isolation_level=1,
        session_id=77,
        session_epoch=12,
        topics=[
            schema.FetchTopic(
                topic="orders",
                topic_id=TOPIC_ID,
                partitions=[
                    schema.FetchPartition(
                        partition=1,
                        current_leader_epoch=2,
                        fetch_offset=2**33,
                        last_fetched_epoch=4,
                        log_start_offset=5,
                        partition_max_bytes=1 << 20,
                        replica_directory_id=DIRECTORY_ID,
                        high_watermark=2**34,
                    ),
                    schema.FetchPartition(partition=2, partition_max_bytes=7),
                ],
            )
        ],
        forgotten_topics_data=[
            schema.ForgottenTopic(topic="orders", topic_id=TOPIC_ID, partitions=[8, 9])
        ],
        rack_id="rack-1",
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_request_fields(version):
    body = messages.encode_request(FETCH, version, full_request())
    request = parse_fetch(b"head" + body, 4, version)
    topic = topic_of(version)
    assert request.replica_id == 4
    assert request.replica_epoch == (2**40 if version >= 15 else -1)
    assert request.cluster_id == ("cluster" if version >= 12 else None)
    assert (request.max_wait_ms, request.min_bytes, request.max_bytes) == (500, 1, 50 << 20)
    assert request.isolation_level == 1
    session = (request.session_id, request.session_epoch)
    assert session == ((77, 12) if version >= 7 else (0, -1))
    assert request.forgotten == ([(topic, [8, 9])] if version >= 7 else [])
    assert request.rack_id == ("rack-1" if version >= 11 else "")
    ((name, (first, second)),) = request.topics
    assert name == topic
    assert (first.index, first.fetch_offset, first.max_bytes) == (1, 2**33, 1 << 20)
    assert first.current_leader_epoch == (2 if version >= 9 else -1)
    assert first.last_fetched_epoch == (4 if version >= 12 else -1)
    assert first.log_start_offset == (5 if version >= 5 else -1)
    assert first.replica_directory_id == (DIRECTORY_ID if version >= 17 else bytes(16))
    assert first.high_watermark == (2**34 if version >= 18 else 2**63 - 1)
    assert (second.index, second.max_bytes, second.high_watermark) == (2, 7, 2**63 - 1)


@pytest.mark.parametrize("version", VERSIONS)
def test_consumer_request_has_kafka_defaults(version):
    request = parse_fetch(
        messages.encode_request(FETCH, version, schema.FetchRequest()), 0, version
    )
    assert (request.replica_id, request.replica_epoch, request.cluster_id) == (-1, -1, None)
    assert (request.topics, request.forgotten, request.rack_id) == ([], [], "")


@pytest.mark.parametrize("version", VERSIONS)
def test_response_equals_the_schema_codec(version):
    records = bytearray(b"record batches")
    results = [
        FetchResult(3, 6, 7, 8, 9, [(1, 2), (3, 4)], 4, records, (5, 6), (7, 8), (9, 10)),
        FetchResult(4, 0, 1, 1, 0, [], -1, None),
        FetchResult(5, 3),
        FetchResult(6, 0, 1, 1, 0, None, -1, memoryview(b"more")),
    ]
    pieces = build_fetch(
        version, 21, 22, 23, 24, [(topic_of(version), results)], [(7, "host", 9092, "r")]
    )
    frame = b"".join(pieces)
    assert int.from_bytes(frame[:4], "big") == len(frame) - 4
    assert pieces[1] is records, "the span is passed on, not copied"
    flexible = version >= 12
    first = schema.PartitionData(
        partition_index=3,
        error_code=6,
        high_watermark=7,
        last_stable_offset=8,
        log_start_offset=9,
        aborted_transactions=[
            schema.AbortedTransaction(producer_id=1, first_offset=2),
            schema.AbortedTransaction(producer_id=3, first_offset=4),
        ],
        preferred_read_replica=4,
        records=bytes(records),
    )
    if flexible:
        first.diverging_epoch = schema.EpochEndOffset(epoch=5, end_offset=6)
        first.current_leader = schema.LeaderIdAndEpoch(leader_id=7, leader_epoch=8)
        first.snapshot_id = schema.SnapshotId(end_offset=9, epoch=10)
    plain = {"high_watermark": 1, "last_stable_offset": 1, "log_start_offset": 0}
    partitions = [
        first,
        schema.PartitionData(partition_index=4, aborted_transactions=[], records=b"", **plain),
        schema.PartitionData(
            partition_index=5,
            error_code=3,
            high_watermark=-1,
            aborted_transactions=None,
            records=b"",
        ),
        schema.PartitionData(
            partition_index=6, aborted_transactions=None, records=b"more", **plain
        ),
    ]
    endpoint = schema.NodeEndpoint(node_id=7, host="host", port=9092, rack="r")
    response = schema.FetchResponse(
        throttle_time_ms=22,
        error_code=23,
        session_id=24,
        responses=[
            schema.FetchableTopicResponse(topic="orders", topic_id=TOPIC_ID, partitions=partitions)
        ],
        node_endpoints=[endpoint] if version >= 16 else [],
    )
    assert frame == messages.encode_response_frame(FETCH, version, 21, response)


def test_no_records_is_never_null():
    """Null records break several clients: an empty answer has length 0 (compact: 1)."""
    for version in VERSIONS:
        (frame,) = build_fetch(version, 1, 0, 0, 0, [(topic_of(version), [FetchResult(0)])])
        start = 9 if version >= 12 else 8
        response = messages.decode_response(FETCH, version, frame, start)
        assert response.responses[0].partitions[0].records == b""


def test_pieces_alternate_and_empty_response_is_one_piece():
    results = [FetchResult(i, records=b"x" * i) for i in range(4)]
    pieces = build_fetch(11, 1, 0, 0, 0, [("a", results), ("b", results)])
    assert pieces[1::2] == [b"x", b"xx", b"xxx"] * 2
    assert len(build_fetch(11, 1, 0, 0, 0, [])) == 1


def test_span_length_is_in_bytes():
    span = memoryview(bytearray(16)).cast("q")  # two elements, sixteen bytes
    frame = b"".join(build_fetch(12, 1, 0, 0, 0, [("t", [FetchResult(0, records=span)])]))
    response = messages.decode_response(FETCH, 12, frame, 9)
    assert response.responses[0].partitions[0].records == bytes(16)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_truncation_is_refused(version):
    body = messages.encode_request(FETCH, version, full_request())
    for size in range(len(body)):
        with pytest.raises(BadRequest):
            parse_fetch(body[:size], 0, version)
    assert parse_fetch(body + b"\0\1\2", 0, version).session_id in (0, 77)


@pytest.mark.parametrize("version", [-1, 0, 3, 19])
def test_unknown_versions_are_refused(version):
    with pytest.raises(ValueError, match="Fetch version"):
        parse_fetch(b"", 0, version)
    with pytest.raises(ValueError, match="Fetch version"):
        build_fetch(version, 1, 0, 0, 0, [])


def test_tagged_fields_must_have_their_size():
    """A tag that claims more or fewer bytes than its type has is refused, not read past."""
    body = messages.encode_request(FETCH, 18, full_request())
    uuid_tag, state_tag = body.index(DIRECTORY_ID) - 1, body.rindex(b"\x01\x0d") + 1
    assert body[uuid_tag] == 16
    for at in (uuid_tag, state_tag):
        for change in (-1, 1):
            bad = bytearray(body)
            bad[at] += change
            with pytest.raises(BadRequest):
                parse_fetch(bad, 0, 18)
