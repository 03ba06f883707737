"""One connection: bytes in, requests handled, answers out in the order of the requests.

What runs for each request is native (kcore/_native/connection.pyx); here is the rest of a
connection's life. `pipelined` requests (produce, fetch) let later ones be handled while they wait,
up to REQUESTS_AHEAD_MAX; any other holds the rest of the connection back, so that a client sees its
own admin requests take effect one after the other.

Reading stops, and what was read stays raw, while a request holds the rest back, too many answers
are outstanding, the client does not take its answers, or all connections together hold too much.
There is no timer per connection or request: the server calls `sweep` about once a second.

`asyncio.BufferedProtocol` is the base because plain asyncio insists on it; uvloop asks only for the
methods.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from typing import TYPE_CHECKING, Any, cast

from kbroker.base import limits
from kbroker.broker import output
from kbroker.broker.context import ANONYMOUS
from kbroker.broker.dispatch import CloseConnection, Parts, Pending
from kcore._native.connection import Connection
from kcore._native.framing import BadFrame, FrameBuffer

if TYPE_CHECKING:
    from kbroker.broker.server import Server

log = logging.getLogger("kbroker.session")


class Session(Connection, asyncio.BufferedProtocol):
    __slots__ = (
        "_last_active_ms",
        "_opened_ms",
        "_said_goodbye",
        "_server",
        "_stalled_bytes",
        "_stalled_since_ms",
        "_swept_ms",
        "client_software",
        "peer",
    )

    def __init__(self, server: Server, listener: str, peer: str, sock: socket.socket) -> None:
        """`sock` is what the transport will be made of; the transport owns and closes it."""
        super().__init__(
            FrameBuffer(server.pool, server.flexible_from, server.frame_bytes_max),
            server.pool,
            server.dispatcher,
            server.metrics.sockets,
            server.clock,
            server.services,
            listener,
            ANONYMOUS,
            sock.fileno(),
            limits.REQUESTS_AHEAD_MAX,
        )
        self._server = server
        self.peer = peer
        self.client_software: tuple[str, str] | None = None
        self._said_goodbye = False
        now_ms = server.clock.monotonic_ms()
        self._opened_ms = now_ms
        self._swept_ms = now_ms
        self._last_active_ms = now_ms
        self._stalled_since_ms = 0
        self._stalled_bytes = 0

    # ------------------------------------------------------------- called by the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(
            high=limits.OUTPUT_BYTES_PAUSE, low=limits.OUTPUT_BYTES_RESUME
        )
        self._server.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        waiting = [answer for answer in self.answers if type(answer) is Pending]
        self.drop()
        for answer in waiting:
            answer.cancel()
        self._server.closed(self)

    # ------------------------------------------------------------- called by Connection

    def coarse_ms(self) -> int:
        return self._server.now_ms

    def finished_one(self) -> None:
        self._server.request_taken(self)

    def give_way(self) -> None:
        """A loop reads one connection up to 32 times before it turns to the next: a stream of large
        requests would have all others wait for several of them. This one goes on a turn later."""
        alone = self._server.metrics.connections_open < 2
        transport = self.transport
        if not alone and transport is not None and self.reading and not transport.is_closing():
            transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        transport = self.transport
        if transport is not None and self.reading and not transport.is_closing():
            transport.resume_reading()

    def failed(self, error: Exception) -> None:
        if isinstance(error, (BadFrame, CloseConnection)):
            self.close(str(error), malformed=True)
        else:
            log.error("connection of %s: a bug in the broker ended it", self.peer, exc_info=error)
            self.close("internal error")

    def queue(self, transport: asyncio.Transport, parts: Parts, sent: int) -> None:
        output.queue(transport, parts, sent)

    # ------------------------------------------------------------- reading on and off

    def choose_reading(self) -> None:
        transport = self.transport
        if transport is None or self.closing:
            return
        # A connection that is held back reads on until there is something to hold: only so does
        # it notice that its peer has left.
        read = not (self.blocked and self.frames.unconsumed)
        read = read and self._server.may_read(self)
        if read != self.reading:
            self.reading = read
            if read:
                transport.resume_reading()
            else:
                self._server.metrics.reads_paused += 1
                transport.pause_reading()

    def budget_freed(self) -> None:
        """The server's word that reading may go on."""
        self.choose_reading()

    # ------------------------------------------------------------- time and the end

    @property
    def waiting_count(self) -> int:
        """Requests taken and not answered."""
        return len(self.answers)

    def sweep(self, now_ms: int) -> None:
        """Closes the connection if it has outstayed one of its deadlines."""
        transport = self.transport
        if transport is None:
            return
        self.frames.sweep()
        if self.active:
            self.active = False
            self._last_active_ms = self._swept_ms
        self._swept_ms = now_ms
        if not self.saw_request and now_ms - self._opened_ms > limits.FIRST_FRAME_MS_MAX:
            self._expire("sent no request in time")
        elif self.partial_since_ms and (
            now_ms - self.partial_since_ms > limits.PARTIAL_FRAME_MS_MAX
        ):
            self._expire("did not finish a request in time")
        elif self._write_stalled(transport.get_write_buffer_size(), now_ms):
            self._server.metrics.connections_closed_slow += 1
            log.info("connection of %s closed: it takes no answers", self.peer)
            transport.abort()
        elif (
            not self.answers
            and now_ms - self._last_active_ms > self._server.idle_ms_max
            and transport.get_write_buffer_size() == 0
        ):
            self._server.metrics.connections_closed_idle += 1
            transport.close()

    def _write_stalled(self, queued_bytes: int, now_ms: int) -> bool:
        if queued_bytes == 0 or queued_bytes != self._stalled_bytes:
            self._stalled_bytes = queued_bytes
            self._stalled_since_ms = now_ms
            return False
        return now_ms - self._stalled_since_ms > limits.WRITE_STALL_MS_MAX

    def _expire(self, why: str) -> None:
        self._server.metrics.connections_closed_idle += 1
        self._server.complain(self.peer, why)
        if self.transport is not None:
            self.transport.abort()

    def close(self, why: str, *, malformed: bool = False) -> None:
        """Ends the connection for a reason worth a log line; answers already made still leave."""
        if self.closing:
            return
        if malformed:
            self._server.metrics.connections_closed_malformed += 1
        self._server.complain(self.peer, why)
        self.shut()

    def hold_for_stop(self) -> None:
        """The broker is stopping: takes no further requests, still answers those it took. What
        else arrives is read and dropped: closing a socket with bytes unread in it resets it, and
        a reset would take away answers that are on their way."""
        self.closing = True
        if self.transport is not None and not self.reading:
            self.reading = True
            self.transport.resume_reading()

    def wind_up(self) -> None:
        """Called now and then during a stop: once all is answered and sent, says so to the peer,
        and closes one call later, when what was still on its way here has been dropped."""
        transport = self.transport
        if transport is None or self.answers or transport.get_write_buffer_size():
            return
        if self._said_goodbye:
            transport.close()
        else:
            self._said_goodbye = True
            with contextlib.suppress(OSError):  # it was reset; uvloop finds out later
                transport.write_eof()

    def shut(self) -> None:
        """Ends the connection quietly, after what is queued has been written."""
        self.closing = True
        self.flush()
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()


def address_of(peer: Any) -> str:
    """The address part of a socket's peer name: what limits per peer count by."""
    return str(peer[0]) if isinstance(peer, tuple) and peer else "unknown"
