"""The part of a connection that runs for each request: frames in, handlers called, answers out.

Everything that a wake-up brought is handled before anything is written; then one write. A request
that waits keeps its place in the queue of answers, so answers leave in the order of the requests.
Deadlines, budgets, complaints and the end of a connection are its subclass's
(kbroker/broker/session.py), which is also what says when to read and when not.
"""

cimport cython
from libc.stdint cimport int64_t

from kcore._native.framing cimport FrameBuffer, ReceivePool
from kcore._native.request cimport RequestContext, RequestDispatch, RequestRow, now_ns
from kcore._native.sending cimport send_now

from collections import deque

from kcore._native.framing import BadFrame

cdef enum:
    # A wake-up may bring many fetches: their answers leave before the next ones are read.
    FLUSH_BYTES = 1024 * 1024
    # After a request of this size others have their turn, though more of the next may be there.
    LARGE_REQUEST_BYTES = 256 * 1024


cdef class SocketCounters:
    """Bytes through all sockets of a broker."""

    cdef public int64_t bytes_in
    cdef public int64_t bytes_out


cdef class Connection:
    """What a subclass has: `queue(transport, parts, sent)` for what the socket did not take of them,
    `failed(error)` and `close(why)` to end the connection, `choose_reading()` for when `reading`
    may have to change, `finished_one()` for when a request was taken while `finishing`,
    `give_way()` after a large request, and `coarse_ms()`, a monotonic time that may be a second old.
    """

    cdef readonly FrameBuffer frames
    cdef readonly SocketCounters counters
    cdef ReceivePool _pool
    cdef RequestDispatch _dispatch
    cdef object _services
    cdef object _clock
    cdef public object transport
    cdef public str listener
    cdef public object principal
    # Answers not yet written, in request order: ready ones as lists of their parts.
    cdef readonly object answers
    cdef object _held_by
    cdef list _out
    cdef Py_ssize_t _out_bytes
    cdef Py_ssize_t _ahead_max
    cdef int _fd
    cdef bint _running
    # The transport may have bytes queued: what is written now must go behind them.
    cdef bint _queued
    cdef public bint reading
    cdef public bint writable
    cdef public bint closing
    cdef readonly bint saw_request
    # _out is a list that a handler made: not ours to append to.
    cdef bint _borrowed
    # When a frame was begun that is not finished, by the subclass's clock; 0 when none is.
    cdef readonly int64_t partial_since_ms
    # Something arrived; whoever looks at it resets it.
    cdef public bint active
    # The server waits for this connection's next request (see may_read there).
    cdef public bint finishing

    def __init__(self, FrameBuffer frames not None, ReceivePool pool not None,
                 RequestDispatch dispatch not None, SocketCounters counters not None, clock,
                 services, str listener, principal, int fd, Py_ssize_t ahead_max):
        self.frames = frames
        self.counters = counters
        self._pool = pool
        self._dispatch = dispatch
        self._services = services
        self._clock = clock
        self.listener = listener
        self.principal = principal
        self.answers = deque()
        self._out = []
        self._ahead_max = ahead_max
        self._fd = fd
        self.reading = True
        self.writable = True

    # ------------------------------------------------------------- called by the loop

    def get_buffer(self, Py_ssize_t sizehint):
        return self.frames.get_buffer(sizehint)

    def buffer_updated(self, Py_ssize_t nbytes):
        self.frames.buffer_updated(nbytes)
        self.counters.bytes_in += nbytes
        if self.closing:
            self.frames.close()
        else:
            self.run()

    def pause_writing(self):
        self.writable = False

    def resume_writing(self):
        self.writable = True
        self.resume()

    # ------------------------------------------------------------- requests

    @property
    def blocked(self):
        """No further request may be taken now."""
        return self._is_blocked()

    cdef bint _is_blocked(self):
        return (
            self.closing
            or self._held_by is not None
            or not self.writable
            or len(self.answers) >= self._ahead_max
        )

    cpdef run(self):
        """Handles what there is, writes what is ready, decides whether to read on."""
        cdef FrameBuffer frames = self.frames
        cdef bint handled = False
        cdef Py_ssize_t largest = 0
        cdef int64_t now_ms = 0
        self._running = True
        try:
            while not self._is_blocked() and frames.next_request():
                if not handled:
                    handled = True
                    now_ms = self._clock.wall_ms()
                largest = max(largest, frames.frame_size)
                self._handle(now_ms)
                if self._out_bytes > FLUSH_BYTES:
                    self.flush()
        except Exception as error:
            self.failed(error)
        finally:
            self._running = False
        frames.settle()
        self.active = True
        if handled:
            self.saw_request = True
            self.partial_since_ms = 0
            if self.finishing:
                self.finished_one()
        if frames._end == frames._start or self._is_blocked():
            self.partial_since_ms = 0
        elif not self.partial_since_ms:
            self.partial_since_ms = self.coarse_ms()
        if self._out_bytes:
            self.flush()
        if self._must_choose():
            self.choose_reading()
        if largest >= LARGE_REQUEST_BYTES:
            self.give_way()

    cdef int _handle(self, int64_t now_ms) except -1:
        cdef FrameBuffer frames = self.frames
        cdef RequestRow row = self._dispatch.row(frames.api_key, frames.api_version)
        cdef object answer
        if row.runs is not None and self._handle_run(row, now_ms):
            return 0
        if frames.body_pos < 0 and row.min_version <= frames.api_version <= row.max_version:
            raise BadFrame(frames.header_error)
        answer = self._dispatch.begin(
            row,
            RequestContext(
                frames.api_key, frames.api_version, frames.correlation_id, frames.client_id, self,
                self._services, self.principal, self.listener, now_ms),
            frames.frame_view(),
            frames.body_pos,
        )
        if type(answer) is list:
            if self.answers:
                self.answers.append(answer)
            else:
                self._emit(<list>answer)
        elif answer is not None:
            answer.on_done = self.on_answer
            self.answers.append(answer)
            if not row.pipelined:
                self._held_by = answer
        return 0

    cdef bint _handle_run(self, RequestRow row, int64_t now_ms) except -1:
        """The request at hand, and those behind it that are handled with it; False: none was."""
        cdef int64_t begun_ns = now_ns()
        cdef list answers = []
        cdef int count = row.runs.take(
            self.frames, now_ms, <int>(self._ahead_max - len(self.answers)), answers)
        if not count:
            return False
        row.metrics.observe_run((now_ns() - begun_ns) // 1000, count)
        if not answers:
            return True
        if self.answers:
            self.answers.append(answers)
        else:
            self._emit(answers)
        return True

    def on_answer(self):
        """A pending request got its answer, at any time but while this connection is in run."""
        cdef object answers = self.answers
        cdef object head
        if self._held_by is not None and self._held_by.done:
            self._held_by = None
        while answers:
            head = answers[0]
            if type(head) is list:
                self._emit(<list>head)
            else:
                if not head.done:
                    break
                if head.close_reason is not None:
                    self.close(head.close_reason)
                    return
                if head.parts is not None:
                    self._emit(head.parts)
            answers.popleft()
        if not self._running:
            if self._out_bytes:
                self.flush()
            self.resume()

    cpdef resume(self):
        """Something that may have held this connection back is gone."""
        if self.reading and self.frames._end == self.frames._start:
            return
        if not self._running and not self._is_blocked():
            self.run()

    cdef bint _must_choose(self):
        # Reading, and nothing speaks against it: by far the most common end of a wake-up.
        if not self.reading or self._pool.held_bytes:
            return True
        return self.frames._end != self.frames._start and self._is_blocked()

    # ------------------------------------------------------------- bytes out

    cdef int _emit(self, list parts) except -1:
        cdef object part
        if not self._out_bytes:
            self._out = parts
            self._borrowed = True
        elif self._borrowed:
            self._out = self._out + parts
            self._borrowed = False
        else:
            self._out += parts
        for part in parts:
            self._out_bytes += len(part)
        return 0

    cpdef flush(self):
        """Writes what is ready, whether or not it is a whole wake-up's."""
        cdef list out = self._out
        cdef Py_ssize_t size = self._out_bytes
        cdef Py_ssize_t sent
        cdef object transport = self.transport
        self._out = []
        self._borrowed = False
        self._out_bytes = 0
        if not size or transport is None or transport.is_closing():
            return
        self.counters.bytes_out += size
        if self._queued:
            self._queued = transport.get_write_buffer_size() > 0
        # Full, or gone: the transport learns the latter from its own attempt, and tells us.
        sent = 0 if self._queued else send_now(self._fd, out, size)
        if sent < size:
            self._queued = True
            self.queue(transport, out, sent)

    def drop(self):
        """The connection is gone: nothing will be sent."""
        self.closing = True
        self.transport = None
        self._fd = -1
        self.frames.close()
        self.answers.clear()
        self._out = []
        self._out_bytes = 0
