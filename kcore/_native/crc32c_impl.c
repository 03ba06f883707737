/* CRC-32C in four ways, one of which is picked at import.
 *
 *   table      slice by eight: eight table lookups for eight bytes; any processor
 *   armv8      the CRC instructions of ARMv8
 *   sse42      the crc32 instruction; three independent chains hide its latency of three cycles
 *   vpclmul256, vpclmul512   carry-less multiplication of whole vectors (folding)
 *
 * Functions name their target processor by attribute, so the file needs no compiler switches and
 * one binary serves every processor.
 *
 * Every constant is computed from the polynomial at start instead of pasted. The arithmetic:
 * bytes enter lowest bit first, so a register holds a polynomial with bit 31 (63, 127) as x^0.
 * A carry-less product of two such 64-bit numbers comes out one power of x too high in 128 bits,
 * and a 32-bit constant in the low half of a 64-bit number carries a factor x^32: both together
 * are the 33 in `x_power(n - 33)`.
 */
#include "crc32c_impl.h"

#include <string.h>

#if defined(__x86_64__)
#define CRC_X86 1
#include <immintrin.h>
/* VPCLMULQDQ intrinsics: gcc 8, clang 7. */
#if defined(__clang__) ? __clang_major__ >= 7 : __GNUC__ >= 8
#define CRC_VPCLMUL 1
#endif
#elif defined(__aarch64__)
#define CRC_ARM 1
#if defined(__linux__)
#include <sys/auxv.h>
#ifndef HWCAP_CRC32
#define HWCAP_CRC32 (1 << 7)
#endif
#endif
#endif

#define POLYNOMIAL 0x82F63B78u /* x^32 is implied; reflected */
#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* Above this many bytes a copy would push its source's neighbours out of the cache for data that
 * nobody reads next: write around the cache. */
#define STREAM_BYTES_MIN ((size_t)512 * 1024)

typedef uint32_t (*extend_fn)(uint32_t state, const uint8_t *p, size_t n);
typedef uint32_t (*copy_fn)(uint32_t state, uint8_t *dst, const uint8_t *src, size_t n);

ALWAYS_INLINE uint64_t load64(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}

/* ------------------------------------------------------------------ arithmetic modulo P */

static uint32_t multiply(uint32_t a, uint32_t b) {
    uint32_t product = 0;
    for (int i = 31; i >= 0; i--) { /* bit 31 of b is x^0 */
        if ((b >> i) & 1)
            product ^= a;
        a = (a >> 1) ^ ((a & 1) ? POLYNOMIAL : 0);
    }
    return product;
}

static uint32_t x_power(uint64_t n) {
    uint32_t result = 0x80000000u; /* x^0 */
    uint32_t square = 0x40000000u; /* x^1 */
    for (; n; n >>= 1) {
        if (n & 1)
            result = multiply(result, square);
        square = multiply(square, square);
    }
    return result;
}

/* ------------------------------------------------------------------ table */

static uint32_t table[8][256];

static void table_init(void) {
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++)
            c = (c >> 1) ^ ((c & 1) ? POLYNOMIAL : 0);
        table[0][i] = c;
    }
    for (int t = 1; t < 8; t++)
        for (int i = 0; i < 256; i++)
            table[t][i] = (table[t - 1][i] >> 8) ^ table[0][table[t - 1][i] & 0xff];
}

