"""Apache Kafka's own classes decode what we encode, and encode it back to the same bytes.

kio and our schemas come from one source; this is the other end of the wire. Every API, version and
direction: the default message, one with every field set, and random ones.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kbroker.wire import apis, messages

from tests.peers import require_peer, run_java
from tests.wire import reference

pytestmark = pytest.mark.peer

ECHO = Path(__file__).with_name("MessageEcho.java")
RANDOM_MESSAGES = 4


def bodies() -> Iterator[tuple[int, int, str, bytes]]:
    rng = random.Random(4)
    for api in apis.APIS.values():
        for version in range(api.first, api.last + 1):
            for direction, cls, encode in (
                ("request", messages.request_class(api.key), messages.encode_request),
                ("response", messages.response_class(api.key), messages.encode_response),
            ):
                made: list[Any] = [cls(), reference.filled(cls)]
                made += [reference.random_message(cls, rng) for _ in range(RANDOM_MESSAGES)]
                for message in made:
                    try:
                        body = encode(api.key, version, message)
                    except ValueError:  # a random null where this version has none
                        continue
                    yield api.key, version, direction, body


def test_kafka_reads_and_rewrites_every_message() -> None:
    require_peer("kafka")
    sent = list(bodies())
    assert len(sent) > 2000
    lines = [f"{key} {version} {way} {body.hex() or '-'}" for key, version, way, body in sent]
    done = run_java(str(ECHO), input_text="\n".join(lines) + "\n")
    answers = done.stdout.splitlines()
    assert len(answers) == len(lines), done.stderr[-2000:]
    for line, answer in zip(lines, answers, strict=True):
        key, version, way, body = line.split(" ")
        assert answer == body, (apis.APIS[int(key)].name, version, way, body, answer)
