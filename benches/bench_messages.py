"""Message codecs against kio's, on the same bytes in the same run.

Both sides get a body and make a message object, or the reverse; kio's reader is native (Rust), its
writer Python. Produce and Fetch use our hot codecs, which hand out spans where kio copies records.
"""

from __future__ import annotations

import io
from typing import Any

import pytest
from kbroker.wire import apis, messages
from kbroker.wire.header import encode_request_header, parse_request_header
from kbroker.wire.schema import fetch, list_offsets, metadata, produce
from kio.index import load_request_schema, load_response_schema
from kio.serial import entity_reader, entity_writer

from kcore._native.fetch_codec import FetchResult, build_fetch, parse_fetch
from kcore._native.produce_codec import ProduceResult, build_produce, parse_produce

TOPIC_ID = bytes(range(16))
RECORDS = bytes(16 * 1024)

METADATA_REQUEST = metadata.MetadataRequest(
    topics=[metadata.MetadataRequestTopic(name=f"topic-{i}") for i in range(3)]
)
METADATA_RESPONSE = metadata.MetadataResponse(
    cluster_id="MkU3OEVBNTcwNTJENDM2Qg",
    controller_id=1,
    brokers=[
        metadata.MetadataResponseBroker(node_id=i, host=f"broker-{i}", port=9092) for i in range(3)
    ],
    topics=[
        metadata.MetadataResponseTopic(
            name=f"topic-{t}",
            topic_id=TOPIC_ID,
            partitions=[
                metadata.MetadataResponsePartition(
                    partition_index=p, replica_nodes=[0, 1, 2], isr_nodes=[0, 1, 2]
                )
                for p in range(6)
            ],
        )
        for t in range(3)
    ],
)
LIST_OFFSETS_REQUEST = list_offsets.ListOffsetsRequest(
    topics=[
        list_offsets.ListOffsetsTopic(
            name="orders",
            partitions=[
                list_offsets.ListOffsetsPartition(partition_index=i, timestamp=-1) for i in range(6)
            ],
        )
    ]
)
LIST_OFFSETS_RESPONSE = list_offsets.ListOffsetsResponse(
    topics=[
        list_offsets.ListOffsetsTopicResponse(
            name="orders",
            partitions=[
                list_offsets.ListOffsetsPartitionResponse(partition_index=i, offset=i * 1000)
                for i in range(6)
            ],
        )
    ]
)
MESSAGES = [
    pytest.param("Metadata", apis.METADATA, 12, METADATA_REQUEST, "request", id="metadata-request"),
    pytest.param(
        "Metadata", apis.METADATA, 12, METADATA_RESPONSE, "response", id="metadata-response"
    ),
    pytest.param(
        "ListOffsets", apis.LIST_OFFSETS, 7, LIST_OFFSETS_REQUEST, "request", id="offsets-request"
    ),
    pytest.param(
        "ListOffsets",
        apis.LIST_OFFSETS,
        7,
        LIST_OFFSETS_RESPONSE,
        "response",
        id="offsets-response",
    ),
]


def kio_class(key: int, version: int, direction: str) -> Any:
    load = load_request_schema if direction == "request" else load_response_schema
    return load(key, version)


def kio_encoder(cls: Any) -> Any:
    write = entity_writer(cls)

    def encode(entity: Any) -> bytes:
        out = io.BytesIO()
        write(out, entity)
        return out.getvalue()

    return encode


def our_codecs(direction: str) -> tuple[Any, Any]:
    if direction == "request":
        return messages.decode_request, messages.encode_request
    return messages.decode_response, messages.encode_response


@pytest.mark.parametrize("side", ["ours", "kio"])
@pytest.mark.parametrize("name, key, version, message, direction", MESSAGES)
def test_decode(
    benchmark: Any,
    row: Any,
    name: str,
    key: int,
    version: int,
    message: Any,
    direction: str,
    side: str,
) -> None:
    row(f"decode {name} v{version} {direction}", side)
    decode, encode = our_codecs(direction)
    data = encode(key, version, message)
    if side == "ours":
        benchmark(decode, key, version, data)
    else:
        benchmark(entity_reader(kio_class(key, version, direction)), data, 0)


