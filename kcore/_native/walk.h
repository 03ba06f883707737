/* The shape of a decoded record, and the quick way to decode one.
 *
 * The quick way knows the records that nearly all are: no headers, no number longer than three
 * bytes, 32 bytes of room behind its start. It asks for that room once instead of at every byte.
 * Whatever else it meets, broken or only rare, it leaves to record_next (records.pxd), which
 * checks every step and names the fault.
 */
#ifndef KCORE_WALK_H
#define KCORE_WALK_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    int64_t timestamp_delta;
    const uint8_t *key;     /* NULL: null */
    const uint8_t *value;   /* NULL: null */
    const uint8_t *headers; /* first header, if header_count > 0 */
    const uint8_t *end;     /* one past the record */
    int32_t offset_delta;
    int32_t key_size;   /* -1: null */
    int32_t value_size; /* -1: null */
    int32_t header_count;
} kcore_record;

#define KCORE_INLINE static inline __attribute__((always_inline))

/* A zigzag number of at most three bytes at *p, which must be there; 0 if it is longer. */
KCORE_INLINE int kcore_quick_number(const uint8_t **p, int32_t *value) {
    const uint8_t *q = *p;
    uint32_t v = q[0];
    if (v < 0x80) {
        *p = q + 1;
    } else if (q[1] < 0x80) {
        v = (v & 0x7f) | (uint32_t)q[1] << 7;
        *p = q + 2;
    } else if (q[2] < 0x80) {
        v = (v & 0x7f) | (uint32_t)(q[1] & 0x7f) << 7 | (uint32_t)q[2] << 14;
        *p = q + 3;
    } else {
        return 0;
    }
    *value = (int32_t)((v >> 1) ^ (0u - (v & 1)));
    return 1;
}

/* Decodes the record at *p and advances, or returns 0 and changes nothing that counts. */
KCORE_INLINE int kcore_record_quick(const uint8_t **at, const uint8_t *end, kcore_record *r) {
    const uint8_t *p = *at;
    int32_t length, delta;
    if (end - p < 32 || !kcore_quick_number(&p, &length) || length < 0 || length > end - p)
        return 0;
    const uint8_t *stop = p + length;
    p += 1; /* attributes: none are defined */
    /* At most 3 + 1 + 3 + 3 + 3 bytes so far: within the 32. */
    if (!kcore_quick_number(&p, &delta) || !kcore_quick_number(&p, &r->offset_delta) ||
        !kcore_quick_number(&p, &r->key_size))
        return 0;
    r->timestamp_delta = delta;
    r->key = NULL;
    if (r->key_size >= 0) {
        r->key = p;
        /* Behind the key lie a value size and a header count. */
        if (stop - p < 4 || r->key_size > stop - p - 4)
            return 0;
        p += r->key_size;
    } else if (r->key_size != -1) {
        return 0;
    }
    if (!kcore_quick_number(&p, &r->value_size))
        return 0;
    r->value = NULL;
    if (r->value_size >= 0) {
        r->value = p;
        if (p >= stop || r->value_size > stop - p - 1)
            return 0;
        p += r->value_size;
    } else if (r->value_size != -1) {
        return 0;
    }
    if (p + 1 != stop || p[0] != 0)
        return 0;
    r->header_count = 0;
    r->headers = r->end = stop;
    *at = stop;
    return 1;
}

#endif
