# What a request is handled with (request.pyx).

from libc.stdint cimport int64_t

from kcore._native.framing cimport FrameBuffer


cdef enum:
    LATENCY_BUCKET_COUNT = 25


cdef int64_t now_ns() noexcept nogil


cdef class RequestMetrics:
    cdef public int64_t errors
    cdef readonly int64_t count
    cdef readonly int64_t total_us
    cdef int64_t _buckets[LATENCY_BUCKET_COUNT]
    cpdef int observe(self, int64_t elapsed_us) except -1
    cdef int observe_run(self, int64_t elapsed_us, int count) noexcept


cdef class RequestContext:
    cdef readonly int api_key
    cdef readonly int api_version
    cdef readonly int correlation_id
    cdef readonly object client_id
    cdef readonly object session
    cdef readonly object services
    cdef readonly object principal
    cdef readonly object listener
    cdef readonly int64_t now_ms


cdef class RunHandler:
    """Handles requests of one API that stand one behind the other in a connection's bytes."""
    # How many it has handled, from the request at hand on, `most` at most; 0: somebody else must.
    # None before the last of them is left over. `answers` gets the bytes of their answers.
    cdef int take(self, FrameBuffer frames, int64_t now_ms, int most, list answers) except -1


cdef class RequestRow:
    cdef readonly int key
    cdef readonly int min_version
    cdef readonly int max_version
    cdef readonly bint raw
    cdef readonly bint pipelined
    cdef public object handler
    cdef readonly RequestMetrics metrics
    cdef public RunHandler runs         # None: there is none for this API


cdef class RequestDispatch:
    cdef list _by_key
    cdef object _decode
    cdef object _encode
    cpdef RequestRow row(self, int api_key, int api_version)
    cpdef object begin(self, RequestRow row, RequestContext ctx, object frame, Py_ssize_t pos)
