"""A bounded reader: the only way the engine parses bytes it did not write itself.

Every function returns 1 and advances, or returns 0 and leaves the cursor where it was: then the
bytes that remain do not hold what was asked for.
"""

from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t

from kcore._native.endian cimport load_i16, load_i32, load_i64

cdef struct Cursor:
    const uint8_t* p    # the next byte
    const uint8_t* end  # one past the last


cdef inline Cursor cursor_over(const void* p, int64_t size) noexcept nogil:
    cdef Cursor c
    c.p = <const uint8_t*>p
    c.end = c.p + size
    return c


cdef inline int64_t cursor_left(const Cursor* c) noexcept nogil:
    return c.end - c.p


cdef inline bint cursor_skip(Cursor* c, int64_t size) noexcept nogil:
    if size < 0 or size > c.end - c.p:
        return 0
    c.p += size
    return 1


cdef inline bint cursor_i8(Cursor* c, int8_t* value) noexcept nogil:
    if c.p >= c.end:
        return 0
    value[0] = <int8_t>c.p[0]
    c.p += 1
    return 1


cdef inline bint cursor_i16(Cursor* c, int16_t* value) noexcept nogil:
    if c.end - c.p < 2:
        return 0
    value[0] = load_i16(c.p)
    c.p += 2
    return 1


cdef inline bint cursor_i32(Cursor* c, int32_t* value) noexcept nogil:
    if c.end - c.p < 4:
        return 0
    value[0] = load_i32(c.p)
    c.p += 4
    return 1


cdef inline bint cursor_i64(Cursor* c, int64_t* value) noexcept nogil:
    if c.end - c.p < 8:
        return 0
    value[0] = load_i64(c.p)
    c.p += 8
    return 1
