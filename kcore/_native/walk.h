/* The shape of a decoded record, and the quick way to decode one.
 *
 * The quick way knows the records that nearly all are: no number longer than three bytes, fewer
 * than 64 headers, 32 bytes of room behind its start. It asks for that room once instead of at
 * every byte. Whatever else it meets, broken or only rare, it leaves to the steps of record_next
 * (records.pxd), which check every one and name the fault. The runs below do the same for as many
 * records as they can: what they know of a record stays in registers.
 */
#ifndef KCORE_WALK_H
#define KCORE_WALK_H

#include <stddef.h>
#include <stdint.h>

#include "layout.h"

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

/* Where the next record's columns go. */
typedef struct {
    int64_t *offsets;
    int64_t *timestamps;
    int64_t *keys; /* start, end; -1, -1: null */
    int64_t *values;
} kcore_fill;

#define KCORE_INLINE static inline __attribute__((always_inline))

/* A number of at most three bytes at p, which must be there, still zigzag; NULL: it is longer. */
KCORE_INLINE const uint8_t *kcore_quick_number(const uint8_t *p, uint32_t *value) {
    uint32_t v = p[0];
    if (v < 0x80) {
        *value = v;
        return p + 1;
    }
    const uint32_t next = p[1];
    v += next << 7; /* too much by the marks that another byte follows */
    if (next < 0x80) {
        *value = v - 0x80;
        return p + 2;
    }
    if (p[2] >= 0x80)
        return NULL;
    v -= 0x80 + (0x80 << 7);
    *value = v + ((uint32_t)p[2] << 14);
    return p + 3;
}

/* Decodes the record at p and returns the position behind it, or NULL. Of headers only the count
 * is looked at. An odd zigzag number is negative. */
KCORE_INLINE const uint8_t *kcore_record_quick(const uint8_t *p, const uint8_t *end,
                                               kcore_record *r) {
    uint32_t v;
    if (end - p < 32 || (p = kcore_quick_number(p, &v)) == NULL || v & 1 ||
        (ptrdiff_t)(v >> 1) > end - p)
        return NULL;
    const uint8_t *stop = p + (v >> 1);
    p += 1; /* attributes: none are defined */
    /* At most 3 + 1 + 3 + 3 + 3 bytes so far, and 3 for the size of a value without a key: within
     * the 32. */
    if ((p = kcore_quick_number(p, &v)) == NULL)
        return NULL;
    r->timestamp_delta = (int32_t)((v >> 1) ^ (0u - (v & 1)));
    if ((p = kcore_quick_number(p, &v)) == NULL || v & 1)
        return NULL;
    r->offset_delta = (int32_t)(v >> 1);
    if (*p == 1) {
        r->key = NULL;
        r->key_size = -1;
        p += 1;
    } else {
        /* Behind the key lie a value size and a header count. */
        if ((p = kcore_quick_number(p, &v)) == NULL || v & 1 || stop - p < 4 ||
            (ptrdiff_t)(v >> 1) > stop - p - 4)
            return NULL;
        r->key = p;
        r->key_size = (int32_t)(v >> 1);
        p += v >> 1;
    }
    if (*p == 1) {
        r->value = NULL;
        r->value_size = -1;
        p += 1;
    } else {
        if ((p = kcore_quick_number(p, &v)) == NULL || v & 1 || (ptrdiff_t)(v >> 1) >= stop - p)
            return NULL;
        r->value = p;
        r->value_size = (int32_t)(v >> 1);
        p += v >> 1;
    }
    if (p >= stop)
        return NULL;
    uint32_t count = *p++;
    if (count == 0) {
        if (p != stop)
            return NULL;
    } else if (count & 0x81 || (ptrdiff_t)(count >> 1) > (stop - p) / HEADER_BYTES_MIN) {
        return NULL;
    }
    r->header_count = (int32_t)(count >> 1);
    r->headers = p;
    r->end = stop;
    return stop;
}

/* Whether every header lies inside the record, has a key, and the last one ends it. 0 also for
 * headers that are only rare: a key of 64 bytes, a value whose size takes three. */
KCORE_INLINE int kcore_headers_fit(const kcore_record *r) {
    const uint8_t *p = r->headers, *stop = r->end;
    for (int32_t i = 0; i < r->header_count; i++) {
        if (stop - p < HEADER_BYTES_MIN || p[0] & 0x81 || (ptrdiff_t)(p[0] >> 1) > stop - p - 2)
            return 0;
        p += 1 + (p[0] >> 1);
        uint32_t v = *p++;
        if (v == 1) /* null */
            continue;
        if (v >= 0x80) {
            if (p == stop || *p >= 0x80)
                return 0;
            v = (v & 0x7f) | (uint32_t)*p++ << 7;
        }
        if (v & 1 || (ptrdiff_t)(v >> 1) > stop - p)
            return 0;
        p += v >> 1;
    }
    return p == stop;
}

