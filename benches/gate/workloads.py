"""What the gate counts (ci/bench_gate.py runs this under callgrind): one function a figure.

A workload prepares its data and returns what is called; every call does the same work again. Data
is fixed, no clock and no randomness reaches what is counted, and the garbage collector is off. The
counts of `calls` and of three times as many calls are written down: what lies around them is in
both, so the difference is the calls alone, of code that is warm.

    python benches/gate/workloads.py --list
    valgrind --tool=callgrind ... python benches/gate/workloads.py MARKS.so SCRATCH NAME...
"""

from __future__ import annotations

import ctypes
import gc
import json
import platform
import random
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kcore

NOW_MS = 1_700_000_000_000
WARM_CALLS = 60  # the interpreter specialises a function's bytecode within its first calls

Call = Callable[[], object]
Workload = Callable[[Path], Call]
WORKLOADS: dict[str, tuple[int, Workload]] = {}


def workload(calls: int) -> Callable[[Workload], Workload]:
    def add(prepare: Workload) -> Workload:
        WORKLOADS[prepare.__name__] = (calls, prepare)
        return prepare

    return add


# ------------------------------------------------------------------ batches

_SOURCE = random.Random(7)
COUNT = 1000
VALUES = [_SOURCE.randbytes(100) for _ in range(COUNT)]
KEYS = [b"key-%d" % (i % 1000) for i in range(COUNT)]
TIMES = [NOW_MS + i % 50 for i in range(COUNT)]
HEADERS = [[("trace", b"0123456789abcdef")] if i % 2 else [] for i in range(COUNT)]


def plain_batch() -> bytes:
    return kcore.encode(VALUES, timestamps=NOW_MS)


def varied_batch() -> bytes:
    return kcore.encode(VALUES, keys=KEYS, headers=HEADERS, timestamps=TIMES)


def large_batch(size: int) -> bytes:
    """One record, of about `size` bytes with all around it."""
    return kcore.encode([random.Random(size).randbytes(size - 75)], timestamps=NOW_MS)


@workload(calls=5)
def encode_list(_: Path) -> Call:
    """1,000 values of 100 bytes, a list."""
    return plain_batch


@workload(calls=5)
def encode_buffer(_: Path) -> Call:
    """The same as a buffer with NumPy offsets."""
    import numpy

    pair = (b"".join(VALUES), numpy.arange(COUNT + 1, dtype=numpy.int64) * 100)
    return lambda: kcore.encode(pair, timestamps=NOW_MS)


@workload(calls=5)
def encode_varied(_: Path) -> Call:
    """1,000 values with keys, headers and timestamps of their own."""
    return varied_batch


@workload(calls=5)
def encode_large(_: Path) -> Call:
    """20 values of 10 KiB."""
    values = [random.Random(i).randbytes(10 * 1024) for i in range(20)]
    return lambda: kcore.encode(values, timestamps=NOW_MS)


@workload(calls=5)
def decode_columns(_: Path) -> Call:
    """1,000 records of 100 bytes to NumPy columns, CRC checked."""
    data = plain_batch()
    return lambda: kcore.decode(data)


@workload(calls=5)
def decode_varied(_: Path) -> Call:
    """The same of records with keys and headers."""
    data = varied_batch()
    return lambda: kcore.decode(data)


@workload(calls=5)
def decode_list(_: Path) -> Call:
    """To a list of bytes."""
    data = plain_batch()
    return lambda: kcore.decode(data).values()


@workload(calls=5)
def decode_records(_: Path) -> Call:
    """To record objects."""
    data = plain_batch()
    return lambda: list(kcore.records(data))


@workload(calls=5)
def check_produced(_: Path) -> Call:
    """What a leader checks of a batch of 1,000 records."""
    data = plain_batch()
    return lambda: kcore.check_produced(data, max_bytes=1 << 20)


# ------------------------------------------------------------------ the log


@workload(calls=1000)
def append_small(scratch: Path) -> Call:
    """A batch of 1 KiB to a log on a disk, CRC not checked again."""
    return _append(scratch, 1024)


@workload(calls=1000)
def append_medium(scratch: Path) -> Call:
    """A batch of 16 KiB."""
    return _append(scratch, 16 * 1024)


def _append(scratch: Path, size: int) -> Call:
    log = kcore.Log.open(str(scratch / f"append-{size}"), segment_bytes=1 << 28)
    data = bytearray(large_batch(size))
    return lambda: log.append(data, verify=False)


@workload(calls=1000)
def read(scratch: Path) -> Call:
    """From the middle of a log of 400 batches of 4 KiB."""
    log = kcore.Log.open(str(scratch / "read"), segment_bytes=1 << 28)
    data = bytearray(large_batch(4096))
    for _ in range(400):
        log.append(data)
    return lambda: log.read(200, 1 << 20)


# ------------------------------------------------------------------ requests


