"""Frames and request headers out of received bytes: sans-I/O, no loop, no sockets.

A `ReceivePool` belongs to one event loop and holds the one receive buffer that all of its
connections read into. That is sound because a loop asks for a buffer, reads, and reports the bytes
before it turns to the next connection. A `FrameBuffer` belongs to one connection. It has bytes of
its own only while a frame is unfinished or held back: an idle connection holds none.

    view = frames.get_buffer(-1)         # read into it
    frames.buffer_updated(n)
    while frames.next_request(): ...     # frames.frame, .api_key, .body_pos ...
    frames.settle()                      # keeps what was not consumed; before anybody reads again

Growth follows the bytes that arrived, never the length that was claimed: a frame that says 100 MiB
and sends ten bytes costs one small buffer. What does not fit the first read is received exactly
where it will be parsed and exactly to its end, so no frame is moved for the sake of its neighbour.

The views handed out are writable (a produce is stamped in place). They keep their memory alive,
but the next read may overwrite it: they are to be used up before.
"""

cimport cython
from cpython.bytearray cimport (
    PyByteArray_AS_STRING,
    PyByteArray_FromStringAndSize,
    PyByteArray_Resize,
)
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int32_t, uint8_t, uint32_t
from libc.string cimport memcmp, memcpy, memmove

from kcore._native.endian cimport load_i16, load_i32

from kcore.errors import CoreError

cdef enum:
    HEADER_FIXED_BYTES = 8  # api key, version, correlation id
    HEADER_TAGS_MAX = 64
    NEVER_FLEXIBLE = 255
    OWN_BYTES_FIRST = 4096
    # A connection's own buffer above this size is kept until it has been idle for a while:
    # returning it to the system after each frame would cost more page faults than the frame.
    OWN_BYTES_SMALL = 32768
    # Less room than this in a buffer that has to grow anyway: grow before reading.
    ROOM_MIN = 65536


class BadFrame(CoreError):
    """The bytes cannot be a request: the connection has to go."""


@cython.final
cdef class ReceivePool:
    """The shared receive buffer of one loop, and the sum of what its connections hold back."""

    def __cinit__(self, Py_ssize_t size=262144):
        if size < OWN_BYTES_SMALL:
            raise ValueError(f"a receive pool needs at least {OWN_BYTES_SMALL} bytes, got {size}")
        self.size = size
        self._bytes = PyByteArray_FromStringAndSize(NULL, size)
        self._view = memoryview(self._bytes)


