# Bounded reading and growable writing of Kafka's wire types: what every message codec stands on.
#
# Whoever reads holds the buffer (Py_buffer) for as long as its Reader lives.
# A Reader never moves past its end; each take names the field, so that an error says which one.
# A Writer owns malloc'ed memory: whoever calls `open_writer` calls `close_writer` on every path.

from cpython.buffer cimport Py_buffer
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint64_t
from libc.string cimport memcpy

from kcore._native.endian cimport store_i16, store_i32, store_i64

cdef extern from *:
    """
    #if defined(__GNUC__) || defined(__clang__)
    #define KCORE_LIKELY(x) __builtin_expect(!!(x), 1)
    #else
    #define KCORE_LIKELY(x) (x)
    #endif
    """
    bint likely "KCORE_LIKELY" (bint condition) nogil


cdef enum:
    STRING_BYTES_MAX = 0x7FFF  # Kafka's bound, also of compact strings
    TAGS_MAX = 64  # of one tag section; no client sends more than a handful
    UVARINT_BYTES_MAX = 5
    # Of all arrays of one message together. An element may take one byte on the wire but about a
    # hundred as an object, so bytes alone would let one frame claim gigabytes.
    ELEMENTS_MAX = 1 << 18


cdef struct Reader:
    const unsigned char* base  # what error positions count from
    const unsigned char* p
    const unsigned char* end
    Py_ssize_t elements_left


cdef struct Writer:
    unsigned char* base
    unsigned char* p
    unsigned char* end


# Errors: each raises WireError and returns the failure value.
cdef int raise_short(const Reader* r, Py_ssize_t size, object field) except -1
cdef int raise_wire(const Reader* r, object field, object expected, object found) except -1
cdef int raise_range(object field, object value, object expected) except -1


# Reading.
cdef int open_reader(Reader* r, const Py_buffer* view, Py_ssize_t pos) except -1
cdef int64_t read_uvarint_slow(Reader* r, object field) except -1
cdef Py_ssize_t read_length(Reader* r, bint compact, Py_ssize_t wide, bint nullable,
                            Py_ssize_t limit, object field) except -2
cdef Py_ssize_t read_count(Reader* r, bint compact, Py_ssize_t element_bytes, bint nullable,
                           object field) except -2
cdef object read_string(Reader* r, bint compact, bint nullable, object field)
cdef object read_bytes(Reader* r, bint compact, bint nullable, object field)
cdef Py_ssize_t read_tag_count(Reader* r, object field) except -1
cdef int64_t read_tag(Reader* r, int64_t previous, Py_ssize_t* size, object field) except -1
cdef int skip_tags(Reader* r, object field) except -1


# Writing.
cdef int open_writer(Writer* w, Py_ssize_t size) except -1
cdef void close_writer(Writer* w) noexcept
cdef int grow(Writer* w, Py_ssize_t size) except -1
cdef int put_string(Writer* w, bint compact, bint nullable, object value, object field) except -1
cdef int put_bytes(Writer* w, bint compact, bint nullable, object value, object field) except -1
cdef int put_count(Writer* w, bint compact, Py_ssize_t count) except -1
cdef int put_uuid(Writer* w, object value, object field) except -1
cdef int64_t as_int(object value, int64_t low, int64_t high, object field) except? -1


# What Produce and Fetch share.
cdef object read_topic(Reader* r, bint compact, bint by_id, object field)
cdef int put_topic(Writer* w, bint compact, bint by_id, object topic, object field) except -1
cdef int put_endpoints(Writer* w, object endpoints) except -1


cdef inline const unsigned char* take(Reader* r, Py_ssize_t size, object field) except NULL:
    cdef const unsigned char* p = r.p
    if not likely(r.end - p >= size):
        raise_short(r, size, field)
    r.p = p + size
    return p


cdef inline int64_t read_uvarint(Reader* r, object field) except -1:
    if likely(r.p < r.end) and r.p[0] < 0x80:
        r.p += 1
        return (r.p - 1)[0]
    return read_uvarint_slow(r, field)


cdef inline int reserve(Writer* w, Py_ssize_t size) except -1:
    if likely(w.end - w.p >= size):
        return 0
    return grow(w, size)


cdef inline int put_i8(Writer* w, int8_t value) except -1:
    reserve(w, 1)
    w.p[0] = <unsigned char> value
    w.p += 1
    return 0


cdef inline int put_i16(Writer* w, int16_t value) except -1:
    reserve(w, 2)
    store_i16(w.p, value)
    w.p += 2
    return 0


cdef inline int put_i32(Writer* w, int32_t value) except -1:
    reserve(w, 4)
    store_i32(w.p, value)
    w.p += 4
    return 0


cdef inline int put_i64(Writer* w, int64_t value) except -1:
    reserve(w, 8)
    store_i64(w.p, value)
    w.p += 8
    return 0


cdef inline int put_uvarint(Writer* w, uint64_t value) except -1:
    reserve(w, 10)
    while value >= 0x80:
        w.p[0] = <unsigned char> (value | 0x80)
        w.p += 1
        value >>= 7
    w.p[0] = <unsigned char> value
    w.p += 1
    return 0


cdef inline int put_raw(Writer* w, const void* data, Py_ssize_t size) except -1:
    reserve(w, size)
    memcpy(w.p, data, size)
    w.p += size
    return 0