static uint32_t table_extend(uint32_t c, const uint8_t *p, size_t n) {
    for (; n >= 8; n -= 8, p += 8) {
        uint32_t lo = c ^ ((uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
                           (uint32_t)p[3] << 24);
        c = table[7][lo & 0xff] ^ table[6][(lo >> 8) & 0xff] ^ table[5][(lo >> 16) & 0xff] ^
            table[4][lo >> 24] ^ table[3][p[4]] ^ table[2][p[5]] ^ table[1][p[6]] ^ table[0][p[7]];
    }
    for (; n; n--)
        c = (c >> 8) ^ table[0][(c ^ *p++) & 0xff];
    return c;
}

/* Copying block by block finds the source in the first-level cache for the second pass. */
#define COPY_BLOCK_BYTES 4096
ALWAYS_INLINE uint32_t copy_by_blocks(extend_fn extend, uint32_t c, uint8_t *dst,
                                      const uint8_t *src, size_t n) {
    while (n) {
        size_t block = n < COPY_BLOCK_BYTES ? n : COPY_BLOCK_BYTES;
        memcpy(dst, src, block);
        c = extend(c, src, block);
        dst += block, src += block, n -= block;
    }
    return c;
}

static uint32_t table_copy(uint32_t c, uint8_t *dst, const uint8_t *src, size_t n) {
    return copy_by_blocks(table_extend, c, dst, src, n);
}

/* ------------------------------------------------------------------ ARMv8 */

#ifdef CRC_ARM

#if defined(__clang__)
#define TARGET_ARM_CRC __attribute__((target("crc")))
#define arm_crc64 __builtin_arm_crc32cd
#define arm_crc8 __builtin_arm_crc32cb
#else
#define TARGET_ARM_CRC __attribute__((target("+crc")))
#define arm_crc64 __builtin_aarch64_crc32cx
#define arm_crc8 __builtin_aarch64_crc32cb
#endif

/* Three chains of 4 KiB each: joining two costs a multiplication in software (about 40 ns), so
 * the lanes are long and shorter input takes one chain. */
#define ARM_LANE_BYTES ((size_t)4096)
static uint32_t arm_shift_one, arm_shift_two;

static int arm_available(void) {
#if defined(__APPLE__) || defined(__ARM_FEATURE_CRC32)
    return 1;
#elif defined(__linux__)
    return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0;
#else
    return 0;
#endif
}

static void arm_init(void) {
    arm_shift_one = x_power(8 * ARM_LANE_BYTES);
    arm_shift_two = x_power(16 * ARM_LANE_BYTES);
}

TARGET_ARM_CRC static uint32_t arm_extend(uint32_t c, const uint8_t *p, size_t n) {
    for (; n >= 3 * ARM_LANE_BYTES; n -= 3 * ARM_LANE_BYTES, p += 3 * ARM_LANE_BYTES) {
        uint32_t c1 = 0, c2 = 0;
        for (size_t i = 0; i < ARM_LANE_BYTES; i += 8) {
            c = arm_crc64(c, load64(p + i));
            c1 = arm_crc64(c1, load64(p + ARM_LANE_BYTES + i));
            c2 = arm_crc64(c2, load64(p + 2 * ARM_LANE_BYTES + i));
        }
        c = multiply(c, arm_shift_two) ^ multiply(c1, arm_shift_one) ^ c2;
    }
    for (; n >= 8; n -= 8, p += 8)
        c = arm_crc64(c, load64(p));
    for (; n; n--)
        c = arm_crc8(c, *p++);
    return c;
}

static uint32_t arm_copy(uint32_t c, uint8_t *dst, const uint8_t *src, size_t n) {
    return copy_by_blocks(arm_extend, c, dst, src, n);
}

#endif /* CRC_ARM */

/* ------------------------------------------------------------------ x86: SSE4.2 */

#ifdef CRC_X86

/* clang 14 made the crc32 instruction a feature of its own. */
#if defined(__clang__) && __clang_major__ >= 14
#define SSE42 "sse4.2,crc32,pclmul"
#else
#define SSE42 "sse4.2,pclmul"
#endif
#define TARGET_SSE42 __attribute__((target(SSE42)))

/* Three lanes of equal length, whatever the input's length: shift_words[i] moves a CRC over i
 * words of eight bytes, and a round takes at most LANE_WORDS_MAX words a lane. */
#define LANE_WORDS_MAX 512
#define SHIFT_WORDS_MAX 4096
#define CHAIN_BYTES_MAX 256 /* below it one chain is faster than three and their joining */
static uint32_t shift_words[SHIFT_WORDS_MAX + 1];

TARGET_SSE42 static void sse42_init(void) {
    shift_words[1] = x_power(64 - 33);
    for (int i = 2; i <= SHIFT_WORDS_MAX; i++) /* each crc32 of a zero register adds x^32 */
        shift_words[i] = _mm_crc32_u32(0, _mm_crc32_u32(0, shift_words[i - 1]));
}

TARGET_SSE42 ALWAYS_INLINE uint64_t shifted(uint64_t c, size_t words) {
    __m128i product = _mm_clmulepi64_si128(_mm_cvtsi64_si128((long long)c),
                                           _mm_cvtsi32_si128((int)shift_words[words]), 0);
    return _mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(product));
}

