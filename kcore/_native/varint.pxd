"""Varints as records use them: zigzag, seven bits a byte, lowest first; and the unsigned form.

Reading is bounded by the cursor and by the number's width: five bytes for 32 bits, ten for 64, and
no bits beyond. There is no unbounded form. Writing needs room for `varint_size` bytes.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from kcore._native.cursor cimport Cursor

cdef extern from *:
    """
    #ifndef KCORE_VARINT
    #define KCORE_VARINT
    /* Bytes of v in groups of seven bits. Comparisons, because nearly all numbers are small and
     * counting leading zeros is slow without a newer instruction set. */
    static inline int kcore_unsigned_size(unsigned long long v) {
        if (__builtin_expect(v < 1ull << 7, 1))
            return 1;
        if (__builtin_expect(v < 1ull << 14, 1))
            return 2;
        if (v < 1ull << 21)
            return 3;
        int size = 4;
        for (v >>= 28; v; v >>= 7)
            size++;
        return size;
    }
    /* Any length, byte by byte; the last byte may hold only the bits that are left. Returns the
     * position after it, or NULL. Out of line: it is rare, and would bloat every reader. */
    __attribute__((noinline, unused)) static const unsigned char *kcore_read_long_form(
        const unsigned char *p, const unsigned char *end, unsigned long long *value, int bits) {
        unsigned long long v = 0;
        for (int shift = 0; p < end && shift < bits; shift += 7) {
            unsigned char b = *p++;
            if (shift + 7 > bits && (b & 0x7f) >> (bits - shift))
                return NULL;
            v |= (unsigned long long)(b & 0x7f) << shift;
            if (b < 0x80) {
                *value = v;
                return p;
            }
        }
        return NULL;
    }
    #endif
    """
    int kcore_unsigned_size(unsigned long long v) noexcept nogil
    const uint8_t* kcore_read_long_form(
        const uint8_t* p, const uint8_t* end, unsigned long long* value, int bits
    ) noexcept nogil

cdef enum:
    VARINT_BYTES_MAX = 5
    VARLONG_BYTES_MAX = 10


cdef inline uint32_t zigzag32(int32_t v) noexcept nogil:
    return (<uint32_t>v << 1) ^ <uint32_t>(v >> 31)


cdef inline uint64_t zigzag64(int64_t v) noexcept nogil:
    return (<uint64_t>v << 1) ^ <uint64_t>(v >> 63)


cdef inline int32_t unzigzag32(uint32_t v) noexcept nogil:
    return <int32_t>((v >> 1) ^ (~(v & 1) + 1))


cdef inline int64_t unzigzag64(uint64_t v) noexcept nogil:
    return <int64_t>((v >> 1) ^ (~(v & 1) + 1))


cdef inline int varint_size(int32_t v) noexcept nogil:
    return kcore_unsigned_size(zigzag32(v))


cdef inline int varlong_size(int64_t v) noexcept nogil:
    return kcore_unsigned_size(zigzag64(v))


# ------------------------------------------------------------------ reading

cdef inline bint _read_long_form(Cursor* c, unsigned long long* value, int bits) noexcept nogil:
    cdef const uint8_t* p = kcore_read_long_form(c.p, c.end, value, bits)
    if p == NULL:
        return 0
    c.p = p
    return 1


cdef inline bint read_unsigned_varint(Cursor* c, uint32_t* value) noexcept nogil:
    cdef const uint8_t* p = c.p
    cdef unsigned long long v
    if c.end - p >= 2:  # one and two bytes are nearly all there is
        if p[0] < 0x80:
            value[0] = p[0]
            c.p = p + 1
            return 1
        if p[1] < 0x80:
            value[0] = <uint32_t>(p[0] & 0x7f) | <uint32_t>p[1] << 7
            c.p = p + 2
            return 1
    if not _read_long_form(c, &v, 32):
        return 0
    value[0] = <uint32_t>v
    return 1


cdef inline bint read_varint(Cursor* c, int32_t* value) noexcept nogil:
    cdef uint32_t v
    if not read_unsigned_varint(c, &v):
        return 0
    value[0] = unzigzag32(v)
    return 1


cdef inline bint read_unsigned_varlong(Cursor* c, uint64_t* value) noexcept nogil:
    cdef const uint8_t* p = c.p
    cdef unsigned long long v
    if c.end - p >= 2:
        if p[0] < 0x80:
            value[0] = p[0]
            c.p = p + 1
            return 1
        if p[1] < 0x80:
            value[0] = <uint64_t>(p[0] & 0x7f) | <uint64_t>p[1] << 7
            c.p = p + 2
            return 1
    if not _read_long_form(c, &v, 64):
        return 0
    value[0] = v
    return 1


cdef inline bint read_varlong(Cursor* c, int64_t* value) noexcept nogil:
    cdef uint64_t v
    if not read_unsigned_varlong(c, &v):
        return 0
    value[0] = unzigzag64(v)
    return 1


# ------------------------------------------------------------------ writing

cdef inline uint8_t* write_unsigned_varlong(uint8_t* p, uint64_t v) noexcept nogil:
    """Returns the position after the last byte."""
    while v >= 0x80:
        p[0] = <uint8_t>(v | 0x80)
        p += 1
        v >>= 7
    p[0] = <uint8_t>v
    return p + 1


cdef inline uint8_t* write_unsigned_varint(uint8_t* p, uint32_t v) noexcept nogil:
    if v < 0x80:
        p[0] = <uint8_t>v
        return p + 1
    if v < 0x4000:
        p[0] = <uint8_t>(v | 0x80)
        p[1] = <uint8_t>(v >> 7)
        return p + 2
    return write_unsigned_varlong(p, v)


cdef inline uint8_t* write_varint(uint8_t* p, int32_t v) noexcept nogil:
    return write_unsigned_varint(p, zigzag32(v))


cdef inline uint8_t* write_varlong(uint8_t* p, int64_t v) noexcept nogil:
    return write_unsigned_varlong(p, zigzag64(v))
