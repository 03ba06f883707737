"""A server with made-up handlers and a manual clock, and a client of bare bytes."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

from kbroker.base.clock import ManualClock
from kbroker.base.metrics import BrokerMetrics
from kbroker.broker.dispatch import Dispatcher
from kbroker.broker.node import flexible_versions
from kbroker.broker.purgatory import Purgatory
from kbroker.broker.registry import Registry
from kbroker.broker.server import Server, ServerLimits

WAIT_S = 60  # bounds every wait of a test; nothing here takes a hundredth of it


class Client:
    """One connection. Requests go out as header v1 with a body of raw bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @staticmethod
    def frame(key: int, version: int, correlation_id: int, body: bytes = b"") -> bytes:
        header = struct.pack(">hhih", key, version, correlation_id, 4) + b"test"
        return struct.pack(">i", len(header) + len(body)) + header + body

    def send(self, key: int, version: int, correlation_id: int, body: bytes = b"") -> None:
        self.send_bytes(self.frame(key, version, correlation_id, body))

    def send_bytes(self, data: bytes) -> None:
        self._writer.write(data)

    async def receive(self) -> tuple[int, bytes]:
        """(correlation id, what follows it) of the next response."""
        async with asyncio.timeout(WAIT_S):
            (size,) = struct.unpack(">i", await self._reader.readexactly(4))
            data = await self._reader.readexactly(size)
        return struct.unpack_from(">i", data)[0], data[4:]

    async def closed(self) -> bytes:
        """Waits for the server to close; returns what came before that."""
        async with asyncio.timeout(WAIT_S):
            try:
                return await self._reader.read(-1)
            except ConnectionResetError:
                return b""

    @property
    def reader(self) -> asyncio.StreamReader:
        return self._reader

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


class Harness:
    """`async with Harness(handlers...) as h`: h.server, h.services, h.clock, h.connect()."""

    def __init__(self, *handlers: Callable[..., Any], **limits: int) -> None:
        self.clock = ManualClock()
        self.metrics = BrokerMetrics()
        self.registry = Registry.of(handlers)
        self.server = Server(
            clock=self.clock,
            metrics=self.metrics,
            flexible_from=flexible_versions(),
            server_limits=ServerLimits(**limits),
        )
        self.clients: list[Client] = []
        self.services: Any = None

    async def __aenter__(self) -> Harness:
        loop = asyncio.get_running_loop()
        self.purgatory = Purgatory(
            self.clock, loop.call_soon, lambda ms, fn: loop.call_later(ms / 1000, fn)
        )
        self.services = SimpleNamespace(
            purgatory=self.purgatory,
            metrics=self.metrics,
            clock=self.clock,
            registry=self.registry,
            answers={},
        )
        self.server.bind([("PLAINTEXT", "127.0.0.1", 0)])
        self.server.start(self.services, Dispatcher(self.registry, self.metrics.request))
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self.clients:
            await client.close()
        await self.server.stop(self.purgatory.stop)

    async def connect(self) -> Client:
        port = self.server.listeners[0].port
        client = Client(*await asyncio.open_connection("127.0.0.1", port, limit=1 << 26))
        self.clients.append(client)
        return client

    async def until(self, condition: Callable[[], bool]) -> None:
        """Lets the loop turn until something has happened; a bound, not a pause."""
        async with asyncio.timeout(WAIT_S):
            while not condition():
                await asyncio.sleep(0.001)


def answer(ctx: Any, body: bytes) -> list[bytes]:
    return [struct.pack(">ii", 4 + len(body), ctx.correlation_id), body]


def run(test: Callable[[], Awaitable[None]], *, uvloop: bool = True) -> None:
    """Runs a test's coroutine on a loop of its own."""

    async def main() -> None:
        async with asyncio.timeout(2 * WAIT_S):
            await test()

    if uvloop:
        import uvloop as fast

        with asyncio.Runner(loop_factory=fast.new_event_loop) as runner:
            runner.run(main())
    else:
        asyncio.run(main())