TARGET_SSE42 ALWAYS_INLINE uint32_t sse42_chain(uint64_t c, const uint8_t *p, size_t n) {
    for (; n >= 8; n -= 8, p += 8)
        c = _mm_crc32_u64(c, load64(p));
    if (n & 4) {
        uint32_t v;
        memcpy(&v, p, 4);
        c = _mm_crc32_u32((uint32_t)c, v);
        p += 4;
    }
    if (n & 2) {
        uint16_t v;
        memcpy(&v, p, 2);
        c = _mm_crc32_u16((uint32_t)c, v);
        p += 2;
    }
    if (n & 1)
        c = _mm_crc32_u8((uint32_t)c, *p);
    return (uint32_t)c;
}

TARGET_SSE42 static uint32_t sse42_extend(uint32_t state, const uint8_t *p, size_t n) {
    uint64_t c = state;
    while (n >= CHAIN_BYTES_MAX) {
        size_t words = n / 24 < LANE_WORDS_MAX ? n / 24 : LANE_WORDS_MAX;
        const uint8_t *p1 = p + 8 * words, *p2 = p1 + 8 * words;
        uint64_t c1 = 0, c2 = 0;
        for (size_t i = 0; i < 8 * words; i += 8) {
            c = _mm_crc32_u64(c, load64(p + i));
            c1 = _mm_crc32_u64(c1, load64(p1 + i));
            c2 = _mm_crc32_u64(c2, load64(p2 + i));
        }
        c = shifted(c, 2 * words) ^ shifted(c1, words) ^ c2;
        p += 24 * words;
        n -= 24 * words;
    }
    return sse42_chain(c, p, n);
}

/* Lanes are copied 16 bytes at a time; `stream` writes around the cache. */
TARGET_SSE42 ALWAYS_INLINE uint32_t sse42_copy_lanes(uint32_t state, uint8_t *dst,
                                                     const uint8_t *src, size_t n, int stream) {
    uint64_t c = state;
    while (n >= CHAIN_BYTES_MAX) {
        size_t words = (n / 24 < LANE_WORDS_MAX ? n / 24 : LANE_WORDS_MAX) & ~(size_t)1;
        size_t lane = 8 * words;
        uint64_t c1 = 0, c2 = 0;
        for (size_t i = 0; i < lane; i += 16) {
            const uint8_t *s = src + i;
            uint8_t *d = dst + i;
            __m128i v0 = _mm_loadu_si128((const __m128i *)s);
            __m128i v1 = _mm_loadu_si128((const __m128i *)(s + lane));
            __m128i v2 = _mm_loadu_si128((const __m128i *)(s + 2 * lane));
            if (stream) {
                _mm_stream_si128((__m128i *)d, v0);
                _mm_stream_si128((__m128i *)(d + lane), v1);
                _mm_stream_si128((__m128i *)(d + 2 * lane), v2);
            } else {
                _mm_storeu_si128((__m128i *)d, v0);
                _mm_storeu_si128((__m128i *)(d + lane), v1);
                _mm_storeu_si128((__m128i *)(d + 2 * lane), v2);
            }
            c = _mm_crc32_u64(c, load64(s));
            c1 = _mm_crc32_u64(c1, load64(s + lane));
            c2 = _mm_crc32_u64(c2, load64(s + 2 * lane));
            c = _mm_crc32_u64(c, load64(s + 8));
            c1 = _mm_crc32_u64(c1, load64(s + lane + 8));
            c2 = _mm_crc32_u64(c2, load64(s + 2 * lane + 8));
        }
        c = shifted(c, 2 * words) ^ shifted(c1, words) ^ c2;
        src += 3 * lane;
        dst += 3 * lane;
        n -= 3 * lane;
    }
    memcpy(dst, src, n);
    return sse42_chain(c, src, n);
}

