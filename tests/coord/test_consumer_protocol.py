"""The bytes of protocol type "consumer": goal: Kafka's own are read, garbage is unknown, never an
error and never large.
"""

from __future__ import annotations

import io
from random import Random
from typing import Any

import pytest
from kbroker.coord.group.consumer_protocol import (
    Subscription,
    decode_assignment,
    decode_subscription,
    decode_topics,
    encode_assignment,
    encode_subscription,
)

FULL = Subscription(3, ["a", "\u00e9"], b"user", {"a": [0, 1], "b": []}, 7, "rack")


def test_subscriptions_by_version() -> None:
    expected = {
        0: FULL._replace(version=0, owned={}, generation=-1, rack=None),
        1: FULL._replace(version=1, generation=-1, rack=None),
        2: FULL._replace(version=2, rack=None),
        3: FULL,
    }
    for version, subscription in expected.items():
        data = encode_subscription(FULL._replace(version=version))
        assert decode_subscription(data) == subscription
        assert decode_topics(data) == ["a", "\u00e9"]


def test_a_newer_version_is_read_as_far_as_it_is_known() -> None:
    data = encode_subscription(FULL._replace(version=9)) + b"more"
    assert decode_subscription(data) == FULL._replace(version=9)
    assert decode_topics(data) == FULL.topics


@pytest.mark.parametrize("version", [0, 1, 2, 3])
def test_kafkas_schemas_agree(version: int) -> None:
    """kio's definitions of the consumer protocol are an independent reading of Kafka's."""
    kio = pytest.importorskip("kio.serial")
    module = __import__(
        f"kio.schema.consumer_protocol_subscription.v{version}.data", fromlist=["x"]
    )
    ours = encode_subscription(FULL._replace(version=version))[2:]
    reader = kio.entity_reader(module.ConsumerProtocolSubscription)
    try:
        theirs: Any = reader(io.BytesIO(ours))
    except TypeError:
        theirs, _ = reader(ours, 0)
    assert list(theirs.topics) == FULL.topics and bytes(theirs.user_data) == b"user"


def test_assignments() -> None:
    data = encode_assignment({"a": [0, 2], "b": []}, 1)
    assert data[:2] == b"\0\1" and data[-4:] == b"\xff\xff\xff\xff"
    assert decode_assignment(data) == {"a": [0, 2], "b": []}
    assert encode_assignment({}, 9)[:2] == b"\0\3" and encode_assignment({}, -1)[:2] == b"\0\0"
    assert encode_assignment({}, 0, b"u")[-5:] == b"\0\0\0\1u"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"\xff\xff\0\0\0\0\xff\xff\xff\xff",  # version -1
        b"\0\0\x7f\xff\xff\xff",  # two billion topics
        b"\0\0\xff\xff\xff\xff",  # null topics
        b"\0\0\0\0\0\1\xff\xff\xff\xff\xff\xff",  # a null topic
        b"\0\0\0\0\0\1\0\2\xc3\x28\xff\xff\xff\xff",  # not UTF-8
        b"\0\0\0\0\0\1\0\5ab",
        b"\0\0\0\0\0\0\0\0\0\4ab",
    ],
)  # fmt: skip
def test_garbage_is_unknown(data: bytes) -> None:
    assert decode_subscription(data) is None
    assert decode_topics(data) is None


def test_no_bytes_raise() -> None:
    rng = Random(3)
    sound = [encode_subscription(FULL._replace(version=v)) for v in range(4)]
    sound.append(encode_assignment({"a": [0, 1], "b": [2]}, 0))
    for _ in range(3_000):
        data = bytearray(rng.choice(sound))
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        cut = bytes(data[: rng.randrange(len(data) + 1)])
        for decode in (decode_subscription, decode_topics, decode_assignment):
            decode(cut)
