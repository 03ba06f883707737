"""Goal: one connection answers in request order, holds back what it must, never takes more than its
share, and ends when its peer misbehaves, alone.

Method: real sockets on both loops, made-up handlers; time is a manual clock moved to a deadline and
one sweep, so nothing sleeps.
"""

from __future__ import annotations

import asyncio
import logging
import select
import struct
from typing import Any

import pytest
from kbroker.base import limits
from kbroker.broker.registry import handles_raw
from kbroker.wire import apis

from tests.broker.support import Client, Harness, answer, run

LOOPS = pytest.mark.parametrize("uvloop", [True, False], ids=["uvloop", "asyncio"])
PRODUCE, FETCH, ADMIN = apis.PRODUCE, apis.FETCH, apis.CREATE_TOPICS


@handles_raw(PRODUCE, 3, 8)
def echo(ctx: Any, frame: memoryview, pos: int) -> Any:
    """Echoes its body; an empty one has no answer (acks=0)."""
    body = bytes(frame[pos:])
    return answer(ctx, body) if body else None


@handles_raw(FETCH, 4, 11)
async def fetch(ctx: Any, frame: memoryview, pos: int) -> Any:
    """Parks on the key in its body."""
    key = bytes(frame[pos:])
    outcome = await ctx.services.purgatory.park([key], 1 << 60, lambda: True)
    return answer(ctx, key + b":" + outcome.value.encode())


@handles_raw(ADMIN, 2, 4, pipelined=False)
async def admin(ctx: Any, frame: memoryview, pos: int) -> Any:
    """As fetch, but later requests have to wait."""
    key = bytes(frame[pos:])
    await ctx.services.purgatory.park([key], 1 << 60, lambda: True)
    return answer(ctx, b"admin")


def harness(**server_limits: int) -> Harness:
    return Harness(echo, fetch, admin, **server_limits)


@LOOPS
def test_requests_are_answered_and_sizes_do_not_matter(uvloop: bool) -> None:
    async def test() -> None:
        async with harness() as h:
            client = await h.connect()
            for n, size in enumerate([1, 100, 70_000, 3_000_000, 5]):
                client.send(PRODUCE, 3, n, bytes([n + 1]) * size)
                assert await client.receive() == (n, bytes([n + 1]) * size)

    run(test, uvloop=uvloop)


@LOOPS
def test_answers_keep_the_order_of_requests_though_later_ones_proceed(uvloop: bool) -> None:
    async def test() -> None:
        async with harness() as h:
            client = await h.connect()
            client.send(FETCH, 4, 1, b"slow")
            client.send(PRODUCE, 3, 2, b"handled")
            client.send(FETCH, 4, 3, b"slower")
            client.send(PRODUCE, 3, 4, b"also")
            produced = h.metrics.request(PRODUCE)
            await h.until(lambda: produced.count == 2)
            h.purgatory.wake(b"slower")
            await h.until(lambda: len(h.purgatory) == 1)
            h.purgatory.wake(b"slow")
            got = [await client.receive() for _ in range(4)]
            assert got == [
                (1, b"slow:satisfied"),
                (2, b"handled"),
                (3, b"slower:satisfied"),
                (4, b"also"),
            ]

    run(test, uvloop=uvloop)


@LOOPS
def test_an_awaiting_admin_request_holds_the_rest_of_its_connection_back(uvloop: bool) -> None:
    async def test() -> None:
        async with harness() as h:
            client, other = await h.connect(), await h.connect()
            client.send(ADMIN, 2, 1, b"slow")
            client.send(PRODUCE, 3, 2, b"later " * 30_000)
            client.send(PRODUCE, 3, 3, b"last")
            await h.until(lambda: len(h.purgatory) == 1)
            other.send(PRODUCE, 3, 9, b"x")
            assert await other.receive() == (9, b"x"), "other connections go on"
            assert h.metrics.request(PRODUCE).count == 1
            h.purgatory.wake(b"slow")
            assert [await client.receive() for _ in range(3)] == [
                (1, b"admin"),
                (2, b"later " * 30_000),
                (3, b"last"),
            ]

    run(test, uvloop=uvloop)


def test_requests_of_one_packet_leave_in_one_write_and_without_answer_in_none() -> None:
    async def test() -> None:
        async with harness() as h:
            client = await h.connect()
            client.send_bytes(
                b"".join(Client.frame(PRODUCE, 3, n, b"" if n % 2 else b"y") for n in range(10))
            )
            assert [(await client.receive())[0] for _ in range(5)] == [0, 2, 4, 6, 8]
            assert h.metrics.request(PRODUCE).count == 10

    run(test)


