"""Goal: listeners come up where they were told, limits hold, running out of descriptors pauses and
never spins, and a stop answers what is parked within its time.

Method: real sockets on free loopback ports; descriptor exhaustion by lowering the ceiling.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import struct
import sys
from pathlib import Path
from typing import Any

import pytest
from kbroker.base import limits
from kbroker.base.clock import ManualClock
from kbroker.base.metrics import BrokerMetrics
from kbroker.broker import server
from kbroker.broker.node import flexible_versions
from kbroker.broker.registry import handles_raw
from kbroker.broker.server import Listener, Server, ServerLimits
from kbroker.wire import apis

from tests.broker.support import Harness, answer, run

PRODUCE, FETCH, ADMIN = apis.PRODUCE, apis.FETCH, apis.CREATE_TOPICS


@handles_raw(PRODUCE, 3, 8)
def echo(ctx: Any, frame: memoryview, pos: int) -> Any:
    return answer(ctx, ctx.listener.encode() + b":" + bytes(frame[pos:]))


@handles_raw(FETCH, 4, 11)
async def fetch(ctx: Any, frame: memoryview, pos: int) -> Any:
    outcome = await ctx.services.purgatory.park(["k"], 1 << 60, lambda: True)
    return answer(ctx, outcome.value.encode())


@handles_raw(ADMIN, 2, 4, pipelined=False)
async def slow_admin(ctx: Any, frame: memoryview, pos: int) -> Any:
    """Awaits something the purgatory cannot end: work that has to be done."""
    for _ in range(5):
        await asyncio.sleep(0.001)
    return answer(ctx, b"done")


def new_server() -> Server:
    return Server(
        clock=ManualClock(),
        metrics=BrokerMetrics(),
        flexible_from=flexible_versions(),
        server_limits=ServerLimits(),
    )


def close_all(server: Server) -> None:
    for listener in server.listeners:
        listener.sock.close()


def test_port_0_becomes_a_real_one_and_listeners_keep_their_names() -> None:
    async def test() -> None:
        server = new_server()
        server.bind([("A", "127.0.0.1", 0), ("B", "localhost", 0)])
        names = [listener.name for listener in server.listeners]
        ports = {listener.port for listener in server.listeners}
        assert names == ["A", "B"] and len(ports) == 2 and 0 not in ports
        assert server.listeners[1].sock.family == socket.AF_INET
        close_all(server)

    run(test)


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
def test_ipv6_listens_beside_ipv4_on_one_port() -> None:
    server = new_server()
    try:
        server.bind([("SIX", "::1", 0)])
    except OSError as error:
        pytest.skip(f"no IPv6 loopback here: {error}")
    try:
        server.bind([("FOUR", "127.0.0.1", server.listeners[0].port)])
        assert server.listeners[0].sock.family == socket.AF_INET6
    finally:
        close_all(server)


def test_a_taken_port_is_an_error_that_names_it_and_gives_the_others_back() -> None:
    first, second = new_server(), new_server()
    first.bind([("A", "127.0.0.1", 0)])
    port = first.listeners[0].port
    with pytest.raises(OSError, match=rf"cannot listen on B://127\.0\.0\.1:{port}") as caught:
        second.bind([("FREE", "127.0.0.1", 0), ("B", "127.0.0.1", port)])
    assert caught.value.errno == errno.EADDRINUSE
    assert all(listener.sock.fileno() == -1 for listener in second.listeners)
    close_all(first)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a listener's backlog")
def test_thousands_may_come_at_once() -> None:
    """Beyond its backlog the system drops newcomers, who try again a second later or two."""
    somaxconn = int(Path("/proc/sys/net/core/somaxconn").read_text())
    listener = Listener("PLAINTEXT", "127.0.0.1", 0)
    with listener.sock as sock:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)
    (backlog,) = struct.unpack_from("=I", info, 28)  # tcpi_sacked, of one that listens
    assert backlog == min(4096, somaxconn)


def test_a_request_knows_the_listener_it_came_by() -> None:
    async def test() -> None:
        async with Harness(echo) as h:
            client = await h.connect()
            client.send(PRODUCE, 3, 1, b"x")
            assert await client.receive() == (1, b"PLAINTEXT:x")

    run(test)


@pytest.mark.parametrize("uvloop", [True, False], ids=["uvloop", "asyncio"])
def test_connections_are_limited_in_all_and_per_address(uvloop: bool) -> None:
    async def test() -> None:
        for limited in ({"connections_max": 2}, {"connections_per_ip_max": 2}):
            async with Harness(echo, **limited) as h:
                kept = [await h.connect() for _ in range(2)]
                for client in kept:
                    client.send(PRODUCE, 3, 1, b"x")
                    await client.receive()
                refused = await h.connect()
                assert await refused.closed() == b""
                assert h.metrics.connections_refused == 1
                await kept[0].close()
                await h.until(lambda: h.metrics.connections_open == 1)
                again = await h.connect()
                again.send(PRODUCE, 3, 2, b"y")
                assert await again.receive() == (2, b"PLAINTEXT:y")

    run(test, uvloop=uvloop)


@pytest.mark.parametrize("limit,connections", [(8, 2), (2 * limits.FDS_RESERVED + 68, 49)])
def test_half_of_the_descriptors_are_kept_for_partitions(
    limit: int, connections: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a quarter is for connections, however few there are."""
    monkeypatch.setattr(server, "_fd_limit", lambda: limit)

    async def test() -> None:
        async with Harness(echo) as h:
            h.server._fd_ceiling = 1 << 20  # the test has descriptors of its own
            for n in range(connections):
                kept = await h.connect()
                kept.send(PRODUCE, 3, n, b"x")
                assert await kept.receive() == (n, b"PLAINTEXT:x")
            assert await (await h.connect()).closed() == b""
            assert h.metrics.connections_refused == 1

    run(test)


