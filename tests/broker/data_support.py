"""A broker's data path without sockets: real handlers, dispatch, purgatory and logs on a disk, a
clock that stands still, a pool that works at once, and a loop that turns when it is told to.

A request goes through the codec of its version on the way in and its answer on the way out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from kbroker.base.clock import ManualClock
from kbroker.base.config import BrokerConfig, TopicConfig
from kbroker.base.metrics import BrokerMetrics
from kbroker.base.rng import SeededRng
from kbroker.broker import registry
from kbroker.broker.context import ANONYMOUS, RequestContext
from kbroker.broker.dispatch import Dispatcher, Pending
from kbroker.broker.fetch_sessions import FetchSessionCache
from kbroker.broker.purgatory import Purgatory
from kbroker.log.manager import LogManager
from kbroker.wire import apis, messages
from kbroker.wire.header import encode_request_header, response_header
from kbroker.wire.schema.produce import (
    PartitionProduceData,
    ProduceRequest,
    TopicProduceData,
)

from tests.log.support import InlinePool

TOPIC = "topic"
TOPIC_ID = bytes(range(16))
REGISTRY = registry.load()


class Timer:
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Parked:
    """A request that waits. `answer()` is its response once it has one, None before."""

    def __init__(self, key: int, version: int, pending: Pending) -> None:
        self._key = key
        self._version = version
        self._pending = pending

    @property
    def done(self) -> bool:
        return self._pending.done

    def cancel(self) -> None:
        """As when the connection is lost."""
        self._pending.cancel()

    def answer(self) -> Any:
        if not self._pending.done:
            return None
        return decoded(self._key, self._version, self._pending.parts)


class DataBroker:
    def __init__(
        self,
        directory: Path | None,
        static: Mapping[str, str] | None = None,
        *,
        pool: Executor | None = None,
        slots: int = 1000,
    ) -> None:
        self.config = BrokerConfig(static or {})
        self.clock = ManualClock()
        self.metrics = BrokerMetrics()
        self._soon: list[Callable[[], None]] = []
        self.purgatory = Purgatory(self.clock, self._soon.append, lambda delay_ms, fn: Timer())
        self.logs = LogManager(
            directory,
            settings=self.config,
            clock=self.clock,
            post=self._soon.append,
            on_advance=lambda partition: self.purgatory.wake(partition.key),
            pool=pool or InlinePool(),
        )
        self.sessions = FetchSessionCache(SeededRng(1), slots)
        self.services: Any = SimpleNamespace(
            config=self.config, clock=self.clock, metrics=self.metrics, purgatory=self.purgatory,
            logs=self.logs, sessions=self.sessions, node_id=1,
            producer_ids=SimpleNamespace(allocate=self._allocate),
        )  # fmt: skip
        self._next_producer_id = 1000
        self._dispatcher = Dispatcher(REGISTRY, self.metrics.request)

    async def _allocate(self) -> int:
        self._next_producer_id += 1
        return self._next_producer_id

    def create(self, topic: str = TOPIC, partitions: int = 1, **overrides: str) -> None:
        """`cleanup_policy="compact"` means cleanup.policy."""
        named = {name.replace("_", "."): text for name, text in overrides.items()}
        config = TopicConfig(self.config, named)
        topic_id = TOPIC_ID if topic == TOPIC else topic.encode()[-16:].ljust(16, b"_")
        for index in range(partitions):
            self.logs.create(topic, index, topic_id, config)

    def turn(self) -> None:
        """Turns the loop until nothing is due."""
        for _ in range(100):
            if not self._soon:
                return
            due, self._soon[:] = list(self._soon), []
            for fn in due:
                fn()
        raise AssertionError("the loop never comes to rest")

    def pass_time(self, ms: int) -> None:
        self.clock.advance(ms)
        self.purgatory.expire()
        self.turn()

    def call(self, key: int, version: int, request: Any, *, client_id: str = "test") -> Any:
        """The decoded response, a Parked, or None for a request without an answer."""
        header = encode_request_header(key, version, 7, client_id)
        frame = memoryview(bytearray(header + messages.encode_request(key, version, request)))
        ctx = RequestContext(
            key, version, 7, client_id, None, self.services, ANONYMOUS, "PLAINTEXT",
            self.clock.wall_ms(),
        )  # fmt: skip
        row = self._dispatcher.row(key, version)
        result = self._dispatcher.begin(row, ctx, frame, len(header))
        if isinstance(result, Pending):
            return Parked(key, version, result)
        return None if result is None else decoded(key, version, result)

    def produce(
        self, data: bytes | None, *, version: int = 9, acks: int = -1, index: int = 0,
        topic: str = TOPIC, timeout_ms: int = 1000, client_id: str = "test",
        transactional_id: str | None = None,
    ) -> Any:  # fmt: skip
        """One partition's result, a Parked, or None."""
        part = PartitionProduceData(index=index, records=data)
        wanted = TopicProduceData(name=topic, topic_id=TOPIC_ID, partition_data=[part])
        request = ProduceRequest(
            transactional_id=transactional_id, acks=acks, timeout_ms=timeout_ms,
            topic_data=[wanted],
        )  # fmt: skip
        answer = self.call(apis.PRODUCE, version, request, client_id=client_id)
        return answer if answer is None or isinstance(answer, Parked) else produced(answer)

    def close(self) -> None:
        self.purgatory.stop()
        self.turn()
        self.logs.close()


def produced(answer: Any) -> Any:
    return answer.responses[0].partition_responses[0]


def decoded(key: int, version: int, parts: Any) -> Any:
    data = b"".join(bytes(part) for part in parts)
    assert int.from_bytes(data[:4], "big") == len(data) - 4
    expected = response_header(key, version, 7)
    assert data[4 : 4 + len(expected)] == expected
    return messages.decode_response(key, version, data[4 + len(expected) :])