def test_an_answer_that_a_handler_keeps_is_not_added_to() -> None:
    kept: list[bytes] = []

    @handles_raw(PRODUCE, 3, 8)
    def same(ctx: Any, frame: memoryview, pos: int) -> Any:
        kept[:] = kept or answer(ctx, b"kept")
        return kept

    async def test() -> None:
        async with Harness(same, fetch) as h:
            client = await h.connect()
            for _ in range(2):
                client.send_bytes(b"".join(Client.frame(PRODUCE, 3, 5, b"y") for _ in range(3)))
                assert [await client.receive() for _ in range(3)] == [(5, b"kept")] * 3
            assert len(kept) == 2

    run(test)


@LOOPS
def test_a_large_request_gives_way_to_others_and_goes_on(uvloop: bool) -> None:
    async def test() -> None:
        async with harness() as h:
            client, other = await h.connect(), await h.connect()
            other.send(PRODUCE, 3, 9, b"x")
            assert await other.receive() == (9, b"x")
            (session,) = [s for s in h.server.sessions() if not s.saw_request]
            gave_way = 0
            pause = session.transport.pause_reading

            class Counting:
                def __getattr__(self, name: str) -> Any:
                    return getattr(transport, name)

                def pause_reading(self) -> None:
                    nonlocal gave_way
                    gave_way += 1
                    pause()

            transport = session.transport
            session.transport = Counting()
            sizes = [300_000, 10, 400_000, 100_000, 500_000]
            for n, size in enumerate(sizes):
                client.send(PRODUCE, 3, n, bytes([n]) * size)
            for n, size in enumerate(sizes):
                assert await client.receive() == (n, bytes([n]) * size)
            assert gave_way == 3
            session.transport = transport

    run(test, uvloop=uvloop)