@workload(calls=200)
def produce_codec(_: Path) -> Call:
    """Parse a Produce request of four partitions, build its answer."""
    from kcore._native.produce_codec import ProduceResult, build_produce, parse_produce

    frame = memoryview(bytearray(_produce_body(bytes(1024), partitions=4)))

    def call() -> None:
        parse_produce(frame, 0, 9)
        results = [ProduceResult(i, 0, 1000, -1, 0) for i in range(4)]
        build_produce(9, 1, 0, [("orders", results)])

    return call


@workload(calls=200)
def fetch_codec(_: Path) -> Call:
    """Parse a Fetch request of four partitions, build its answer."""
    from kcore._native.fetch_codec import FetchResult, build_fetch, parse_fetch

    body = _fetch_body(partitions=4)
    span = bytes(1024)

    def call() -> None:
        parse_fetch(body, 0, 11)
        results = [FetchResult(i, 0, 1000, 1000, 0, None, -1, span) for i in range(4)]
        build_fetch(11, 1, 0, 0, 0, [("orders", results)])

    return call


@workload(calls=200)
def produce_request(scratch: Path) -> Call:
    """A Produce of one batch of 1 KiB from the bytes of a socket to its answer in another."""
    return _request(scratch / "produce", 0, 9, _produce_body(large_batch(1024)))


@workload(calls=200)
def fetch_request(scratch: Path) -> Call:
    """A Fetch of 4 KiB from the bytes of a socket to its answer in another."""
    return _request(scratch / "fetch", 1, 11, _fetch_body())


@workload(calls=100)
def fetch_many(scratch: Path) -> Call:
    """A Fetch of 100 partitions with 100 bytes each, without a session, from handler to buffers."""
    return _fetch(scratch / "many", offset=0, sessions=False)


@workload(calls=200)
def fetch_quiet(scratch: Path) -> Call:
    """The next Fetch of a session of 100 partitions that have nothing new."""
    return _fetch(scratch / "quiet", offset=1, sessions=True)


def _fetch(directory: Path, *, offset: int, sessions: bool) -> Call:
    """The handler of Fetch over 100 partitions with one small batch each."""
    import struct

    from kbroker.base.config import TopicConfig
    from kbroker.broker.context import RequestContext
    from kbroker.broker.handlers.k01_fetch import handle

    directory.mkdir()
    services: Any = _server(directory).services
    for index in range(100):
        partition = services.logs.create("many", index, b"m" * 16, TopicConfig(services.config, {}))
        partition.append_as_leader(
            memoryview(bytearray(large_batch(100))), now_ms=NOW_MS, required_acks=1
        )
    ctx = RequestContext(1, 11, 7, "gate", None, services, "User:gate", "PLAINTEXT", NOW_MS)
    frame = memoryview(_fetch_body(100, topic="many", offset=offset, epoch=0 if sessions else -1))
    if not sessions:
        return lambda: handle(ctx, frame, 0)

    (session_id,) = struct.unpack_from(">i", bytes(handle(ctx, frame, 0)[0]), 4 + 4 + 4 + 2)
    body = bytearray(_fetch_body(0, session_id=session_id))
    numbers = iter(range(1, 1 << 30))

    def call() -> None:
        struct.pack_into(">i", body, 4 + 4 + 4 + 4 + 1 + 4, next(numbers))
        assert len(handle(ctx, memoryview(body), 0)[0]) == 4 + 4 + 4 + 2 + 4 + 4

    call()  # the first one finds that there is nothing
    return call


def _produce_body(records: bytes, partitions: int = 1) -> bytes:
    from kbroker.wire import messages
    from kbroker.wire.schema.produce import PartitionProduceData, ProduceRequest, TopicProduceData

    parts = [PartitionProduceData(index=i, records=records) for i in range(partitions)]
    topic = TopicProduceData(name="orders", partition_data=parts)
    return messages.encode_request(
        0, 9, ProduceRequest(acks=1, timeout_ms=1000, topic_data=[topic])
    )


def _fetch_body(
    partitions: int = 1,
    *,
    topic: str = "orders",
    offset: int = 20,
    session_id: int = 0,
    epoch: int = -1,
) -> bytes:
    from kbroker.wire import messages
    from kbroker.wire.schema.fetch import FetchPartition, FetchRequest, FetchTopic

    parts = [
        FetchPartition(partition=i, fetch_offset=offset, partition_max_bytes=4096)
        for i in range(partitions)
    ]
    request = FetchRequest(
        max_wait_ms=0, min_bytes=1, session_id=session_id, session_epoch=epoch,
        topics=[FetchTopic(topic=topic, partitions=parts)] if parts else [],
    )  # fmt: skip
    return messages.encode_request(1, 11, request)


def _request(directory: Path, key: int, version: int, body: bytes) -> Call:
    """Session, dispatch, handler and log of a broker without a loop: what a transport would do is
    done by hand, and answers go through a pair of sockets."""
    import asyncio
    import socket

    from kbroker.wire.header import encode_request_header

    directory.mkdir()
    server = _server(directory)
    near, far = socket.socketpair()

    class Transport(asyncio.Transport):
        sock = near  # a transport owns its socket

        def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
            pass

        def get_write_buffer_size(self) -> int:
            return 0

        def is_closing(self) -> bool:
            return False

        def writelines(self, parts: Any) -> None:
            raise AssertionError("the socket took less than all")

    from kbroker.broker.session import Session

    session = Session(server, "PLAINTEXT", "gate", near)
    session.connection_made(Transport())
    frame = encode_request_header(key, version, 7, "gate") + body
    frame = len(frame).to_bytes(4, "big") + frame
    taken = memoryview(bytearray(1 << 20))

    def call() -> None:
        session.get_buffer(-1)[: len(frame)] = frame
        session.buffer_updated(len(frame))
        far.recv_into(taken)

    call()
    answer = _decoded(key, version, bytes(taken))
    assert answer.error_code == 0, answer
    return call