TARGET_SSE42 static uint32_t sse42_copy(uint32_t c, uint8_t *dst, const uint8_t *src, size_t n) {
    if (n < STREAM_BYTES_MIN)
        return sse42_copy_lanes(c, dst, src, n, 0);
    size_t head = (size_t)(-(uintptr_t)dst & 15); /* streaming stores need aligned addresses */
    memcpy(dst, src, head);
    c = sse42_chain(c, src, head);
    c = sse42_copy_lanes(c, dst + head, src + head, n - head, 1);
    _mm_sfence();
    return c;
}

/* ------------------------------------------------------------------ x86: VPCLMULQDQ */

#ifdef CRC_VPCLMUL

#define TARGET_256 __attribute__((target(SSE42 ",avx2,vpclmulqdq")))
#define TARGET_512 __attribute__((target(SSE42 ",avx2,vpclmulqdq,avx512f")))
#define STRIDE_BYTES 256 /* a round of four vectors of 64 bytes */

/* Folding 256 bits at a time is no faster than the scalar crc32 instruction, but it is another
 * unit of the processor: use both. A round of a block folds 128 bytes of its first part and sums
 * 40 bytes of each of three lanes behind it. */
#define MIX_VECTOR_BYTES 128
#define MIX_LANE_WORDS 5
#define MIX_ROUND_BYTES (MIX_VECTOR_BYTES + 3 * 8 * MIX_LANE_WORDS)
#define MIX_ROUNDS_MAX (SHIFT_WORDS_MAX / (3 * MIX_LANE_WORDS))
#define MIX_BYTES_MIN ((size_t)8 * 1024) /* below it joining the parts costs more than it gains */

/* Constants that move a 128-bit lane forward by so many bits: [0] for its low (earlier) half. */
static uint64_t fold_128[2], fold_256[2], fold_512[2], fold_stride[2], fold_mixed[2];

static void fold_init(void) {
    struct {
        uint64_t *constants;
        uint64_t bits;
    } folds[] = {{fold_128, 128}, {fold_256, 256}, {fold_512, 512}, {fold_stride, 8 * STRIDE_BYTES},
                 {fold_mixed, 8 * MIX_VECTOR_BYTES}};
    for (int i = 0; i < 5; i++) {
        folds[i].constants[0] = x_power(folds[i].bits + 64 - 33);
        folds[i].constants[1] = x_power(folds[i].bits - 33);
    }
}

TARGET_SSE42 ALWAYS_INLINE __m128i fold_lane(__m128i lane, __m128i k, __m128i next) {
    __m128i lo = _mm_clmulepi64_si128(lane, k, 0x00), hi = _mm_clmulepi64_si128(lane, k, 0x11);
    return _mm_xor_si128(_mm_xor_si128(lo, hi), next);
}

TARGET_SSE42 ALWAYS_INLINE uint32_t reduce_lane(__m128i lane) {
    uint64_t c = _mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(lane));
    return (uint32_t)_mm_crc32_u64(c, (uint64_t)_mm_extract_epi64(lane, 1));
}

TARGET_256 ALWAYS_INLINE __m256i fold_256bit(__m256i v, __m256i k, __m256i next) {
    __m256i lo = _mm256_clmulepi64_epi128(v, k, 0x00), hi = _mm256_clmulepi64_epi128(v, k, 0x11);
    return _mm256_xor_si256(_mm256_xor_si256(lo, hi), next);
}

TARGET_256 ALWAYS_INLINE __m256i load_256(const uint8_t *p) {
    return _mm256_loadu_si256((const __m256i *)p);
}

TARGET_256 ALWAYS_INLINE uint64_t mix_lane(uint64_t c, const uint8_t *p) {
#pragma GCC unroll 5
    for (int i = 0; i < MIX_LANE_WORDS; i++)
        c = _mm_crc32_u64(c, load64(p + 8 * i));
    return c;
}