@LOOPS
def test_a_connection_that_ends_while_it_gives_way(
    uvloop: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The large request before the bad one has given way: whoever goes on finds it closed."""

    async def test() -> None:
        async with harness() as h:
            client, other = await h.connect(), await h.connect()
            client.send_bytes(
                Client.frame(PRODUCE, 3, 1, bytes(300_000)) + Client.frame(PRODUCE, 99, 2)
            )
            await client.closed()
            other.send(PRODUCE, 3, 9, b"x")
            assert await other.receive() == (9, b"x")

    with caplog.at_level(logging.ERROR):
        run(test, uvloop=uvloop)
    assert not caplog.records


@LOOPS
def test_no_more_than_the_limit_is_taken_ahead(uvloop: bool) -> None:
    async def test() -> None:
        async with harness() as h:
            client = await h.connect()
            count = 3 * limits.REQUESTS_AHEAD_MAX
            for n in range(count):
                client.send(FETCH, 4, n, b"k")
            await h.until(lambda: len(h.purgatory) == limits.REQUESTS_AHEAD_MAX)
            (session,) = h.server.sessions()
            assert session.waiting_count == limits.REQUESTS_AHEAD_MAX
            assert h.metrics.reads_paused == 1
            answered = 0
            while answered < count:
                h.purgatory.wake(b"k")
                assert await client.receive() == (answered, b"k:satisfied")
                answered += 1

    run(test, uvloop=uvloop)


@LOOPS
def test_a_client_that_takes_no_answers_is_not_read_and_then_closed(uvloop: bool) -> None:
    async def test() -> None:
        async with harness() as h:
            client, other = await h.connect(), await h.connect()
            client.reader._limit = 1  # type: ignore[attr-defined]
            client.reader._transport.pause_reading()  # type: ignore[attr-defined]
            frame = Client.frame(PRODUCE, 3, 1, b"z" * (8 << 20))
            for _ in range(6):
                client.send_bytes(frame)
            produced = h.metrics.request(PRODUCE)
            await h.until(lambda: h.metrics.reads_paused > 0)
            handled = produced.count
            assert handled < 6, "no more is taken than fits the queue of answers"
            other.send(PRODUCE, 3, 5, b"fine")
            assert await other.receive() == (5, b"fine")
            h.server.sweep()
            h.clock.advance(limits.WRITE_STALL_MS_MAX - 1_000)
            h.server.sweep()
            assert h.metrics.connections_open == 2
            h.clock.advance(2_000)
            other.send(PRODUCE, 3, 6, b"busy")
            await other.receive()
            h.server.sweep()
            await h.until(lambda: h.metrics.connections_open == 1)
            assert h.metrics.connections_closed_slow == 1

    run(test, uvloop=uvloop)


@LOOPS
def test_a_client_that_resumes_gets_everything(uvloop: bool) -> None:
    async def test() -> None:
        async with harness() as h:
            client = await h.connect()
            client.reader._transport.pause_reading()  # type: ignore[attr-defined]
            frame = Client.frame(PRODUCE, 3, 1, b"z" * (8 << 20))
            for _ in range(4):
                client.send_bytes(frame)
            await h.until(lambda: h.metrics.reads_paused > 0)
            client.reader._transport.resume_reading()  # type: ignore[attr-defined]
            for _ in range(4):
                assert (await client.receive())[1] == b"z" * (8 << 20)

    run(test, uvloop=uvloop)


class Holding:
    """A transport that keeps what it is to send until it is told to."""

    def __init__(self, transport: Any) -> None:
        self.transport = transport
        self.held: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self.held))

    def write(self, part: Any) -> None:
        self.held.append(bytes(part))

    def writelines(self, parts: list[Any]) -> None:
        self.held += map(bytes, parts)


@LOOPS
def test_nothing_overtakes_what_is_queued(uvloop: bool) -> None:
    """Not even when the socket has room again before the transport has used it."""

    async def test() -> None:
        async with harness() as h:
            client = await h.connect()
            client.send(PRODUCE, 3, 1, b"x")
            assert await client.receive() == (1, b"x")
            (session,) = h.server.sessions()
            transport = session.transport
            session.transport = holding = Holding(transport)
            client.send(PRODUCE, 3, 2, b"z" * (8 << 20))
            await h.until(lambda: bool(holding.held))
            first = asyncio.create_task(client.receive())
            sock = transport.get_extra_info("socket")
            await h.until(lambda: bool(select.select([], [sock], [], 0)[1]))
            for n, size in ((3, 10), (4, 100_000)):
                client.send(PRODUCE, 3, n, b"y" * size)
            await h.until(lambda: h.metrics.request(PRODUCE).count == 4)
            session.transport = transport
            for part in holding.held:
                transport.write(part)
            assert await first == (2, b"z" * (8 << 20))
            for n, size in ((3, 10), (4, 100_000)):
                assert await client.receive() == (n, b"y" * size)

    run(test, uvloop=uvloop)


@LOOPS
@pytest.mark.parametrize(
    ("data", "why"),
    [
        (struct.pack(">i", -1), "frame length -1"),
        (struct.pack(">i", 101 << 20), "above the limit"),
        (Client.frame(500, 0, 1), "API key 500 (unknown) is not served"),
        (Client.frame(PRODUCE, 2, 1), "Produce version 2 is not served"),
        (struct.pack(">ihhih", 12, PRODUCE, 3, 1, 50) + b"xx", "client id length 50"),
    ],
)
def test_nonsense_closes_its_connection_with_one_line_and_harms_nobody(
    uvloop: bool, data: bytes, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with harness() as h:
            client, other = await h.connect(), await h.connect()
            client.send(PRODUCE, 3, 1, b"before")
            client.send_bytes(data)
            got = await client.closed()
            assert got.endswith(b"before"), "what was answered before still leaves"
            other.send(PRODUCE, 3, 5, b"fine")
            assert await other.receive() == (5, b"fine")
            assert h.metrics.connections_closed_malformed == 1

    with caplog.at_level(logging.WARNING):
        run(test, uvloop=uvloop)
    (record,) = caplog.records
    assert why in record.getMessage() and "127.0.0.1" in record.getMessage()


def test_complaints_are_limited_per_peer_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with harness() as h:
            for _ in range(5):
                client = await h.connect()
                client.send_bytes(struct.pack(">i", -1))
                await client.closed()
            h.clock.advance(1_000)
            client = await h.connect()
            client.send_bytes(struct.pack(">i", -1))
            await client.closed()

    with caplog.at_level(logging.WARNING):
        run(test)
    assert len(caplog.records) == 2
    assert "(4 more like it left out)" in caplog.records[1].getMessage()


def test_deadlines_close_who_sends_nothing_half_a_frame_or_stays_idle() -> None:
    async def test() -> None:
        async with harness(idle_ms_max=100_000) as h:
            silent, partial, idle, parked = [await h.connect() for _ in range(4)]
            for client in (partial, idle):
                client.send(PRODUCE, 3, 1, b"hello")
                await client.receive()
            parked.send(FETCH, 4, 1, b"k")
            await h.until(lambda: len(h.purgatory) == 1)
            h.server.sweep()
            received = h.metrics.sockets.bytes_in
            partial.send_bytes(Client.frame(PRODUCE, 3, 2, b"x" * 100)[:50])
            await h.until(lambda: h.metrics.sockets.bytes_in == received + 50)
            h.clock.advance(limits.FIRST_FRAME_MS_MAX + 1)
            h.server.sweep()
            assert await silent.closed() == b""
            assert h.metrics.connections_open == 3
            partial.send_bytes(b"y")
            await h.until(lambda: h.metrics.sockets.bytes_in == received + 51)
            h.clock.advance(limits.PARTIAL_FRAME_MS_MAX - limits.FIRST_FRAME_MS_MAX)
            h.server.sweep()
            assert await partial.closed() == b"", "a byte now and then does not save it"
            assert h.metrics.connections_open == 2
            h.clock.advance(100_000)
            h.server.sweep()
            assert await idle.closed() == b""
            h.purgatory.wake(b"k")
            assert await parked.receive() == (1, b"k:satisfied"), "who waits for us is not idle"

    run(test)


@LOOPS
def test_a_lost_connection_drops_what_it_parked(uvloop: bool) -> None:
    async def test() -> None:
        async with harness() as h:
            client = await h.connect()
            client.send(FETCH, 4, 1, b"k")
            client.send(ADMIN, 2, 2, b"k")
            await h.until(lambda: len(h.purgatory) == 2)
            await client.close()
            await h.until(lambda: h.metrics.connections_open == 0)
            assert len(h.purgatory) == 0

    run(test, uvloop=uvloop)


@pytest.mark.parametrize("end", ["finishes", "leaves"])
def test_over_the_memory_budget_one_connection_reads_and_the_others_wait(
    end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RECEIVED_BYTES_MAX", 100_000)
    monkeypatch.setattr(limits, "RECEIVED_BYTES_RESUME", 50_000)

    async def test() -> None:
        async with harness() as h:
            first, second, third = [await h.connect() for _ in range(3)]
            big = Client.frame(PRODUCE, 3, 1, b"b" * 300_000)
            first.send_bytes(big[:150_000])
            await h.until(lambda: h.server.pool.held_bytes == 150_000)
            second.send_bytes(big[:1_000])
            third.send_bytes(big[:1_000])
            await h.until(lambda: h.metrics.reads_paused == 2)
            second.send_bytes(big[1_000:])
            third.send_bytes(big[1_000:])
            if end == "finishes":
                first.send_bytes(big[150_000:])
                assert await first.receive() == (1, b"b" * 300_000)
            else:
                await first.close()
            assert await second.receive() == (1, b"b" * 300_000)
            assert await third.receive() == (1, b"b" * 300_000)

    run(test)


def test_over_the_memory_budget_deadlines_still_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RECEIVED_BYTES_MAX", 10_000)
    monkeypatch.setattr(limits, "RECEIVED_BYTES_RESUME", 5_000)

    async def test() -> None:
        async with harness() as h:
            clients = [await h.connect() for _ in range(2)]
            for client in clients:
                client.send(PRODUCE, 3, 0, b"hello")
                await client.receive()
            h.server.sweep()
            for client in clients:
                client.send_bytes(Client.frame(PRODUCE, 3, 1, b"b" * 300_000)[:20_000])
            await h.until(lambda: h.metrics.reads_paused == 1)
            h.clock.advance(limits.PARTIAL_FRAME_MS_MAX + 1)
            h.server.sweep()
            await h.until(lambda: h.metrics.connections_open == 0)
            assert h.server.pool.held_bytes == 0

    run(test)


def test_a_bug_in_the_shell_costs_one_connection(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with harness() as h:
            client = await h.connect()
            row = h.server.dispatcher.row
            monkeypatch.setattr(
                type(h.server.dispatcher), "row", lambda *_: 1 // 0 if _[2] == 4 else row(*_[1:])
            )
            client.send(PRODUCE, 4, 1, b"x")
            assert await client.closed() == b""
            other = await h.connect()
            other.send(PRODUCE, 3, 1, b"x")
            assert await other.receive() == (1, b"x")

    run(test)
    assert "a bug in the broker ended it" in caplog.text


def test_many_clients_at_once() -> None:
    async def test() -> None:
        async with harness() as h:
            clients = [await h.connect() for _ in range(50)]

            async def talk(client: Client, seed: int) -> None:
                for n in range(10):
                    client.send(PRODUCE, 3, n, bytes([seed]) * (1 + 977 * ((n * seed) % 97)))
                for n in range(10):
                    size = 1 + 977 * ((n * seed) % 97)
                    assert await client.receive() == (n, bytes([seed]) * size)

            await asyncio.gather(*(talk(client, seed) for seed, client in enumerate(clients)))

    run(test)