def _server(directory: Path) -> Any:
    from concurrent.futures import ThreadPoolExecutor
    from types import SimpleNamespace

    from kbroker.base.clock import ManualClock
    from kbroker.base.config import BrokerConfig, TopicConfig
    from kbroker.base.metrics import BrokerMetrics
    from kbroker.base.rng import SeededRng
    from kbroker.broker import registry
    from kbroker.broker.dispatch import Dispatcher
    from kbroker.broker.fetch_sessions import FetchSessionCache
    from kbroker.broker.node import flexible_versions
    from kbroker.broker.purgatory import Purgatory
    from kbroker.broker.server import Server, ServerLimits
    from kbroker.log.manager import LogManager

    config, clock, metrics = BrokerConfig({}), ManualClock(), BrokerMetrics()
    soon: list[Callable[[], None]] = []
    purgatory = Purgatory(clock, soon.append, lambda ms, fn: SimpleNamespace(cancel=lambda: None))
    logs = LogManager(
        directory, settings=config, clock=clock, post=soon.append,
        on_advance=lambda partition: purgatory.wake(partition.key), pool=ThreadPoolExecutor(1),
    )  # fmt: skip
    partition = logs.create("orders", 0, bytes(range(16)), TopicConfig(config, {}))
    for _ in range(40):
        partition.append_as_leader(
            memoryview(bytearray(large_batch(4096))), now_ms=NOW_MS, required_acks=1
        )
    server = Server(
        clock=clock, metrics=metrics, flexible_from=flexible_versions(),
        server_limits=ServerLimits(),
    )  # fmt: skip
    server.services = SimpleNamespace(  # type: ignore[assignment]
        config=config, clock=clock, metrics=metrics, purgatory=purgatory, logs=logs, node_id=1,
        sessions=FetchSessionCache(SeededRng(1), 10),
    )  # fmt: skip
    server.dispatcher = Dispatcher(registry.load(), metrics.request)
    return server


def _decoded(key: int, version: int, data: bytes) -> Any:
    """The one partition's answer; a workload that is refused would be very quick."""
    from kbroker.wire import messages
    from kbroker.wire.header import response_header

    size = int.from_bytes(data[:4], "big")
    body = data[4 + len(response_header(key, version, 7)) : 4 + size]
    topic = messages.decode_response(key, version, body).responses[0]  # type: ignore[attr-defined]
    return topic.partition_responses[0] if key == 0 else topic.partitions[0]


# ------------------------------------------------------------------ running them


def count(marks: ctypes.CDLL, name: str, times: int, call: Call) -> None:
    marks.marks_zero()
    for _ in range(times):
        call()
    marks.marks_dump(f"{name} {times}".encode())


def toolchain() -> dict[str, str]:
    """What the counts depend on, besides the code: as it is in here, under valgrind."""
    import kcore._native.encoder as unit
    from kcore._native.crc32c import current_way

    binary = Path(str(unit.__file__)).read_bytes()
    compiler = re.search(rb"(GCC|clang)[^\0]*?[ )](\d+)\.\d+\.\d+", binary)
    cython = next((m[8:] for m in sys.modules if m.startswith("_cython_")), "?")
    return {
        "python": platform.python_version(),
        "compiler": f"{compiler[1].decode().lower()}-{compiler[2].decode()}" if compiler else "?",
        "cython": cython.replace("_", "."),
        "libc": platform.libc_ver()[1] or "?",
        "machine": platform.machine(),
        "crc": current_way(),
    }


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["--list"]:
        for name, (_, prepare) in WORKLOADS.items():
            sys.stdout.write(f"{name:18} {(prepare.__doc__ or '').splitlines()[0]}\n")
        return 0
    marks = ctypes.CDLL(arguments[0])
    scratch = Path(arguments[1])
    sys.stdout.write(json.dumps(toolchain()) + "\n")
    gc.disable()
    # An object here and there, so that no block of Python's allocator is ever given back whole:
    # how often that happens depends on where in memory the first one lies.
    ballast = [bytes(400) for _ in range(40_000)][::500]
    calls = {name: WORKLOADS[name][1](scratch) for name in arguments[2:]}
    for call in calls.values():
        for _ in range(WARM_CALLS):
            call()
    marks.marks_start()
    count(marks, "warm", 1, int)
    for name, call in calls.items():
        count(marks, name, 1, call)  # callgrind itself is warm after it
        for times in (1, 3):
            count(marks, name, times * WORKLOADS[name][0], call)
    del ballast
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