@pytest.mark.parametrize("side", ["ours", "kio"])
@pytest.mark.parametrize("name, key, version, message, direction", MESSAGES)
def test_encode(
    benchmark: Any,
    row: Any,
    name: str,
    key: int,
    version: int,
    message: Any,
    direction: str,
    side: str,
) -> None:
    row(f"encode {name} v{version} {direction}", side)
    _, encode = our_codecs(direction)
    if side == "ours":
        benchmark(encode, key, version, message)
    else:
        cls = kio_class(key, version, direction)
        entity, _ = entity_reader(cls)(encode(key, version, message), 0)
        benchmark(kio_encoder(cls), entity)


PRODUCE_REQUEST = produce.ProduceRequest(
    acks=-1,
    timeout_ms=30_000,
    topic_data=[
        produce.TopicProduceData(
            name="orders",
            partition_data=[
                produce.PartitionProduceData(index=i, records=RECORDS) for i in range(4)
            ],
        )
    ],
)
FETCH_REQUEST = fetch.FetchRequest(
    max_wait_ms=500,
    min_bytes=1,
    topics=[
        fetch.FetchTopic(
            topic="orders",
            topic_id=TOPIC_ID,
            partitions=[
                fetch.FetchPartition(partition=i, fetch_offset=i, partition_max_bytes=1 << 20)
                for i in range(4)
            ],
        )
    ],
)


@pytest.mark.parametrize("side", ["ours", "kio"])
def test_produce_request(benchmark: Any, row: Any, side: str) -> None:
    row("parse Produce v9, 4 partitions of 16 KiB", side)
    data = messages.encode_request(apis.PRODUCE, 9, PRODUCE_REQUEST)
    if side == "ours":
        benchmark(parse_produce, memoryview(bytearray(data)), 0, 9)
    else:
        benchmark(entity_reader(kio_class(apis.PRODUCE, 9, "request")), data, 0)


@pytest.mark.parametrize("side", ["ours", "kio"])
def test_produce_response(benchmark: Any, row: Any, side: str) -> None:
    row("build Produce v9 response, 4 partitions", side)

    def ours() -> bytes:
        results = [ProduceResult(i, 0, 1000, -1, 0) for i in range(4)]
        return build_produce(9, 1, 0, [("orders", results)])

    if side == "ours":
        benchmark(ours)
    else:
        cls = kio_class(apis.PRODUCE, 9, "response")
        entity, _ = entity_reader(cls)(ours()[9:], 0)
        benchmark(kio_encoder(cls), entity)


@pytest.mark.parametrize("side", ["ours", "kio"])
def test_fetch_request(benchmark: Any, row: Any, side: str) -> None:
    row("parse Fetch v16, 4 partitions", side)
    data = messages.encode_request(apis.FETCH, 16, FETCH_REQUEST)
    if side == "ours":
        benchmark(parse_fetch, data, 0, 16)
    else:
        benchmark(entity_reader(kio_class(apis.FETCH, 16, "request")), data, 0)


@pytest.mark.parametrize("side", ["ours", "kio"])
def test_fetch_response(benchmark: Any, row: Any, side: str) -> None:
    row("build Fetch v16 response, 4 partitions of 16 KiB", side)

    def ours() -> list[Any]:
        results = [FetchResult(i, 0, 1000, 1000, 0, None, -1, RECORDS) for i in range(4)]
        return build_fetch(16, 1, 0, 0, 0, [(TOPIC_ID, results)])

    if side == "ours":
        benchmark(ours)
    else:
        cls = kio_class(apis.FETCH, 16, "response")
        entity, _ = entity_reader(cls)(b"".join(ours())[9:], 0)
        benchmark(kio_encoder(cls), entity)


def test_request_header(benchmark: Any, row: Any) -> None:
    row("parse a request header v2", "ours")
    data = memoryview(bytearray(encode_request_header(apis.METADATA, 12, 7, "rdkafka")))
    benchmark(parse_request_header, data)
