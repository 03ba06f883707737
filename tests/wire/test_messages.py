"""Every API, direction and version: the schema codec against kio, byte for byte and both ways."""

from __future__ import annotations

import contextlib
import gc
import random
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kbroker.wire import apis, messages
from kbroker.wire.errors import BadRequest, UnsupportedApi
from kbroker.wire.schema.api_versions import (
    ApiVersion,
    ApiVersionsResponse,
    FinalizedFeatureKey,
    SupportedFeatureKey,
)
from kbroker.wire.schema.list_offsets import ListOffsetsRequest, ListOffsetsTopic
from kbroker.wire.schema.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse

from kcore._native.message import Codec
from kcore._native.wirebuf import WireError
from tests.wire import oracle, reference

DECODE = {"request": messages.decode_request, "response": messages.decode_response}
ENCODE = {"request": messages.encode_request, "response": messages.encode_response}
CASES = [
    pytest.param(api, direction, id=f"{api.module}-{direction}")
    for api in apis.APIS.values()
    for direction in DECODE
]


def versions(api: apis.Api) -> range:
    return range(api.first, api.last + 1)


@pytest.mark.parametrize("api, direction", CASES)
@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32 - 1))
def test_parity_with_kio(api: apis.Api, direction: str, seed: int) -> None:
    for version in versions(api):
        cls = oracle.schema(api.key, version, direction)
        theirs = oracle.random_entity(cls, random.Random(seed))
        data = oracle.encode(theirs)
        ours = DECODE[direction](api.key, version, data)
        oracle.assert_equal(ours, theirs, f"{cls.__name__} v{version}")
        assert ENCODE[direction](api.key, version, ours) == data
        assert DECODE[direction](api.key, version, b"head" + data, 4) == ours
        if direction == "response":
            with pytest.raises(BadRequest):
                DECODE[direction](api.key, version, data + b"\0")


def test_bytes_after_a_request_are_let_be() -> None:
    """What librdkafka 2.16 sends for "all topics": four bytes for an array that takes one."""
    sent = bytes.fromhex("00000000010000")
    request = messages.decode_request(apis.METADATA, 13, sent)
    assert request.topics is None
    assert not request.include_topic_authorized_operations


@pytest.mark.parametrize("api, direction", CASES)
def test_defaults_round_trip(api: apis.Api, direction: str) -> None:
    """A message built with no arguments is legal in each version and decodes to itself."""
    cls = messages.request_class if direction == "request" else messages.response_class
    for version in versions(api):
        message = cls(api.key)()
        data = ENCODE[direction](api.key, version, message)
        again = DECODE[direction](api.key, version, data)
        assert again == message
        kio_class = oracle.schema(api.key, version, direction)
        oracle.assert_equal(again, oracle.decode(kio_class, data), kio_class.__name__)


@pytest.mark.parametrize("api, direction", CASES)
def test_every_truncation_is_refused(api: apis.Api, direction: str) -> None:
    for version in versions(api):
        cls = oracle.schema(api.key, version, direction)
        data = oracle.encode(oracle.random_entity(cls, random.Random(version)))[:600]
        whole = None
        for size in range(len(data)):
            try:
                whole = DECODE[direction](api.key, version, memoryview(data)[:size])
            except BadRequest:
                continue
            pytest.fail(f"v{version}: {size} of {len(data)} bytes decode to {whole!r}")


def test_golden_metadata_request() -> None:
    request = MetadataRequest(
        topics=[MetadataRequestTopic(name="t")], allow_auto_topic_creation=False
    )
    assert messages.encode_request(apis.METADATA, 4, request) == bytes.fromhex(
        "00000001 0001 74 00"
    )
    assert messages.encode_request(apis.METADATA, 12, request) == bytes.fromhex(
        "02 00000000000000000000000000000000 02 74 00 00 00 00"
    )
    assert messages.encode_request(apis.METADATA, 1, MetadataRequest(topics=None)) == bytes.fromhex(
        "ffffffff"
    )


def test_golden_api_versions_response() -> None:
    """v0 is what a client of an unknown version gets; features are tagged fields from v3."""
    response = ApiVersionsResponse(
        error_code=35,
        api_keys=[ApiVersion(api_key=18, min_version=0, max_version=4)],
        supported_features=[SupportedFeatureKey(name="f", min_version=0, max_version=1)],
        finalized_features_epoch=-1,
        finalized_features=[
            FinalizedFeatureKey(name="f", max_version_level=1, min_version_level=1)
        ],
    )
    assert messages.encode_response_frame(apis.API_VERSIONS, 0, 9, response) == bytes.fromhex(
        "00000010 00000009 0023 00000001 0012 0000 0004"
    )
    assert messages.encode_response_frame(apis.API_VERSIONS, 3, 9, response) == bytes.fromhex(
        "00000027 00000009 0023 02 0012 0000 0004 00 00000000"
        " 02 00 08 02 02 66 0000 0001 00 02 08 02 02 66 0001 0001 00"
    )


