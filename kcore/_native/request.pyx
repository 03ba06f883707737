"""What every request passes through: its context, its API's row, its handler, its counters.

The part of dispatch that runs for each request, without the parts that are rare: those are the
methods that `RequestDispatch` leaves to its subclass (kbroker/broker/dispatch.py). Nothing here
knows an API, a broker or a loop.
"""

cimport cython
from libc.stdint cimport int64_t
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

cdef extern from "Python.h":
    bint PyCoro_CheckExact(object o)

LATENCY_BUCKETS = LATENCY_BUCKET_COUNT


cdef int64_t now_ns() noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return <int64_t>t.tv_sec * 1_000_000_000 + t.tv_nsec


@cython.final
cdef class RequestMetrics:
    """Requests of one API: how many, how many failed inside the broker, how long they took.

    Time runs from the moment the frame is complete to the moment its answer is ready, so a parked
    fetch counts the time it was parked. Bucket i counts requests that took less than 2**i
    microseconds (and not less than half of that); the last one is open.
    """

    @property
    def buckets(self):
        return [self._buckets[i] for i in range(LATENCY_BUCKET_COUNT)]

    cpdef int observe(self, int64_t elapsed_us) except -1:
        return self.observe_run(elapsed_us, 1)

    cdef int observe_run(self, int64_t elapsed_us, int count) noexcept:
        """Requests that were answered together: each took all of the time."""
        cdef int bucket = 0
        self.count += count
        self.total_us += elapsed_us * count
        while elapsed_us > 0 and bucket < LATENCY_BUCKET_COUNT - 1:
            elapsed_us >>= 1
            bucket += 1
        self._buckets[bucket] += count
        return 0


@cython.final
@cython.freelist(64)
cdef class RequestContext:
    """What a handler is told about the request it serves.

    `now_ms` is the wall clock when the wake-up that brought the request began: one reading for
    all requests of a wake-up. `session` is for identity and metrics; handlers do not write to it.
    """

    def __init__(self, int api_key, int api_version, int correlation_id, client_id, session,
                 services, principal, listener, int64_t now_ms):
        self.api_key = api_key
        self.api_version = api_version
        self.correlation_id = correlation_id
        self.client_id = client_id
        self.session = session
        self.services = services
        self.principal = principal
        self.listener = listener
        self.now_ms = now_ms


cdef class RunHandler:
    cdef int take(self, FrameBuffer frames, int64_t now_ms, int most, list answers) except -1:
        return 0


cdef class RequestRow:
    """An API as dispatch sees it: which versions, how its handler wants to be called, its counters.

    `handler` may be exchanged: the first call of a lazily imported one does that.
    """

    def __init__(self, int key, int min_version, int max_version, bint raw, bint pipelined,
                 handler, RequestMetrics metrics not None):
        self.key = key
        self.min_version = min_version
        self.max_version = max_version
        self.raw = raw
        self.pipelined = pipelined
        self.handler = handler
        self.metrics = metrics


cdef class RequestDispatch:
    """Rows by key, and the way of a request that neither fails nor waits.

    A subclass has `refused(api_key, api_version)`: the row after all, or an exception;
    `later(row, ctx, request, coroutine, started_ns)`: what a handler that waits answers with;
    `failed(row, ctx, request, error)`: the answer to a request whose handler raised.
    """

    def __init__(self, rows, decode, encode):
        """`decode(key, version, frame, pos)` -> message, `encode(key, version, correlation_id,
        message)` -> bytes, for rows that are not raw."""
        self._by_key = [None] * (1 + max([row.key for row in rows], default=-1))
        for row in rows:
            self._by_key[row.key] = row
        self._decode = decode
        self._encode = encode

    cpdef RequestRow row(self, int api_key, int api_version):
        cdef RequestRow row
        if 0 <= api_key < len(self._by_key):
            row = self._by_key[api_key]
            if row is not None and row.min_version <= api_version <= row.max_version:
                return row
        return self.refused(api_key, api_version)

    cpdef object begin(self, RequestRow row, RequestContext ctx, object frame, Py_ssize_t pos):
        """A list of buffers: the answer. None: this request has none (acks=0). Else whatever
        `later` made of it."""
        cdef int64_t started_ns = now_ns()
        cdef object request = None
        try:
            if row.raw:
                answer = row.handler(ctx, frame, pos)
            else:
                request = self._decode(row.key, ctx.api_version, frame, pos)
                answer = row.handler(ctx, request)
            if PyCoro_CheckExact(answer):
                return self.later(row, ctx, request, answer, started_ns)
            if not row.raw:
                answer = [self._encode(row.key, ctx.api_version, ctx.correlation_id, answer)]
            elif answer is not None and type(answer) is not list:
                raise TypeError(f"a raw handler returns a list of buffers or None, not {answer!r}")
        except Exception as error:
            answer = self.failed(row, ctx, request, error)
        row.metrics.observe((now_ns() - started_ns) // 1000)
        return answer