@cython.final
cdef class FrameBuffer:
    """Splits one connection's bytes into requests. `flexible_from[key]` is an API's first flexible
    version (255: none); an unknown key is read as not flexible, the caller refuses it anyway.

    After a true `next_request()`: `frame` (header and body, without the length prefix), `api_key`,
    `api_version`, `correlation_id`, `client_id`, `body_pos` (-1: the header went wrong after its
    fixed part, `header_error` says how; ApiVersions of a later age must still be answerable).
    """

    def __cinit__(self, ReceivePool pool not None, bytes flexible_from not None,
                  Py_ssize_t frame_bytes_max):
        self._pool = pool
        self._flexible_from = flexible_from
        self._in_shared = True
        self.frame_bytes_max = frame_bytes_max
        self.body_pos = -1
        self.frame_size = -1

    # ------------------------------------------------------------- reading into it

    cpdef object get_buffer(self, Py_ssize_t sizehint):
        """Where the next bytes go. Asking twice without reading is harmless."""
        cdef Py_ssize_t filled = self._end - self._start
        cdef Py_ssize_t target
        if filled == 0:
            self._start = self._end = 0
            if self._own is not None and len(self._own) >= self._pool.size:
                self._in_shared = False
                return self._own_view[:self._pool.size]
            self._in_shared = True
            return self._pool._view
        if self._in_shared or self._start:
            self.settle()
        target = self._wanted()
        if target <= filled:
            target = filled + ROOM_MIN  # whole frames held back, and the caller reads on all the same
        if target > len(self._own) and len(self._own) - filled < ROOM_MIN:
            self._grow(min(target, max(2 * len(self._own), self._pool.size)))
        return self._own_view[filled:min(target, len(self._own))]

    cpdef int buffer_updated(self, Py_ssize_t n) except -1:
        cdef Py_ssize_t room = (self._pool.size if self._in_shared else len(self._own)) - self._end
        if n < 0 or n > room:
            raise ValueError(f"{n} bytes reported, the buffer had room for {room}")
        self._end += n
        return 0

    # ------------------------------------------------------------- taking requests out

    @property
    def unconsumed(self):
        """Bytes received and not yet handed out as requests."""
        return self._end - self._start

    @property
    def capacity(self):
        """Bytes of the connection's own buffer."""
        return 0 if self._own is None else len(self._own)

    cpdef bint next_request(self) except -1:
        """True: the next request is in the attributes. False: its bytes are not complete."""
        cdef Py_ssize_t available = self._end - self._start
        cdef const uint8_t* p
        cdef int32_t size
        self.frame_size = -1
        if available < 4:
            return False
        p = self._base() + self._start
        size = load_i32(p)
        if size <= 0:
            raise BadFrame(f"frame length {size} is not positive")
        if size > self.frame_bytes_max:
            raise BadFrame(f"frame length {size} is above the limit of {self.frame_bytes_max}")
        if size < HEADER_FIXED_BYTES:
            raise BadFrame(f"frame length {size} is too short for a request header")
        if available - 4 < size:
            return False
        self.frame_size = size
        self._start += 4 + size
        self._parse_header(p + 4, size)
        return True

    @property
    def frame(self):
        """The request at hand, without its length prefix; None when there is none."""
        return None if self.frame_size < 0 else self.frame_view()

    cdef object frame_view(self):
        return (self._pool._view if self._in_shared else self._own_view)[
            self._start - self.frame_size:self._start]

    cdef const uint8_t* frame_bytes(self) noexcept:
        return self._base() + self._start - self.frame_size

    cdef bint next_is(self, int api_key, int api_version) noexcept:
        """Whether a whole request of that API and version is next: then `next_request` has it."""
        cdef Py_ssize_t available = self._end - self._start
        cdef const uint8_t* p = self._base() + self._start
        cdef int32_t size
        if available < 4 + HEADER_FIXED_BYTES:
            return False
        size = load_i32(p)
        return (HEADER_FIXED_BYTES <= size <= self.frame_bytes_max and size <= available - 4
                and load_i16(p + 4) == api_key and load_i16(p + 6) == api_version)

    cdef Py_ssize_t place(self) noexcept:
        """Where the request at hand begins, for `go_back`; good until somebody reads or settles."""
        return self._start - self.frame_size - 4

    cdef void go_back(self, Py_ssize_t place) noexcept:
        """`next_request` gives the request at `place`, and all behind it, once more."""
        self._start = place
        self.frame_size = -1

    cpdef int settle(self) except -1:
        """Moves what is left out of the shared buffer, and frees what nobody needs."""
        cdef Py_ssize_t left = self._end - self._start
        cdef Py_ssize_t wanted
        self.frame_size = -1
        self._used_since_sweep = True
        if left == 0:
            self._start = self._end = 0
            if self._own is not None and len(self._own) <= OWN_BYTES_SMALL:
                self._drop_own()
        elif self._in_shared:
            wanted = self._wanted()
            if wanted <= OWN_BYTES_SMALL:
                wanted = max(left, wanted)
            else:
                wanted = max(left, self._pool.size)
            if self._own is None or len(self._own) < wanted:
                self._own = PyByteArray_FromStringAndSize(NULL, wanted)
                self._own_view = memoryview(self._own)
            memcpy(PyByteArray_AS_STRING(self._own), self._base() + self._start, left)
            self._in_shared = False
            self._start, self._end = 0, left
        elif self._start:
            memmove(PyByteArray_AS_STRING(self._own), self._base() + self._start, left)
            self._start, self._end = 0, left
        self._pool.held_bytes += left - self._held
        self._held = left
        return 0

    cpdef sweep(self):
        """Called about once a second: gives back a buffer that nothing went through since."""
        if not self._used_since_sweep and self._end == self._start:
            self._drop_own()
        self._used_since_sweep = False

    cpdef close(self):
        """Forgets all bytes. The connection is gone."""
        self._start = self._end = 0
        self._pool.held_bytes -= self._held
        self._held = 0
        self.frame_size = -1
        self._drop_own()

    # ------------------------------------------------------------- private

    cdef const uint8_t* _base(self) noexcept:
        return <const uint8_t*>PyByteArray_AS_STRING(
            self._pool._bytes if self._in_shared else self._own)

    cdef Py_ssize_t _wanted(self):
        # Size of the unfinished frame with its prefix, as far as that is known and allowed.
        cdef int32_t size
        if self._end - self._start < 4:
            return OWN_BYTES_FIRST
        size = load_i32(self._base() + self._start)
        if size <= 0 or size > self.frame_bytes_max:
            return OWN_BYTES_FIRST  # next_request() refuses it
        return 4 + <Py_ssize_t>size

    cdef int _grow(self, Py_ssize_t size) except -1:
        # Only called with the unconsumed bytes at the front of the own buffer. Resizing in place
        # lets the allocator remap pages instead of copying them.
        cdef bytearray grown
        self._own_view = None
        try:
            PyByteArray_Resize(self._own, size)
        except BufferError:  # somebody still holds a view of it: that memory has to stay
            grown = PyByteArray_FromStringAndSize(NULL, size)
            memcpy(PyByteArray_AS_STRING(grown), PyByteArray_AS_STRING(self._own), self._end)
            self._own = grown
        self._own_view = memoryview(self._own)
        return 0

    cdef int _parse_header(self, const uint8_t* p, Py_ssize_t size) except -1:
        cdef Py_ssize_t pos = HEADER_FIXED_BYTES
        cdef int client_id_size
        self.api_key = load_i16(p)
        self.api_version = load_i16(p + 2)
        self.correlation_id = load_i32(p + 4)
        self.header_error = None
        self.body_pos = -1
        if size - pos < 2:
            return self._bad_header("it ends before the client id")
        client_id_size = load_i16(p + pos)
        pos += 2
        if client_id_size < -1:
            return self._bad_header(f"client id length {client_id_size}")
        if client_id_size == -1:
            self.client_id = None
        elif client_id_size > size - pos:
            return self._bad_header(
                f"client id length {client_id_size}, {size - pos} bytes remain")
        else:
            if not self._same_client_id(p + pos, client_id_size):
                try:
                    self.client_id = PyUnicode_DecodeUTF8(<const char*>(p + pos), client_id_size, NULL)
                except UnicodeDecodeError:
                    return self._bad_header("client id is not UTF-8")
                self._client_id_bytes = (<const char*>(p + pos))[:client_id_size]
            pos += client_id_size
        if 0 <= self.api_key < len(self._flexible_from) and (
            self.api_version >= <uint8_t>self._flexible_from[self.api_key] != NEVER_FLEXIBLE
        ):
            pos = _skip_tags(p, pos, size)
            if pos < 0:
                return self._bad_header("tagged fields do not fit")
        self.body_pos = pos
        return 0

    cdef bint _same_client_id(self, const uint8_t* p, Py_ssize_t size):
        # One client says the same name in every request: decode it once.
        return (
            self.client_id is not None
            and len(self._client_id_bytes) == size
            and memcmp(<const char*>self._client_id_bytes, p, size) == 0
        )

    cdef int _bad_header(self, str why) except -1:
        self.client_id = None
        self.header_error = f"bad request header: {why}"
        return 0

    cdef void _drop_own(self):
        self._own_view = None
        self._own = None
        self._in_shared = True


