# What a request is handled with (request.pyx).

from libc.stdint cimport int64_t


cdef enum:
    LATENCY_BUCKET_COUNT = 25


cdef int64_t now_ns() noexcept nogil


cdef class RequestMetrics:
    cdef public int64_t errors
    cdef readonly int64_t count
    cdef readonly int64_t total_us
    cdef int64_t _buckets[LATENCY_BUCKET_COUNT]
    cpdef int observe(self, int64_t elapsed_us) except -1


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


cdef class RequestRow:
    cdef readonly int key
    cdef readonly int min_version
    cdef readonly int max_version
    cdef readonly bint raw
    cdef readonly bint pipelined
    cdef public object handler
    cdef readonly RequestMetrics metrics


cdef class RequestDispatch:
    cdef list _by_key
    cdef object _decode
    cdef object _encode
    cpdef RequestRow row(self, int api_key, int api_version)
    cpdef object begin(self, RequestRow row, RequestContext ctx, object frame, Py_ssize_t pos)