def test_limits_that_change_hold_for_those_who_come() -> None:
    async def test() -> None:
        async with Harness(echo, connections_max=9) as h:
            kept = [await h.connect() for _ in range(2)]
            for client in kept:
                client.send(PRODUCE, 3, 1, b"x")
                await client.receive()
            h.server.reconfigure(ServerLimits(connections_max=1))
            assert await (await h.connect()).closed() == b""
            for client in kept:
                client.send(PRODUCE, 3, 2, b"still in")
                assert await client.receive() == (2, b"PLAINTEXT:still in")

    run(test)


def test_few_descriptors_left_pause_accepting_and_keep_the_rest_for_files(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(limits, "ACCEPT_PAUSE_MS", 20)

    async def test() -> None:
        async with Harness(echo) as h:
            old = await h.connect()
            old.send(PRODUCE, 3, 1, b"x")
            await old.receive()
            ceiling, h.server._fd_ceiling = h.server._fd_ceiling, 0
            newcomer, later = await h.connect(), await h.connect()
            assert await newcomer.closed() == b""
            old.send(PRODUCE, 3, 2, b"still here")
            assert await old.receive() == (2, b"PLAINTEXT:still here")
            refused = h.metrics.connections_refused
            assert 1 <= refused <= 2, "it waits between attempts"
            h.server._fd_ceiling = ceiling
            late = later if refused == 1 else await h.connect()
            late.send(PRODUCE, 3, 3, b"in")
            assert await late.receive() == (3, b"PLAINTEXT:in")

    with caplog.at_level(logging.WARNING):
        run(test)
    assert "too few file descriptors left" in caplog.text


def test_a_rush_of_newcomers_waits_in_the_backlog(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(limits, "ACCEPT_PAUSE_MS", 20)
    monkeypatch.setattr(limits, "ACCEPTS_PER_SWEEP_MAX", 2)
    monkeypatch.setattr(limits, "SWEEP_INTERVAL_MS", 3_600_000)  # the test sweeps by itself

    async def test() -> None:
        async with Harness(echo) as h:
            clients = [await h.connect() for _ in range(3)]
            for client in clients:
                client.send(PRODUCE, 3, 1, b"x")
            assert await clients[1].receive() == (1, b"PLAINTEXT:x")
            await h.until(lambda: "too many new connections" in caplog.text)
            assert h.metrics.connections_accepted == 2
            h.server.sweep()
            assert await clients[2].receive() == (1, b"PLAINTEXT:x"), "it was not refused"

    with caplog.at_level(logging.WARNING):
        run(test)


@pytest.mark.parametrize("uvloop", [True, False], ids=["uvloop", "asyncio"])
def test_out_of_descriptors_on_accept_pauses(
    uvloop: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(limits, "ACCEPT_PAUSE_MS", 5)

    class Failing:
        """A listening socket whose first accepts fail as the system's would."""

        def __init__(self, sock: socket.socket) -> None:
            self._sock, self.failures = sock, 3

        def fileno(self) -> int:
            return self._sock.fileno()

        def close(self) -> None:
            self._sock.close()

        def accept(self) -> Any:
            if self.failures:
                self.failures -= 1
                raise OSError(errno.EMFILE, "Too many open files")
            return self._sock.accept()

    async def test() -> None:
        async with Harness(echo) as h:
            listener: Any = h.server.listeners[0]
            listener.sock = failing = Failing(listener.sock)
            client = await h.connect()
            client.send(PRODUCE, 3, 1, b"x")
            assert await client.receive() == (1, b"PLAINTEXT:x")
            assert failing.failures == 0

    with caplog.at_level(logging.WARNING):
        run(test, uvloop=uvloop)
    assert "cannot accept: Too many open files" in caplog.text


@pytest.mark.parametrize("uvloop", [True, False], ids=["uvloop", "asyncio"])
def test_a_stop_answers_what_is_parked_and_what_is_being_done(uvloop: bool) -> None:
    async def test() -> None:
        async with Harness(echo, fetch, slow_admin) as h:
            waiting, working, idle = [await h.connect() for _ in range(3)]
            waiting.send(FETCH, 4, 1)
            working.send(ADMIN, 2, 2)
            await h.until(lambda: len(h.purgatory) == 1 and h.metrics.sockets.bytes_in == 36)
            await h.server.stop(h.purgatory.stop)
            assert await waiting.receive() == (1, b"stopping")
            assert await working.receive() == (2, b"done")
            for client in (waiting, working, idle):
                assert await client.closed() == b""
            assert h.metrics.connections_open == 0
            with pytest.raises(OSError):
                await h.connect()

    run(test, uvloop=uvloop)


def test_a_stop_does_not_wait_for_ever_for_a_client_that_takes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test() -> None:
        async with Harness(echo) as h:
            client = await h.connect()
            client.reader._transport.pause_reading()  # type: ignore[attr-defined]
            client.send(PRODUCE, 3, 1, b"z" * (16 << 20))
            await h.until(lambda: h.metrics.request(PRODUCE).count == 1)
            ticking = asyncio.get_running_loop().create_task(move_time(h))
            await h.server.stop(h.purgatory.stop)
            ticking.cancel()
            assert h.metrics.connections_open == 0

    async def move_time(h: Harness) -> None:
        while True:
            h.clock.advance(100)
            await asyncio.sleep(0.001)

    run(test)


def test_what_arrives_after_the_stop_is_not_handled() -> None:
    async def test() -> None:
        async with Harness(echo, fetch) as h:
            client = await h.connect()
            client.send(FETCH, 4, 1)
            await h.until(lambda: len(h.purgatory) == 1)
            for session in h.server.sessions():
                session.hold_for_stop()
            client.send(PRODUCE, 3, 2, b"too late")
            await h.server.stop(h.purgatory.stop)
            assert await client.receive() == (1, b"stopping")
            assert await client.closed() == b""
            assert h.metrics.request(PRODUCE).count == 0

    run(test)


def test_a_half_open_storm_leaves_no_counts_behind() -> None:
    async def test() -> None:
        async with Harness(echo) as h:
            port = h.server.listeners[0].port
            for _ in range(100):
                sock = socket.create_connection(("127.0.0.1", port))
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.close()
            client = await h.connect()
            client.send(PRODUCE, 3, 1, b"x")
            await client.receive()
            await h.until(lambda: h.metrics.connections_open == 1)
            assert h.server._per_ip == {"127.0.0.1": 1}

    run(test)


def test_a_stop_says_goodbye_before_it_closes() -> None:
    """Closing at once would reset a connection whose peer is still sending, answers and all."""

    async def test() -> None:
        async with Harness(echo) as h:
            client = await h.connect()
            client.send(PRODUCE, 3, 1, b"x")
            await client.receive()
            (session,) = h.server.sessions()
            session.hold_for_stop()
            session.wind_up()
            assert await client.closed() == b"", "it is told that nothing more will come"
            client.send(PRODUCE, 3, 2, b"on its way")
            received = h.metrics.sockets.bytes_in
            await h.until(lambda: h.metrics.sockets.bytes_in > received)
            assert h.metrics.connections_open == 1, "what was on its way has been read"
            session.wind_up()
            await h.until(lambda: h.metrics.connections_open == 0)

    run(test)


def test_a_reset_that_comes_with_the_goodbye_does_not_end_the_stop() -> None:
    """asyncio's own loop raises what uvloop finds out later."""

    async def test() -> None:
        async with Harness(echo) as h:
            client = await h.connect()
            client.send(PRODUCE, 3, 1, b"x")
            await client.receive()
            (session,) = h.server.sessions()
            assert session.transport is not None

            class Reset:
                def __init__(self, transport: asyncio.Transport) -> None:
                    self._transport = transport

                def __getattr__(self, name: str) -> object:
                    return getattr(self._transport, name)

                def write_eof(self) -> None:
                    raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

            session.transport = Reset(session.transport)
            await h.server.stop(h.purgatory.stop)
            assert h.metrics.connections_open == 0

    run(test)


def test_a_sweep_that_fails_is_not_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with Harness(echo) as h:
            before = h.server._sweep_handle
            monkeypatch.setattr(h.server, "sweep", lambda: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                h.server._tick()
            assert h.server._sweep_handle is not None and h.server._sweep_handle is not before
            assert before is not None
            before.cancel()

    run(test)