TARGET_256 ALWAYS_INLINE uint32_t mixed_256(uint32_t c, const uint8_t *p, size_t rounds) {
    const __m256i k = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)fold_mixed));
    const __m256i k1 = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)fold_256));
    const __m128i k128 = _mm_loadu_si128((const __m128i *)fold_128);
    const size_t words = MIX_LANE_WORDS * rounds;
    const uint8_t *end = p + MIX_VECTOR_BYTES * rounds, *lane = end;
    uint64_t c0 = 0, c1 = 0, c2 = 0;
    __m256i v[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        v[i] = load_256(p + 32 * i);
    v[0] = _mm256_xor_si256(v[0], _mm256_zextsi128_si256(_mm_cvtsi32_si128((int)c)));
    for (;;) {
        c0 = mix_lane(c0, lane);
        c1 = mix_lane(c1, lane + 8 * words);
        c2 = mix_lane(c2, lane + 16 * words);
        lane += 8 * MIX_LANE_WORDS;
        p += MIX_VECTOR_BYTES;
        if (p == end)
            break;
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++)
            v[i] = fold_256bit(v[i], k, load_256(p + 32 * i));
    }
    __m256i all = v[0];
#pragma GCC unroll 4
    for (int i = 1; i < 4; i++)
        all = fold_256bit(all, k1, v[i]);
    __m128i half = _mm256_extracti128_si256(all, 1);
    uint64_t first = reduce_lane(fold_lane(_mm256_castsi256_si128(all), k128, half));
    return (uint32_t)(shifted(first, 3 * words) ^ shifted(c0, 2 * words) ^ shifted(c1, words) ^ c2);
}

TARGET_256 static uint32_t vpclmul256_extend(uint32_t c, const uint8_t *p, size_t n) {
    while (n >= MIX_BYTES_MIN) {
        size_t rounds = n / MIX_ROUND_BYTES < MIX_ROUNDS_MAX ? n / MIX_ROUND_BYTES : MIX_ROUNDS_MAX;
        c = mixed_256(c, p, rounds);
        p += MIX_ROUND_BYTES * rounds;
        n -= MIX_ROUND_BYTES * rounds;
    }
    return sse42_extend(c, p, n);
}

TARGET_512 ALWAYS_INLINE __m512i fold_512bit(__m512i v, __m512i k, __m512i next) {
    __m512i lo = _mm512_clmulepi64_epi128(v, k, 0x00), hi = _mm512_clmulepi64_epi128(v, k, 0x11);
    return _mm512_ternarylogic_epi64(lo, hi, next, 0x96); /* three-way xor */
}

TARGET_512 ALWAYS_INLINE __m512i take_512(const uint8_t *src, uint8_t *dst, int stream) {
    __m512i v = _mm512_loadu_si512((const void *)src);
    if (dst && stream)
        _mm512_stream_si512((__m512i *)dst, v);
    else if (dst)
        _mm512_storeu_si512((void *)dst, v);
    return v;
}

TARGET_512 ALWAYS_INLINE uint32_t strides_512(uint32_t c, uint8_t *dst, const uint8_t *p, size_t n,
                                              int stream) {
    const __m512i k = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)fold_stride));
    const __m512i k1 = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)fold_512));
    const __m128i k128 = _mm_loadu_si128((const __m128i *)fold_128);
    __m512i v[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        v[i] = take_512(p + 64 * i, dst ? dst + 64 * i : NULL, stream);
    v[0] = _mm512_xor_si512(v[0], _mm512_zextsi128_si512(_mm_cvtsi32_si128((int)c)));
    for (size_t pos = STRIDE_BYTES; pos < n; pos += STRIDE_BYTES) {
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            uint8_t *to = dst ? dst + pos + 64 * i : NULL;
            v[i] = fold_512bit(v[i], k, take_512(p + pos + 64 * i, to, stream));
        }
    }
    __m512i all = v[0];
#pragma GCC unroll 4
    for (int i = 1; i < 4; i++)
        all = fold_512bit(all, k1, v[i]);
    __m128i lane = _mm512_castsi512_si128(all);
    lane = fold_lane(lane, k128, _mm512_extracti32x4_epi32(all, 1));
    lane = fold_lane(lane, k128, _mm512_extracti32x4_epi32(all, 2));
    lane = fold_lane(lane, k128, _mm512_extracti32x4_epi32(all, 3));
    return reduce_lane(lane);
}

#define FOLD_BYTES_MIN 512 /* below it the scalar lanes are faster */

