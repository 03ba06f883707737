"""The few requests that the comparison makes itself, in versions that all contenders speak.

Frames are written by hand, so that no client's pauses, retries or threads are in a measurement.
Every answer's error codes are looked at.
"""

from __future__ import annotations

import struct
import time

from benches import driver
from benches.compare import fetched
from benches.compare.model import MIB

METADATA, LIST_OFFSETS, CREATE_TOPICS, DELETE_TOPICS = 3, 2, 19, 20
TIMEOUT_MS = 30_000
FETCH_WAIT_MS = 500  # what consumers ask for by default; Tansu answers 0 with nothing at all
POLL_S = 0.005
UNKNOWN_TOPIC, LEADER_NOT_AVAILABLE, NOT_LEADER = 3, 5, 6
TRANSIENT = (UNKNOWN_TOPIC, LEADER_NOT_AVAILABLE, NOT_LEADER)
EARLIEST, LATEST = -2, -1

ALL_TOPICS = driver.request(METADATA, 1, struct.pack(">i", -1))
NO_TOPICS = driver.request(METADATA, 1, struct.pack(">i", 0))


def text(value: str) -> bytes:
    return struct.pack(">h", len(value)) + value.encode()


def names_a_broker(answer: memoryview) -> bool:
    """Whether a Metadata answer has a broker: Kafka answers before it has let itself in."""
    return int(struct.unpack_from(">i", answer, 4)[0]) > 0


def create_topic(port: int, name: str, partitions: int) -> None:
    """Returns when every partition answers. Deleted files go after a second instead of a minute:
    a comparison makes gigabytes of topics, and nothing else about them is set."""
    body = struct.pack(">i", 1) + text(name) + struct.pack(">ih", partitions, 1)
    configs = {"file.delete.delay.ms": "1000"}
    body += struct.pack(">ii", 0, len(configs))
    body += b"".join(text(key) + text(value) for key, value in configs.items())
    body += struct.pack(">ib", TIMEOUT_MS, 0)
    with driver.connections(port, 1, 1 << 16) as (connection,):
        answer = driver.call(connection, driver.request(CREATE_TOPICS, 2, body))
        (code,) = struct.unpack_from(">h", answer, 4 + 4 + 4 + 2 + len(name))
        if code:
            raise RuntimeError(f"topic {name} was not created: error {code}")
        _wait_for_leaders(connection, name, partitions)


def _wait_for_leaders(connection: driver.Connection, name: str, partitions: int) -> None:
    deadline = time.monotonic() + TIMEOUT_MS / 1000
    while True:
        codes = [code for code, _ in _offsets(connection, name, partitions, LATEST)]
        if not any(codes):
            return
        if not set(codes) <= {0, *TRANSIENT} or time.monotonic() > deadline:
            raise RuntimeError(f"topic {name} cannot be used: errors {sorted(set(codes))}")
        time.sleep(POLL_S)


def delete_topic(port: int, name: str) -> None:
    body = struct.pack(">i", 1) + text(name) + struct.pack(">i", TIMEOUT_MS)
    with driver.connections(port, 1, 1 << 16) as (connection,):
        answer = driver.call(connection, driver.request(DELETE_TOPICS, 1, body))
    (code,) = struct.unpack_from(">h", answer, 4 + 4 + 4 + 2 + len(name))
    if code:
        raise RuntimeError(f"topic {name} was not deleted: error {code}")


def end_offsets(port: int, name: str, partitions: int) -> list[int]:
    with driver.connections(port, 1, 1 << 16) as (connection,):
        found = _offsets(connection, name, partitions, LATEST)
    if any(code for code, _ in found):
        raise RuntimeError(f"no end offsets of {name}: errors {[code for code, _ in found]}")
    return [offset for _, offset in found]


def end_by_reading(port: int, name: str, index: int, offset: int) -> int:
    """The end of a partition's last batch, which begins at `offset`."""
    asked = driver.fetch_request(name, offset, MIB, index=index, max_wait_ms=FETCH_WAIT_MS)
    offsets = {index: offset}
    with driver.connections(port, 1) as (connection,):
        if not fetched.read_answer(driver.call(connection, asked), name, offsets):
            raise RuntimeError(f"{name}-{index} has no batch at {offset}")
    return offsets[index]


def _offsets(
    connection: driver.Connection, name: str, partitions: int, timestamp: int
) -> list[tuple[int, int]]:
    """(error code, offset) by partition."""
    body = struct.pack(">ii", -1, 1) + text(name) + struct.pack(">i", partitions)
    body += b"".join(struct.pack(">iq", index, timestamp) for index in range(partitions))
    answer = driver.call(connection, driver.request(LIST_OFFSETS, 1, body))
    found = [(UNKNOWN_TOPIC, -1)] * partitions
    pos = 4 + 4 + 2 + len(name)
    (count,) = struct.unpack_from(">i", answer, pos)
    for number in range(count):
        index, code, _, offset = struct.unpack_from(">ihqq", answer, pos + 4 + number * 22)
        found[index] = (code, offset)
    return found
