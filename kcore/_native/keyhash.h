/* SipHash-2-4 with 128 bits of result: what the cleaner remembers of a key.
 *
 * Two keys with one hash would cost the record of one of them, and keys come from strangers. With a
 * secret of the process nobody can look for such a pair, and by chance there is none: a map of 2^23
 * keys meets a collision once in 2^82 rounds.
 */
#ifndef KCORE_KEYHASH_H
#define KCORE_KEYHASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t kcore_rotl(uint64_t x, int bits) {
    return (x << bits) | (x >> (64 - bits));
}

#define KCORE_SIP_ROUND(v0, v1, v2, v3)                                                            \
    do {                                                                                           \
        v0 += v1;                                                                                  \
        v2 += v3;                                                                                  \
        v1 = kcore_rotl(v1, 13) ^ v0;                                                              \
        v3 = kcore_rotl(v3, 16) ^ v2;                                                              \
        v0 = kcore_rotl(v0, 32);                                                                   \
        v2 += v1;                                                                                  \
        v0 += v3;                                                                                  \
        v1 = kcore_rotl(v1, 17) ^ v2;                                                              \
        v3 = kcore_rotl(v3, 21) ^ v0;                                                              \
        v2 = kcore_rotl(v2, 32);                                                                   \
    } while (0)

static inline uint64_t kcore_load_le64(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap64(v);
#endif
    return v;
}

static inline void kcore_keyhash(const uint8_t *key, int64_t size, uint64_t k0, uint64_t k1,
                                 uint64_t *low, uint64_t *high) {
    uint64_t v0 = k0 ^ 0x736f6d6570736575ull, v1 = k1 ^ 0x646f72616e646f6dull ^ 0xee;
    uint64_t v2 = k0 ^ 0x6c7967656e657261ull, v3 = k1 ^ 0x7465646279746573ull;
    uint64_t last = (uint64_t)size << 56;
    int64_t whole = size & ~(int64_t)7;
    for (int64_t i = 0; i < whole; i += 8) {
        uint64_t m = kcore_load_le64(key + i);
        v3 ^= m;
        KCORE_SIP_ROUND(v0, v1, v2, v3);
        KCORE_SIP_ROUND(v0, v1, v2, v3);
        v0 ^= m;
    }
    for (int64_t i = whole; i < size; i++)
        last |= (uint64_t)key[i] << (8 * (i - whole));
    v3 ^= last;
    KCORE_SIP_ROUND(v0, v1, v2, v3);
    KCORE_SIP_ROUND(v0, v1, v2, v3);
    v0 ^= last;
    v2 ^= 0xee;
    for (int i = 0; i < 4; i++)
        KCORE_SIP_ROUND(v0, v1, v2, v3);
    *low = v0 ^ v1 ^ v2 ^ v3;
    v1 ^= 0xdd;
    for (int i = 0; i < 4; i++)
        KCORE_SIP_ROUND(v0, v1, v2, v3);
    *high = v0 ^ v1 ^ v2 ^ v3;
}

/* The table is far larger than any cache: whoever will look into it says so some records before. */
static inline void kcore_prefetch(const void *p) {
    __builtin_prefetch(p, 1);
}

/* A slot for a hash, spread over any number of slots without a division. */
static inline int64_t kcore_keyhash_slot(uint64_t hash, int64_t slots) {
    return (int64_t)(((unsigned __int128)hash * (uint64_t)slots) >> 64);
}

#endif