def test_frame_has_the_flexible_header_except_for_api_versions() -> None:
    response = MetadataResponse()
    body = messages.encode_response(apis.METADATA, 9, response)
    frame = messages.encode_response_frame(apis.METADATA, 9, -2, response)
    assert frame == (len(body) + 5).to_bytes(4, "big") + b"\xff\xff\xff\xfe\0" + body
    body = messages.encode_response(apis.METADATA, 8, response)
    frame = messages.encode_response_frame(apis.METADATA, 8, 2, response)
    assert frame == (len(body) + 4).to_bytes(4, "big") + b"\0\0\0\x02" + body


def test_error_names_field_position_expected_and_found() -> None:
    data = bytes.fromhex("00000001 7fff 74 00")
    with pytest.raises(BadRequest) as caught:
        messages.decode_request(apis.METADATA, 4, data)
    error = caught.value
    assert type(error) is WireError
    assert (error.field, error.pos) == ("MetadataRequestTopic.name", 4)
    assert (error.expected, error.found) == ("at most the 2 bytes that remain", 32767)
    assert str(error) == (
        "MetadataRequestTopic.name at byte 4: expected at most the 2 bytes that remain, found 32767"
    )


def test_strings_must_be_utf8() -> None:
    with pytest.raises(BadRequest, match="expected UTF-8"):
        messages.decode_request(apis.METADATA, 0, bytes.fromhex("00000001 0002 c3 28"))


def test_null_where_the_version_has_none() -> None:
    assert messages.decode_request(apis.METADATA, 1, bytes.fromhex("ffffffff")).topics is None
    with pytest.raises(BadRequest, match=r"MetadataRequest\.topics at byte 0"):
        messages.decode_request(apis.METADATA, 0, bytes.fromhex("ffffffff"))
    with pytest.raises(ValueError, match="not null"):
        messages.encode_request(apis.METADATA, 0, MetadataRequest(topics=None))


@pytest.mark.parametrize("key, version", [(3, 14), (3, -1), (4, 0), (999, 0), (0, 2)])
def test_unknown_api_or_version(key: int, version: int) -> None:
    for call in (messages.decode_request, messages.decode_response):
        with pytest.raises(UnsupportedApi):
            call(key, version, b"")


@pytest.mark.parametrize(
    "request_",
    [
        MetadataRequest(topics=[MetadataRequestTopic(name="x" * 32768)]),
        MetadataRequest(topics=[MetadataRequestTopic(name=5)]),  # type: ignore[arg-type]
        MetadataRequest(topics=[MetadataRequestTopic(topic_id=b"short")]),
        MetadataRequest(topics=["t"]),  # type: ignore[list-item]
        MetadataRequest(topics=7),  # type: ignore[arg-type]
        MetadataRequest(topics=[MetadataRequestTopic(name="\ud800")]),
        MetadataResponse(),
    ],
)
def test_values_that_do_not_fit_are_refused(request_: MetadataRequest) -> None:
    with pytest.raises(ValueError):
        messages.encode_request(apis.METADATA, 12, request_)


@pytest.mark.parametrize("value", [2**31, -(2**31) - 1, 2**70, "1", None, 1.0])
def test_integers_must_fit(value: object) -> None:
    request = ListOffsetsRequest(replica_id=value)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"ListOffsetsRequest\.replica_id"):
        messages.encode_request(apis.LIST_OFFSETS, 7, request)


def test_a_deleted_attribute_is_an_error_not_a_crash() -> None:
    topic = ListOffsetsTopic(name="t")
    del topic.name
    with pytest.raises(ValueError, match="deleted attribute"):
        messages.encode_request(apis.LIST_OFFSETS, 7, ListOffsetsRequest(topics=[topic]))


def test_codec_refuses_what_is_no_schema() -> None:
    class NotSlots:
        FIELDS = (("a", "int32", (0, 0), None, None, 0),)
        VERSIONS = (0, 0)
        FLEXIBLE_FROM = -1
        a = 1

    with pytest.raises(TypeError, match="not a slot"):
        Codec(NotSlots, 0)
    with pytest.raises(ValueError, match="a version in 0"):
        Codec(NotSlots, 1)


def test_messages_have_value_equality_and_own_lists() -> None:
    one, two = MetadataRequest(), MetadataRequest()
    assert one == two and one.topics is not two.topics
    assert one.topics is not None
    one.topics.append(MetadataRequestTopic(name="t"))
    assert one != two
    assert repr(two) == (
        "MetadataRequest(topics=[], allow_auto_topic_creation=True,"
        " include_cluster_authorized_operations=False,"
        " include_topic_authorized_operations=False)"
    )
    with pytest.raises(TypeError):
        hash(one)


def test_nothing_leaks() -> None:
    """Round trips and refusals of every message leave no object behind: slots are set by hand."""
    work = [
        (DECODE[direction], ENCODE[direction], api, bytes(data))
        for api in apis.APIS.values()
        for direction, cls in (
            ("request", messages.request_class),
            ("response", messages.response_class),
        )
        for data in [reference.encode(reference.filled(cls(api.key)), api.last).data]
    ]

    def once() -> None:
        for decode, encode, api, data in work:
            assert encode(api.key, api.last, decode(api.key, api.last, data)) is not None
            for size in range(len(data) // 2, len(data), 9):
                with contextlib.suppress(BadRequest):
                    decode(api.key, api.last, data[:size])

    once()
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(3):
        once()
    gc.collect()
    assert sys.getallocatedblocks() - before < 200