cdef Py_ssize_t _skip_tags(const uint8_t* p, Py_ssize_t pos, Py_ssize_t size) noexcept nogil:
    # Position after a tag section, or -1. Nothing is stored: headers have no known tags.
    cdef uint32_t count, field
    pos = _read_uvarint(p, pos, size, &count)
    if pos < 0 or count > HEADER_TAGS_MAX:
        return -1
    while count:
        pos = _read_uvarint(p, pos, size, &field)  # the tag
        if pos < 0:
            return -1
        pos = _read_uvarint(p, pos, size, &field)  # its size
        if pos < 0 or <Py_ssize_t>field > size - pos:
            return -1
        pos += field
        count -= 1
    return pos


cdef Py_ssize_t _read_uvarint(
    const uint8_t* p, Py_ssize_t pos, Py_ssize_t size, uint32_t* value
) noexcept nogil:
    # At most five bytes, and the fifth may not carry more than the four bits that are left.
    cdef uint32_t result = 0
    cdef int shift = 0
    cdef uint8_t byte
    while pos < size and shift <= 28:
        byte = p[pos]
        pos += 1
        if shift == 28 and byte > 0x0F:
            return -1
        result |= <uint32_t>(byte & 0x7F) << shift
        if byte < 0x80:
            value[0] = result
            return pos
        shift += 7
    return -1
