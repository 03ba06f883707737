"""Big-endian loads and stores on unaligned addresses: one instruction and a byte swap each.

They check nothing: the caller has shown that the bytes are there (cursor.pxd, batch_peek).
"""

from libc.stdint cimport int16_t, int32_t, int64_t, uint16_t, uint32_t, uint64_t

cdef extern from *:
    """
    #ifndef KCORE_ENDIAN
    #define KCORE_ENDIAN
    #include <stdint.h>
    #include <string.h>
    #if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    #define KCORE_SWAP(bits, v) (v)
    #else
    #define KCORE_SWAP(bits, v) __builtin_bswap##bits(v)
    #endif
    #define KCORE_LOAD_STORE(bits)                                                          \
        static inline uint##bits##_t load_u##bits(const void *p) {                          \
            uint##bits##_t v;                                                               \
            memcpy(&v, p, sizeof v);                                                        \
            return (uint##bits##_t)KCORE_SWAP(bits, v);                                     \
        }                                                                                   \
        static inline int##bits##_t load_i##bits(const void *p) {                           \
            return (int##bits##_t)load_u##bits(p);                                          \
        }                                                                                   \
        static inline void store_u##bits(void *p, uint##bits##_t v) {                       \
            v = (uint##bits##_t)KCORE_SWAP(bits, v);                                        \
            memcpy(p, &v, sizeof v);                                                        \
        }                                                                                   \
        static inline void store_i##bits(void *p, int##bits##_t v) {                        \
            store_u##bits(p, (uint##bits##_t)v);                                            \
        }
    KCORE_LOAD_STORE(16)
    KCORE_LOAD_STORE(32)
    KCORE_LOAD_STORE(64)
    #endif
    """
    uint16_t load_u16(const void *p) noexcept nogil
    uint32_t load_u32(const void *p) noexcept nogil
    uint64_t load_u64(const void *p) noexcept nogil
    int16_t load_i16(const void *p) noexcept nogil
    int32_t load_i32(const void *p) noexcept nogil
    int64_t load_i64(const void *p) noexcept nogil
    void store_u16(void *p, uint16_t v) noexcept nogil
    void store_u32(void *p, uint32_t v) noexcept nogil
    void store_u64(void *p, uint64_t v) noexcept nogil
    void store_i16(void *p, int16_t v) noexcept nogil
    void store_i32(void *p, int32_t v) noexcept nogil
    void store_i64(void *p, int64_t v) noexcept nogil
