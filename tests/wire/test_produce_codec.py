"""The Produce codec against the schema codec, whose own oracle is kio: every version, both ways."""

import pytest
from kbroker.wire import messages
from kbroker.wire.apis import PRODUCE
from kbroker.wire.errors import BadRequest
from kbroker.wire.schema.produce import (
    BatchIndexAndErrorMessage,
    LeaderIdAndEpoch,
    NodeEndpoint,
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
    TopicProduceResponse,
)

from kcore._native.produce_codec import ProduceResult, build_produce, parse_produce

VERSIONS = range(3, 14)
TOPIC_ID = bytes(range(16))


def topic_of(version):
    return TOPIC_ID if version >= 13 else "orders"


def request_body(version, *, records=b"batch bytes", transactional_id="txn"):
    return messages.encode_request(
        PRODUCE,
        version,
        ProduceRequest(
            transactional_id=transactional_id,
            acks=-1,
            timeout_ms=30_000,
            topic_data=[
                TopicProduceData(
                    name="orders",
                    topic_id=TOPIC_ID,
                    partition_data=[
                        PartitionProduceData(index=3, records=records),
                        PartitionProduceData(index=-1, records=None),
                        PartitionProduceData(index=4, records=b""),
                    ],
                )
            ],
        ),
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_request_fields(version):
    frame = memoryview(bytearray(b"head" + request_body(version)))
    request = parse_produce(frame, 4, version)
    topic = topic_of(version)
    assert (request.transactional_id, request.acks, request.timeout_ms) == ("txn", -1, 30_000)
    assert [(t, i, None if span is None else bytes(span)) for t, i, span in request.partitions] == [
        (topic, 3, b"batch bytes"),
        (topic, -1, None),
        (topic, 4, b""),
    ]


def test_null_transactional_id():
    assert parse_produce(request_body(9, transactional_id=None), 0, 9).transactional_id is None


def test_spans_are_writable_slices_of_the_frame():
    frame = bytearray(request_body(9))
    request = parse_produce(memoryview(frame), 0, 9)
    request.partitions[0][2][:5] = b"BATCH"
    assert b"BATCH bytes" in frame


def test_spans_of_a_read_only_frame_are_read_only():
    assert parse_produce(request_body(9), 0, 9).partitions[0][2].readonly


@pytest.mark.parametrize("version", VERSIONS)
def test_response_equals_the_schema_codec(version):
    topic = topic_of(version)
    results = [
        ProduceResult(3, 6, 7, 8, 9, [(1, "bad key"), (2, None)], "refused", (5, 11)),
        ProduceResult(4, 0, 2**62, -1, 0),
    ]
    frame = build_produce(version, -9, 17, [(topic, results)], [(5, "host", 9092, None)])
    leader = LeaderIdAndEpoch(leader_id=5, leader_epoch=11)
    endpoint = NodeEndpoint(node_id=5, host="host", port=9092, rack=None)
    response = ProduceResponse(
        responses=[
            TopicProduceResponse(
                name="orders",
                topic_id=TOPIC_ID,
                partition_responses=[
                    PartitionProduceResponse(
                        index=3,
                        error_code=6,
                        base_offset=7,
                        log_append_time_ms=8,
                        log_start_offset=9,
                        record_errors=[
                            BatchIndexAndErrorMessage(
                                batch_index=1, batch_index_error_message="bad key"
                            ),
                            BatchIndexAndErrorMessage(batch_index=2),
                        ],
                        error_message="refused",
                        current_leader=leader if version >= 10 else LeaderIdAndEpoch(),
                    ),
                    PartitionProduceResponse(index=4, base_offset=2**62, log_start_offset=0),
                ],
            )
        ],
        throttle_time_ms=17,
        node_endpoints=[endpoint] if version >= 10 else [],
    )
    assert frame == messages.encode_response_frame(PRODUCE, version, -9, response)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_truncation_is_refused(version):
    body = request_body(version)
    for size in range(len(body)):
        with pytest.raises(BadRequest):
            parse_produce(body[:size], 0, version)


@pytest.mark.parametrize("version", [3, 8, 9, 13])
def test_bytes_after_the_request_are_ignored(version):
    assert len(parse_produce(request_body(version) + b"\0\1\2", 0, version).partitions) == 3


@pytest.mark.parametrize("version", [-1, 0, 2, 14, 2**31 - 1])
def test_unknown_versions_are_refused(version):
    with pytest.raises(ValueError, match="Produce version"):
        parse_produce(request_body(9), 0, version)
    with pytest.raises(ValueError, match="Produce version"):
        build_produce(version, 1, 0, [])


@pytest.mark.parametrize("pos", [-1, 10_000])
def test_position_outside_of_the_frame(pos):
    with pytest.raises(BadRequest):
        parse_produce(request_body(9), pos, 9)


@pytest.mark.parametrize("version", [3, 9])
def test_lying_sizes(version):
    """The records claim one byte more than the frame has, up to all that the field can say."""
    body = request_body(version, records=b"RRRR")
    at = body.index(b"RRRR")
    for claim in (2**31 - 1, len(body) - at + 1, -2):
        if version < 9:
            bad = body[: at - 4] + claim.to_bytes(4, "big", signed=True) + body[at:]
        else:
            bad = body[: at - 1] + varint(claim + 1) + body[at:]
        with pytest.raises(BadRequest, match=r"PartitionProduceData\.records"):
            parse_produce(bad, 0, version)


def varint(value):
    value &= 2**32 - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


@pytest.mark.parametrize(
    "result", [ProduceResult(1, record_errors=[(2**31, None)]), ProduceResult(1, error_message=7)]
)
def test_values_that_do_not_fit_are_refused(result):
    with pytest.raises((ValueError, OverflowError)):
        build_produce(9, 1, 0, [("t", [result])])


def test_topic_id_must_be_sixteen_bytes():
    for topic in (b"short", "name"):
        with pytest.raises(ValueError, match="16 bytes"):
            build_produce(13, 1, 0, [(topic, [])])
