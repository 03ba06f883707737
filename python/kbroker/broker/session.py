"""One connection: bytes in, requests handled, answers out in the order of the requests.

Everything a wake-up brought is handled before anything is written; then one write. A request that
waits keeps its place in the queue of answers. `pipelined` ones (produce, fetch) let later requests
be handled meanwhile, up to REQUESTS_AHEAD_MAX; any other holds the rest of the connection back, so
that a client sees its own admin requests take effect one after the other.

Reading stops, and what was read stays raw, while a request holds the rest back, too many answers
are outstanding, the client does not take its answers, or all connections together hold too much.
There is no timer per connection or request: the server calls `sweep` about once a second.

`asyncio.BufferedProtocol` is the base because plain asyncio insists on it; uvloop asks only for the
methods.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from typing import TYPE_CHECKING, Any, cast

from kbroker.base import limits
from kbroker.broker import output
from kbroker.broker.context import ANONYMOUS, RequestContext
from kbroker.broker.dispatch import CloseConnection, Parts, Pending
from kcore._native.framing import BadFrame, FrameBuffer

if TYPE_CHECKING:
    from kbroker.broker.server import Server

log = logging.getLogger("kbroker.session")

# A wake-up may bring many fetches: their answers leave before the next ones are read.
_FLUSH_BYTES = 1024 * 1024


class Session(asyncio.BufferedProtocol):
    __slots__ = (
        "_answers",
        "_closing",
        "_frames",
        "_held_by",
        "_last_active_ms",
        "_opened_ms",
        "_out",
        "_out_bytes",
        "_partial_since_ms",
        "_reading",
        "_running",
        "_said_goodbye",
        "_saw_request",
        "_server",
        "_sock",
        "_stalled_bytes",
        "_stalled_since_ms",
        "_transport",
        "_writable",
        "client_software",
        "listener",
        "peer",
        "principal",
    )

    def __init__(self, server: Server, listener: str, peer: str, sock: socket.socket) -> None:
        """`sock` is what the transport will be made of; the transport owns and closes it."""
        self._server = server
        self._sock = sock
        self.listener = listener
        self.peer = peer
        self.principal = ANONYMOUS
        self.client_software: tuple[str, str] | None = None
        self._frames = FrameBuffer(server.pool, server.flexible_from, server.frame_bytes_max)
        self._transport: asyncio.Transport | None = None
        # Answers not yet written, in request order: ready ones as their parts.
        self._answers: deque[Parts | Pending] = deque()
        self._held_by: Pending | None = None
        self._out: Parts = []
        self._out_bytes = 0
        self._reading = True
        self._writable = True
        self._running = False
        self._closing = False
        self._said_goodbye = False
        now_ms = server.clock.monotonic_ms()
        self._opened_ms = now_ms
        self._last_active_ms = now_ms
        self._partial_since_ms = 0
        self._stalled_since_ms = 0
        self._stalled_bytes = 0
        self._saw_request = False

    # ------------------------------------------------------------- called by the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(
            high=limits.OUTPUT_BYTES_PAUSE, low=limits.OUTPUT_BYTES_RESUME
        )
        self._server.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        self._transport = None
        self._frames.close()
        for answer in self._answers:
            if type(answer) is Pending:
                answer.cancel()
        self._answers.clear()
        self._out.clear()
        self._server.closed(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._frames.get_buffer(sizehint)

    def buffer_updated(self, nbytes: int) -> None:
        self._frames.buffer_updated(nbytes)
        self._server.metrics.socket_bytes_in += nbytes
        if not self._closing:
            self._run()
        else:
            self._frames.close()

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._resume()

    # ------------------------------------------------------------- requests

    def _run(self) -> None:
        """Handles what there is, writes what is ready, decides whether to read on."""
        frames = self._frames
        self._running = True
        handled = False
        try:
            while not self._blocked() and frames.next_request():
                handled = True
                self._handle()
                if self._out_bytes > _FLUSH_BYTES:
                    self._flush()
        except (BadFrame, CloseConnection) as error:
            self.close(str(error), malformed=True)
        except Exception:
            log.exception("connection of %s: a bug in the broker ended it", self.peer)
            self.close("internal error")
        finally:
            self._running = False
        frames.settle()
        if handled:
            self._saw_request = True
            self._partial_since_ms = 0
            self._server.request_taken(self)
        self._last_active_ms = self._server.now_ms
        if not frames.unconsumed or self._blocked():
            self._partial_since_ms = 0
        elif not self._partial_since_ms:
            self._partial_since_ms = self._server.now_ms
        if self._out:
            self._flush()
        self._choose_reading()

    def _handle(self) -> None:
        frames = self._frames
        server = self._server
        row = server.dispatcher.row(frames.api_key, frames.api_version)
        if frames.body_pos < 0 and row.api.serves(frames.api_version):
            raise CloseConnection(str(frames.header_error))
        ctx = RequestContext(
            frames.api_key,
            frames.api_version,
            frames.correlation_id,
            frames.client_id,
            self,
            server.services,
            self.principal,
            self.listener,
            server.clock.wall_ms(),
        )
        answer = server.dispatcher.begin(row, ctx, frames.frame, frames.body_pos)
        if type(answer) is Pending:
            answer.on_done = self._on_answer
            self._answers.append(answer)
            if not row.pipelined:
                self._held_by = answer
        elif answer is not None:
            if self._answers:
                self._answers.append(cast(Parts, answer))
            else:
                self._emit(cast(Parts, answer))

    def _blocked(self) -> bool:
        return (
            self._closing
            or self._held_by is not None
            or not self._writable
            or len(self._answers) >= limits.REQUESTS_AHEAD_MAX
        )

    def _on_answer(self) -> None:
        """A pending request got its answer, at any time but while this connection is in _run."""
        if self._held_by is not None and self._held_by.done:
            self._held_by = None
        answers = self._answers
        while answers:
            head = answers[0]
            if type(head) is Pending:
                if not head.done:
                    break
                if head.close_reason is not None:
                    self.close(head.close_reason)
                    return
                if head.parts is not None:
                    self._emit(head.parts)
            else:
                self._emit(cast(Parts, head))
            answers.popleft()
        if not self._running:
            if self._out:
                self._flush()
            self._resume()

    def _resume(self) -> None:
        """Something that may have held this connection back is gone."""
        if self._reading and not self._frames.unconsumed:
            return
        if not self._running and not self._blocked():
            self._run()

    # ------------------------------------------------------------- bytes out

    def _emit(self, parts: Parts) -> None:
        self._out += parts
        for part in parts:
            self._out_bytes += len(part)

    def _flush(self) -> None:
        out, self._out = self._out, []
        size, self._out_bytes = self._out_bytes, 0
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self._server.metrics.socket_bytes_out += size
        output.write(transport, self._sock, out, size)

    # ------------------------------------------------------------- reading on and off

    def _choose_reading(self) -> None:
        transport = self._transport
        if transport is None or self._closing:
            return
        # A connection that is held back reads on until there is something to hold: only so does
        # it notice that its peer has left.
        read = not (self._blocked() and self._frames.unconsumed)
        read = read and self._server.may_read(self)
        if read != self._reading:
            self._reading = read
            if read:
                transport.resume_reading()
            else:
                self._server.metrics.reads_paused += 1
                transport.pause_reading()

    def budget_freed(self) -> None:
        """The server's word that reading may go on."""
        self._choose_reading()

    # ------------------------------------------------------------- time and the end

    @property
    def waiting_count(self) -> int:
        """Requests taken and not answered."""
        return len(self._answers)

    def sweep(self, now_ms: int) -> None:
        """Closes the connection if it has outstayed one of its deadlines."""
        transport = self._transport
        if transport is None:
            return
        self._frames.sweep()
        if not self._saw_request and now_ms - self._opened_ms > limits.FIRST_FRAME_MS_MAX:
            self._expire("sent no request in time")
        elif self._partial_since_ms and (
            now_ms - self._partial_since_ms > limits.PARTIAL_FRAME_MS_MAX
        ):
            self._expire("did not finish a request in time")
        elif self._write_stalled(transport.get_write_buffer_size(), now_ms):
            self._server.metrics.connections_closed_slow += 1
            log.info("connection of %s closed: it takes no answers", self.peer)
            transport.abort()
        elif (
            not self._answers
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
        if self._transport is not None:
            self._transport.abort()

    def close(self, why: str, *, malformed: bool = False) -> None:
        """Ends the connection for a reason worth a log line; answers already made still leave."""
        if self._closing:
            return
        if malformed:
            self._server.metrics.connections_closed_malformed += 1
        self._server.complain(self.peer, why)
        self.shut()

    def hold_for_stop(self) -> None:
        """The broker is stopping: takes no further requests, still answers those it took. What
        else arrives is read and dropped: closing a socket with bytes unread in it resets it, and
        a reset would take away answers that are on their way."""
        self._closing = True
        if self._transport is not None and not self._reading:
            self._reading = True
            self._transport.resume_reading()

    def wind_up(self) -> None:
        """Called now and then during a stop: once all is answered and sent, says so to the peer,
        and closes one call later, when what was still on its way here has been dropped."""
        transport = self._transport
        if transport is None or self._answers or transport.get_write_buffer_size():
            return
        if self._said_goodbye:
            transport.close()
        else:
            self._said_goodbye = True
            transport.write_eof()

    def shut(self) -> None:
        """Ends the connection quietly, after what is queued has been written."""
        self._closing = True
        if self._out:
            self._flush()
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


def address_of(peer: Any) -> str:
    """The address part of a socket's peer name: what limits per peer count by."""
    return str(peer[0]) if isinstance(peer, tuple) and peer else "unknown"
