# Frames out of received bytes (framing.pyx), for the units that take them one by one.

from libc.stdint cimport uint8_t


cdef class ReceivePool:
    cdef bytearray _bytes
    cdef object _view
    cdef readonly Py_ssize_t size
    cdef readonly Py_ssize_t held_bytes


cdef class FrameBuffer:
    cdef ReceivePool _pool
    cdef bytearray _own
    cdef object _own_view
    cdef bytes _flexible_from
    cdef bint _in_shared
    cdef bint _used_since_sweep
    cdef Py_ssize_t _start
    cdef Py_ssize_t _end
    cdef Py_ssize_t _held
    cdef bytes _client_id_bytes
    cdef public Py_ssize_t frame_bytes_max
    cdef readonly Py_ssize_t frame_size     # of the request at hand; -1: there is none
    cdef readonly int api_key
    cdef readonly int api_version
    cdef readonly int correlation_id
    cdef readonly object client_id
    cdef readonly Py_ssize_t body_pos
    cdef readonly str header_error

    cpdef object get_buffer(self, Py_ssize_t sizehint)
    cpdef int buffer_updated(self, Py_ssize_t n) except -1
    cpdef bint next_request(self) except -1
    cdef const uint8_t* frame_bytes(self) noexcept
    cdef object frame_view(self)
    cdef bint next_is(self, int api_key, int api_version) noexcept
    cdef Py_ssize_t place(self) noexcept
    cdef void go_back(self, Py_ssize_t place) noexcept
    cpdef int settle(self) except -1
    cpdef sweep(self)
    cpdef close(self)
    cdef const uint8_t* _base(self) noexcept
    cdef Py_ssize_t _wanted(self)
    cdef int _grow(self, Py_ssize_t size) except -1
    cdef int _parse_header(self, const uint8_t* p, Py_ssize_t size) except -1
    cdef bint _same_client_id(self, const uint8_t* p, Py_ssize_t size)
    cdef int _bad_header(self, str why) except -1
    cdef void _drop_own(self)
