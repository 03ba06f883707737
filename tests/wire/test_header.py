"""Headers: both request versions, and the exception that ApiVersions makes of the response."""

import pytest
from kbroker.wire import apis
from kbroker.wire.errors import BadRequest
from kbroker.wire.header import encode_request_header, parse_request_header, response_header


def parsed(data, pos=0):
    h = parse_request_header(data, pos)
    return h.api_key, h.api_version, h.correlation_id, h.client_id, h.body_pos


@pytest.mark.parametrize("client_id", [None, "", "rdkafka", "caf\u00e9"])
def test_every_api_and_version_round_trips(client_id):
    for api in apis.APIS.values():
        for version in range(api.first, api.last + 1):
            head = encode_request_header(api.key, version, -5, client_id)
            assert parsed(head + b"body") == (api.key, version, -5, client_id, len(head))


def test_flexible_header_keeps_the_plain_client_id():
    assert encode_request_header(apis.METADATA, 9, 1, "me") == bytes.fromhex(
        "0003 0009 00000001 0002 6d65 00"
    )
    assert encode_request_header(apis.METADATA, 8, 1, "me") == bytes.fromhex(
        "0003 0008 00000001 0002 6d65"
    )


def test_unknown_tags_are_skipped():
    head = bytes.fromhex("0012 0003 00000007 ffff 02 00 01 aa 05 00")
    assert parsed(memoryview(b"xx" + head + b"body"), 2) == (18, 3, 7, None, 2 + len(head))


def test_unknown_api_or_version_still_parses():
    """The dispatcher wants to log who sent it; ApiVersions of the future is answered."""
    assert parsed(bytes.fromhex("03e7 0000 00000007 ffff")) == (999, 0, 7, None, 10)
    assert parsed(bytes.fromhex("ffff ffff 00000007 ffff")) == (-1, -1, 7, None, 10)
    assert parsed(bytes.fromhex("0012 0063 00000007 ffff 00")) == (18, 99, 7, None, 11)


@pytest.mark.parametrize("key, version", [(3, 8), (3, 9), (18, 3)])
def test_every_truncation_is_refused(key, version):
    head = encode_request_header(key, version, 1, "client")
    for size in range(len(head)):
        with pytest.raises(BadRequest):
            parse_request_header(head[:size])


@pytest.mark.parametrize(
    "tail",
    [
        "41",  # 65 tags
        "ffffffff0f",  # 2^32 - 1 tags
        "ffffffffff01",  # a varint of six bytes
        "02 00 00 00 00",  # tag 0 twice
        "02 01 00 00 00",  # descending
        "01 00 05 aa",  # a tag longer than what remains
        "02 00 00",  # the second tag is missing
    ],
)
def test_hostile_tag_sections_are_refused(tail):
    data = bytes.fromhex("0012 0003 00000007 ffff" + tail)
    with pytest.raises(BadRequest, match=r"RequestHeader\.tags"):
        parse_request_header(data)


def test_client_id_must_be_utf8_and_in_the_frame():
    for tail in ("0002 ff00", "7fff 6161", "fffe"):
        with pytest.raises(BadRequest, match=r"RequestHeader\.client_id"):
            parse_request_header(bytes.fromhex("0012 0000 00000007" + tail))


def test_response_header():
    assert response_header(apis.METADATA, 8, 5) == bytes.fromhex("00000005")
    assert response_header(apis.METADATA, 9, 5) == bytes.fromhex("00000005 00")
    assert response_header(apis.API_VERSIONS, 4, -1) == bytes.fromhex("ffffffff")
    assert response_header(apis.SASL_HANDSHAKE, 1, 5) == bytes.fromhex("00000005")
    assert response_header(999, 1, 5) == bytes.fromhex("00000005")