/* Whether the headers from their count at p on end the record, and are as above. */
KCORE_INLINE int kcore_headers_quick(const uint8_t *p, const uint8_t *stop) {
    const uint32_t count = *p++;
    if (count == 0)
        return p == stop;
    if (count & 0x81 || (ptrdiff_t)(count >> 1) > (stop - p) / HEADER_BYTES_MIN)
        return 0;
    const kcore_record r = {.headers = p, .end = stop, .header_count = (int32_t)(count >> 1)};
    return kcore_headers_fit(&r);
}

/* A number that is no size or offset when it is odd, that is negative: then it is above any bound. */
KCORE_INLINE uint32_t kcore_even_half(uint32_t v) { return v >> 1 | v << 31; }

/* Writes records to the columns, up to `count` or the first that is not quick or not within the
 * batch (`offset_delta_max`), and returns how many. Bounds are distances from `base`. Timestamps
 * are `timestamp` plus the record's delta, or `timestamp` alone. The same steps as
 * kcore_record_quick's, but each column is written as soon as it is known: a record that turns out
 * not to be quick leaves numbers behind, which the next to be written replaces. */
static inline int32_t kcore_fill_run(const uint8_t **at, const uint8_t *end, const uint8_t *base,
                                     int32_t count, int64_t base_offset, int32_t offset_delta_max,
                                     int64_t timestamp, int with_delta, kcore_fill *to) {
    const uint8_t *start = *at, *p;
    const uint64_t delta_mask = with_delta ? ~(uint64_t)0 : 0;
    const kcore_fill fill = *to;
    int64_t i;
    for (i = 0; i < count; i++) {
        uint32_t v;
        if (end - start < 32 || (p = kcore_quick_number(start, &v)) == NULL || v & 1 ||
            (ptrdiff_t)(v >> 1) > end - p)
            break;
        const uint8_t *stop = p + (v >> 1);
        if ((p = kcore_quick_number(p + 1, &v)) == NULL)
            break;
        const uint64_t delta = (uint64_t)(int32_t)((v >> 1) ^ (0u - (v & 1)));
        fill.timestamps[i] = (int64_t)((uint64_t)timestamp + (delta & delta_mask));
        if ((p = kcore_quick_number(p, &v)) == NULL ||
            kcore_even_half(v) > (uint32_t)offset_delta_max)
            break;
        fill.offsets[i] = base_offset + (v >> 1);
        if (*p == 1) {
            fill.keys[2 * i] = fill.keys[2 * i + 1] = -1;
            p += 1;
        } else {
            if ((p = kcore_quick_number(p, &v)) == NULL ||
                (ptrdiff_t)kcore_even_half(v) > stop - p - 4)
                break;
            fill.keys[2 * i] = p - base;
            p += v >> 1;
            fill.keys[2 * i + 1] = p - base;
        }
        if (*p == 1) {
            fill.values[2 * i] = fill.values[2 * i + 1] = -1;
            p += 1;
        } else {
            if ((p = kcore_quick_number(p, &v)) == NULL ||
                (ptrdiff_t)kcore_even_half(v) >= stop - p)
                break;
            fill.values[2 * i] = p - base;
            p += v >> 1;
            fill.values[2 * i + 1] = p - base;
        }
        if (p >= stop || !kcore_headers_quick(p, stop))
            break;
        start = stop;
    }
    *at = start;
    *to = (kcore_fill){fill.offsets + i, fill.timestamps + i, fill.keys + 2 * i, fill.values + 2 * i};
    return (int32_t)i;
}

/* Walks records of a produced batch from the one at `index` on, up to `count` or the first that is
 * not quick or not as it must be, and returns the index of that. */
static inline int32_t kcore_check_run(const uint8_t **at, const uint8_t *end, int32_t index,
                                      int32_t count, int need_keys) {
    const uint8_t *p = *at, *next;
    kcore_record r;
    for (; index < count; index++) {
        next = kcore_record_quick(p, end, &r);
        if (next == NULL || r.offset_delta != index || (need_keys && r.key_size < 0) ||
            (r.header_count && !kcore_headers_fit(&r)))
            break;
        p = next;
    }
    *at = p;
    return index;
}

#endif