TARGET_512 static uint32_t vpclmul512_extend(uint32_t c, const uint8_t *p, size_t n) {
    if (n < FOLD_BYTES_MIN)
        return sse42_extend(c, p, n);
    size_t whole = n & ~(size_t)(STRIDE_BYTES - 1);
    c = strides_512(c, NULL, p, whole, 0);
    return sse42_chain(c, p + whole, n - whole);
}

TARGET_512 static uint32_t vpclmul512_copy(uint32_t c, uint8_t *dst, const uint8_t *src, size_t n) {
    if (n < FOLD_BYTES_MIN)
        return sse42_copy_lanes(c, dst, src, n, 0);
    const int stream = n >= STREAM_BYTES_MIN;
    if (stream) { /* streaming stores need aligned addresses */
        size_t head = (size_t)(-(uintptr_t)dst & 63);
        memcpy(dst, src, head);
        c = sse42_chain(c, src, head);
        dst += head, src += head, n -= head;
    }
    size_t whole = n & ~(size_t)(STRIDE_BYTES - 1);
    c = stream ? strides_512(c, dst, src, whole, 1) : strides_512(c, dst, src, whole, 0);
    if (stream)
        _mm_sfence();
    memcpy(dst + whole, src + whole, n - whole);
    return sse42_chain(c, src + whole, n - whole);
}

#endif /* CRC_VPCLMUL */

/* ------------------------------------------------------------------ x86: what is there */

static int sse42_available(void) {
    return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul");
}
#ifdef CRC_VPCLMUL
static int vpclmul256_available(void) {
    return sse42_available() && __builtin_cpu_supports("avx2") &&
           __builtin_cpu_supports("vpclmulqdq");
}
static int vpclmul512_available(void) {
    return vpclmul256_available() && __builtin_cpu_supports("avx512f");
}
#endif
#endif /* CRC_X86 */

/* ------------------------------------------------------------------ dispatch */

static int table_available(void) { return 1; }

/* Slowest first. */
static const struct {
    const char *name;
    int (*available)(void);
    extend_fn extend;
    copy_fn copy;
} ways[] = {
    {"table", table_available, table_extend, table_copy},
#ifdef CRC_ARM
    {"armv8", arm_available, arm_extend, arm_copy},
#endif
#ifdef CRC_X86
    {"sse42", sse42_available, sse42_extend, sse42_copy},
#ifdef CRC_VPCLMUL
    {"vpclmul256", vpclmul256_available, vpclmul256_extend, sse42_copy}, /* memory is the limit */
    {"vpclmul512", vpclmul512_available, vpclmul512_extend, vpclmul512_copy},
#endif
#endif
};
#define WAY_COUNT ((int)(sizeof ways / sizeof ways[0]))

static int current;
static extend_fn extend_now = table_extend;
static copy_fn copy_now = table_copy;

int kcore_crc32c_use(int index) {
    if (index < 0 || index >= WAY_COUNT || !ways[index].available())
        return -1;
    current = index;
    extend_now = ways[index].extend;
    copy_now = ways[index].copy;
    return 0;
}

void kcore_crc32c_init(void) {
    table_init();
#ifdef CRC_ARM
    arm_init();
#endif
#ifdef CRC_X86
    __builtin_cpu_init();
    if (sse42_available())
        sse42_init();
#ifdef CRC_VPCLMUL
    fold_init();
#endif
#endif
    for (int i = WAY_COUNT - 1; i >= 0; i--)
        if (kcore_crc32c_use(i) == 0)
            return;
}

const char *kcore_crc32c_way(int index) {
    return index >= 0 && index < WAY_COUNT ? ways[index].name : NULL;
}
int kcore_crc32c_available(int index) {
    return index >= 0 && index < WAY_COUNT && ways[index].available();
}
int kcore_crc32c_current(void) { return current; }

uint32_t kcore_crc32c_extend(uint32_t crc, const void *p, size_t size) {
    return ~extend_now(~crc, (const uint8_t *)p, size);
}

uint32_t kcore_crc32c_copy(uint32_t crc, void *dst, const void *src, size_t size) {
    return ~copy_now(~crc, (uint8_t *)dst, (const uint8_t *)src, size);
}
