"""A broker's metadata with a store in memory and logs that only remember, for handler tests.

Requests go through the codec of their version on the way in and answers on the way out, so a test
sees exactly the fields that a client of that version would.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from types import SimpleNamespace
from typing import Any

from kbroker.base.config import BrokerConfig, TopicConfig
from kbroker.base.rng import SeededRng
from kbroker.broker import registry
from kbroker.broker.context import ANONYMOUS, RequestContext
from kbroker.broker.services import BrokerEndpoint
from kbroker.broker.topics import TopicService
from kbroker.meta.store.base import MetadataStore
from kbroker.meta.store.memory import MemoryStore
from kbroker.wire import messages
from kbroker.wire.header import encode_request_header, response_header

CLUSTER_ID = "AbCdEfGhIjKlMnOpQrStUw"
NODE_ID = 1
REGISTRY = registry.load()


class FakeLogs:
    """Remembers what the log manager was told. `fail_on` makes one creation fail."""

    def __init__(self) -> None:
        self.ids: dict[tuple[str, int], bytes] = {}
        self.configs: dict[tuple[str, int], TopicConfig] = {}
        self.configured: list[tuple[str, TopicConfig]] = []
        self.fail_on: tuple[str, int] | None = None
        self.on_create: Callable[[], None] = lambda: None

    def create(self, topic: str, index: int, topic_id: bytes, config: TopicConfig) -> None:
        self.on_create()
        if (topic, index) == self.fail_on:
            raise OSError(28, "No space left on device")
        self.ids[topic, index] = topic_id
        self.configs[topic, index] = config

    def delete(self, topic: str, index: int) -> None:
        del self.ids[topic, index]

    def configure(self, topics: Mapping[str, TopicConfig]) -> None:
        self.configured += topics.items()


class Admin:
    """`admin.topics`, `admin.logs`, `admin.services`; `await admin.call(key, version, request)`."""

    def __init__(self, store: MetadataStore, config: BrokerConfig) -> None:
        self.store = store
        self.config = config
        self.logs = FakeLogs()
        self.woken: list[object] = []
        self.dropped: list[str] = []
        self.topics: TopicService
        self.services: Any

    @classmethod
    async def open(
        cls,
        static: Mapping[str, str] | None = None,
        *,
        store: MetadataStore | None = None,
        seed: int = 1,
    ) -> Admin:
        admin = cls(store or MemoryStore(), BrokerConfig(static or {}))
        admin.topics = await TopicService.open(
            admin.store, admin.config, node_id=NODE_ID, rng=SeededRng(seed)
        )
        admin.services = SimpleNamespace(
            config=admin.topics.config,
            topics=admin.topics,
            logs=admin.logs,
            purgatory=SimpleNamespace(wake=admin.woken.append),
            metrics=SimpleNamespace(drop_topic=admin.dropped.append),
            node_id=NODE_ID,
            cluster_id=CLUSTER_ID,
            endpoints=lambda listener: [
                BrokerEndpoint(NODE_ID, f"{listener.lower()}.test", 9092, "rack-a")
            ],
        )
        admin.topics.attach(admin.services)
        admin.services.groups = SimpleNamespace(ensure_topic=admin._ensure_group_topic)
        return admin

    async def _ensure_group_topic(self) -> None:
        await self.topics.ensure_topics(["__consumer_offsets"])

    async def call(
        self, key: int, version: int, request: Any, *, listener: str = "PLAINTEXT"
    ) -> Any:
        api = REGISTRY.get(key)
        assert api is not None and api.serves(version)
        ctx = RequestContext(
            key, version, 7, "test", None, self.services, ANONYMOUS, listener, 1_700_000_000_000
        )
        body = messages.encode_request(key, version, request)
        if api.raw:
            header = encode_request_header(key, version, 7, "test")
            frame = memoryview(bytearray(header + body))
            parts = await _settled(api.handler(ctx, frame, len(header)))
            data = b"".join(bytes(part) for part in parts)
            assert int.from_bytes(data[:4], "big") == len(data) - 4
            expected = response_header(key, version, 7)
            assert data[4 : 4 + len(expected)] == expected
            return messages.decode_response(key, version, data[4 + len(expected) :])
        decoded = messages.decode_request(key, version, body)
        response = await _settled(api.handler(ctx, decoded))
        return messages.decode_response(
            key, version, messages.encode_response(key, version, response)
        )


async def _settled(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(60):
            await test()

    asyncio.run(main())
