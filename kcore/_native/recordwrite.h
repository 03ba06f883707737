/* Measuring and writing the records of a batch.
 *
 * Both passes are one inline function each, of which the common shapes (values only; as a list,
 * with int32 or with int64 offsets) get a copy with the other shapes' tests folded away.
 * encoder.pyx owns the rest: the batch's memory, its header, its CRC and large values.
 */
#ifndef KCORE_RECORDWRITE_H
#define KCORE_RECORDWRITE_H

#include <Python.h>
#include <stdint.h>
#include <string.h>

#include "layout.h"

#define KCORE_INLINE static inline __attribute__((always_inline))

#define KCORE_SHORT_BYTES_MAX 512          /* copied inline; above it memcpy wins */
#define KCORE_FUSED_BYTES_MIN (4 * 1024)   /* from here a value is copied and summed in one pass */

enum {
    KCORE_COLUMN_NULLS, /* every value null */
    KCORE_COLUMN_LIST,  /* a list of bytes or None */
    KCORE_COLUMN_32,    /* a buffer and int32 offsets */
    KCORE_COLUMN_64     /* a buffer and int64 offsets */
};

typedef struct {
    int kind;
    PyObject **items;
    const uint8_t *data;
    int64_t data_size;
    const int32_t *offsets32;
    const int64_t *offsets64;
    const uint8_t *valid; /* Arrow's validity bitmap, or NULL */
    int64_t first;        /* Arrow: index of the first value in offsets and bitmap */
} kcore_column;

typedef struct {
    int64_t count;
    kcore_column keys;
    kcore_column values;
    const int64_t *timestamps; /* NULL: all are base_timestamp */
    int64_t base_timestamp;
    const uint8_t *headers; /* encoded header sections, one after the other; NULL: none */
    const int64_t *header_ends;
} kcore_plan;

/* A copy of at most a few hundred bytes without a call: whole steps, then one that overlaps
 * the end. Never touches a byte outside either range. */
KCORE_INLINE void kcore_copy_short(uint8_t *dst, const uint8_t *src, int64_t n) {
    if (n > 64 && n <= 128) { /* the usual sizes without a loop to mispredict */
        memcpy(dst, src, 32);
        memcpy(dst + 32, src + 32, 32);
        memcpy(dst + n - 64, src + n - 64, 32);
        memcpy(dst + n - 32, src + n - 32, 32);
    } else if (n >= 32) {
        for (int64_t i = 0; i < n - 32; i += 32)
            memcpy(dst + i, src + i, 32);
        memcpy(dst + n - 32, src + n - 32, 32);
    } else if (n >= 16) {
        memcpy(dst, src, 16);
        memcpy(dst + n - 16, src + n - 16, 16);
    } else if (n >= 8) {
        memcpy(dst, src, 8);
        memcpy(dst + n - 8, src + n - 8, 8);
    } else if (n >= 4) {
        memcpy(dst, src, 4);
        memcpy(dst + n - 4, src + n - 4, 4);
    } else if (n > 0) { /* first, middle and last: all there are of one to three */
        uint8_t first = src[0], middle = src[n >> 1], last = src[n - 1];
        dst[0] = first;
        dst[n >> 1] = middle;
        dst[n - 1] = last;
    }
}

/* The same where a few bytes are the most likely: keys and headers. */
KCORE_INLINE void kcore_copy_few(uint8_t *dst, const uint8_t *src, int64_t n) {
    if (n == 1) {
        dst[0] = src[0];
    } else if (n <= 16 && n >= 8) {
        memcpy(dst, src, 8);
        memcpy(dst + n - 8, src + n - 8, 8);
    } else if (n < 8 && n >= 4) {
        memcpy(dst, src, 4);
        memcpy(dst + n - 4, src + n - 4, 4);
    } else {
        kcore_copy_short(dst, src, n);
    }
}

KCORE_INLINE void kcore_copy(uint8_t *dst, const uint8_t *src, int64_t n) {
    if (n <= KCORE_SHORT_BYTES_MAX)
        kcore_copy_short(dst, src, n);
    else
        memcpy(dst, src, (size_t)n);
}

KCORE_INLINE uint64_t kcore_zigzag(int64_t v) { return ((uint64_t)v << 1) ^ (uint64_t)(v >> 63); }

KCORE_INLINE int kcore_number_size(int64_t v) {
    uint64_t u = kcore_zigzag(v);
    if (u < 1 << 7)
        return 1;
    if (u < 1 << 14)
        return 2;
    int size = 3;
    for (u >>= 21; u; u >>= 7)
        size++;
    return size;
}

/* The same of a size, or -1 for null. */
KCORE_INLINE int kcore_size_size(int64_t v) {
    if (v < 1 << 6)
        return 1;
    if (v < 1 << 13)
        return 2;
    return v < 1 << 20 ? 3 : v < 1 << 27 ? 4 : 5;
}

KCORE_INLINE uint8_t *kcore_put_number(uint8_t *p, int64_t v) {
    uint64_t u = kcore_zigzag(v);
    for (; u >= 0x80; u >>= 7)
        *p++ = (uint8_t)(u | 0x80);
    *p++ = (uint8_t)u;
    return p;
}

/* The same without branches, for -1 <= v < 8192; also overwrites one byte behind a short one. */
KCORE_INLINE uint8_t *kcore_put_small(uint8_t *p, int64_t v) {
    uint32_t u = (uint32_t)kcore_zigzag(v), more = u >= 0x80;
    p[0] = (uint8_t)((u & 0x7f) | more << 7);
    p[1] = (uint8_t)(u >> 7);
    return p + 1 + more;
}

/* The same with branches, for sizes that are mostly alike, which a processor foresees. */
KCORE_INLINE uint8_t *kcore_put_alike(uint8_t *p, int64_t v) {
    uint32_t u = (uint32_t)v << 1;
    if (v >= 1 << 6) {
        p[0] = (uint8_t)(u | 0x80);
        p[1] = (uint8_t)(u >> 7);
        return p + 2;
    }
    p[0] = (uint8_t)(v < 0 ? 1 : u);
    return p + 1;
}

/* ------------------------------------------------------------------ what a record is made of */

KCORE_INLINE int kcore_is_null(const kcore_column *c, int64_t i) {
    return c->valid != NULL && !((c->valid[i >> 3] >> (i & 7)) & 1);
}

/* Size and place of value i, which was measured; -1: null. `kind` is c->kind. */
KCORE_INLINE int64_t kcore_column_at(const kcore_column *c, int kind, int64_t i,
                                     const uint8_t **p) {
    if (kind == KCORE_COLUMN_NULLS)
        return -1;
    if (kind == KCORE_COLUMN_LIST) {
        PyObject *item = c->items[i];
        if (item == Py_None)
            return -1;
        *p = (const uint8_t *)PyBytes_AS_STRING(item);
        return PyBytes_GET_SIZE(item);
    }
    i += c->first;
    if (kcore_is_null(c, i))
        return -1;
    int64_t start = kind == KCORE_COLUMN_32 ? c->offsets32[i] : c->offsets64[i];
    int64_t end = kind == KCORE_COLUMN_32 ? c->offsets32[i + 1] : c->offsets64[i + 1];
    *p = c->data + start;
    return end - start;
}

/* Size of value i; -1: null; -2: it is no bytes, or not within the buffer. */
KCORE_INLINE int64_t kcore_checked_size(const kcore_column *c, int kind, int64_t i) {
    if (kind == KCORE_COLUMN_NULLS)
        return -1;
    if (kind == KCORE_COLUMN_LIST) {
        PyObject *item = c->items[i];
        if (PyBytes_CheckExact(item))
            return PyBytes_GET_SIZE(item);
        return item == Py_None ? -1 : -2;
    }
    i += c->first;
    if (kcore_is_null(c, i))
        return -1;
    int64_t start = kind == KCORE_COLUMN_32 ? c->offsets32[i] : c->offsets64[i];
    int64_t end = kind == KCORE_COLUMN_32 ? c->offsets32[i + 1] : c->offsets64[i + 1];
    if ((uint64_t)start > (uint64_t)end || (uint64_t)end > (uint64_t)c->data_size)
        return -2; /* unsigned: what is negative is too large */
    return end - start;
}

KCORE_INLINE int64_t kcore_delta(const kcore_plan *plan, int64_t i) {
    if (plan->timestamps == NULL)
        return 0;
    return (int64_t)((uint64_t)plan->timestamps[i] - (uint64_t)plan->base_timestamp);
}

KCORE_INLINE int64_t kcore_headers_size(const kcore_plan *plan, int64_t i) {
    if (plan->headers == NULL)
        return 1; /* the count, zero */
    return plan->header_ends[i] - (i ? plan->header_ends[i - 1] : 0);
}

KCORE_INLINE int64_t kcore_at_least_0(int64_t size) { return size & ~(size >> 63); }

KCORE_INLINE int64_t kcore_body_size(int64_t i, int64_t delta, int64_t key_size,
                                     int64_t value_size, int64_t headers_size) {
    return 1 + kcore_number_size(delta) + kcore_number_size(i) + kcore_number_size(key_size) +
           (key_size > 0 ? key_size : 0) + kcore_number_size(value_size) +
           (value_size > 0 ? value_size : 0) + headers_size;
}

/* Up to here i's number takes as many bytes as at i. */
KCORE_INLINE int64_t kcore_same_size_until(int64_t i) {
    return i < 1 << 6 ? 1 << 6 : i < 1 << 13 ? 1 << 13 : i < 1 << 20 ? 1 << 20 : INT64_MAX;
}

#define KCORE_PLAIN_END (1 << 20) /* indexes below it take at most three bytes */

/* The bytes of the number i < KCORE_PLAIN_END, the first one lowest. */
KCORE_INLINE uint64_t kcore_offset_code(int64_t i) {
    uint64_t u = (uint64_t)i << 1;
    if (u < 1 << 7)
        return u;
    if (u < 1 << 14)
        return (u & 0x7f) | 0x80 | (u >> 7) << 8;
    return (u & 0x7f) | 0x80 | (u >> 7 & 0x7f) << 8 | 0x8000 | (u >> 14) << 16;
}

KCORE_INLINE void kcore_store_le64(uint8_t *p, uint64_t v) {
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap64(v);
#endif
    memcpy(p, &v, 8);
}

/* ------------------------------------------------------------------ the two passes */

/* `key_kind` and `value_kind` are those of the plan's columns. */
KCORE_INLINE int64_t kcore_measure_any(const kcore_plan *all, int key_kind, int value_kind) {
    const kcore_plan copy = *all, *plan = &copy; /* which no store can be thought to change */
    int64_t total = 0, same_until = 0, offset_bytes = 0;
    for (int64_t i = 0; i < plan->count; i++) {
        int64_t key_size = kcore_checked_size(&plan->keys, key_kind, i);
        int64_t value_size = kcore_checked_size(&plan->values, value_kind, i);
        int64_t headers_size = kcore_headers_size(plan, i);
        if (key_size < -1 || value_size < -1)
            return -1;
        if (key_size > BATCH_BYTES_MAX || value_size > BATCH_BYTES_MAX ||
            headers_size > BATCH_BYTES_MAX)
            return BATCH_BYTES_MAX + 1;
        if (i >= same_until) {
            offset_bytes = kcore_number_size(i);
            same_until = kcore_same_size_until(i);
        }
        int64_t body = 1 + kcore_number_size(kcore_delta(plan, i)) + offset_bytes +
                       kcore_size_size(key_size) + kcore_at_least_0(key_size) +
                       kcore_size_size(value_size) + kcore_at_least_0(value_size) + headers_size;
        if (body > BATCH_BYTES_MAX)
            return body;
        total += kcore_size_size(body) + body;
    }
    return total;
}

/* Of a plain record: neither key nor headers nor a timestamp of its own. */
KCORE_INLINE int64_t kcore_measure_plain(const kcore_plan *plan, int kind) {
    const kcore_column values = plan->values; /* a copy, which no store can be thought to change */
    int64_t total = 0, same = INT64_MIN, same_until = 0, step = 0;
    for (int64_t i = 0; i < plan->count; i++) {
        int64_t value_size = kcore_checked_size(&values, kind, i);
        if (value_size != same || i >= same_until) {
            if (value_size < -1)
                return -1;
            if (value_size > BATCH_BYTES_MAX)
                return BATCH_BYTES_MAX + 1;
            step = kcore_body_size(i, 0, -1, value_size, 1);
            step += kcore_number_size(step);
            same = value_size;
            same_until = kcore_same_size_until(i);
        }
        total += step;
    }
    return total;
}

/* The quick writers put up to five bytes too many behind a number. The last record is not theirs,
 * so that these bytes always lie in the same record or the next one, of at least seven. */
KCORE_INLINE uint8_t *kcore_write_any(const kcore_plan *all, int key_kind, int value_kind,
                                      int64_t *at, uint8_t *out, int64_t room) {
    const kcore_plan copy = *all, *plan = &copy;
    const uint8_t *key = NULL, *value = NULL;
    uint8_t *p = out;
    int64_t i = *at;
    for (; i < plan->count - 1 && p - out < room; i++) {
        int64_t key_size = kcore_column_at(&plan->keys, key_kind, i, &key);
        int64_t value_size = kcore_column_at(&plan->values, value_kind, i, &value);
        int64_t headers_size = kcore_headers_size(plan, i);
        int64_t delta = kcore_delta(plan, i);
        if (value_size >= KCORE_FUSED_BYTES_MIN || key_size > KCORE_SHORT_BYTES_MAX ||
            headers_size > KCORE_SHORT_BYTES_MAX)
            break;
        /* A body of 64 bytes and more, up to what is not for us, has a size of two: written last,
         * when it is known. */
        uint8_t *start = p;
        int is_long = kcore_at_least_0(key_size) + kcore_at_least_0(value_size) + headers_size >= 64;
        if (is_long)
            p += 2;
        else
            p = kcore_put_small(p, kcore_body_size(i, delta, key_size, value_size, headers_size));
        *p++ = 0; /* attributes: none are defined */
        p = kcore_put_number(p, delta);
        p = i < 1 << 13 ? kcore_put_alike(p, i) : kcore_put_number(p, i);
        p = kcore_put_alike(p, key_size);
        if (key_size > 0) {
            kcore_copy_few(p, key, key_size);
            p += key_size;
        }
        p = kcore_put_small(p, value_size);
        if (value_size > 0) {
            kcore_copy(p, value, value_size);
            p += value_size;
        }
        if (plan->headers == NULL)
            *p = 0;
        else
            kcore_copy_few(p, plan->headers + plan->header_ends[i] - headers_size, headers_size);
        p += headers_size;
        if (is_long) {
            int64_t body = p - start - 2;
            start[0] = (uint8_t)(body << 1 | 0x80);
            start[1] = (uint8_t)(body >> 6);
        }
    }
    *at = i;
    return p;
}

/* Before the value a plain record has: body size (1 or 2 bytes), attributes, delta, offset (1 to
 * 3), null key, value size (1 or 2). All but the offset stay while value size and i's size do. */
KCORE_INLINE uint8_t *kcore_write_plain(const kcore_plan *plan, int kind, int64_t *at,
                                        uint8_t *out, int64_t room) {
    const kcore_column values = plan->values;
    const int64_t end = plan->count - 1 < KCORE_PLAIN_END ? plan->count - 1 : KCORE_PLAIN_END;
    const uint8_t *value = NULL;
    uint8_t *p = out, size_bytes[3] = {0};
    uint64_t head = 0;
    int64_t i = *at, same = INT64_MIN, same_until = 0;
    int64_t head_bytes = 0, prefix_bytes = 0, payload_bytes = 0;
    for (; i < end && p - out < room; i++) {
        int64_t value_size = kcore_column_at(&values, kind, i, &value);
        if (value_size != same || i >= same_until) {
            if (value_size >= KCORE_FUSED_BYTES_MIN)
                break;
            uint8_t body[3];
            int64_t body_size = kcore_body_size(i, 0, -1, value_size, 1);
            int64_t offset_end = 2 + kcore_number_size(i);
            head_bytes = kcore_put_small(body, body_size) - body;
            offset_end += head_bytes;
            head_bytes += 2;
            head = body[0] | (uint64_t)(head_bytes == 4 ? body[1] : 0) << 8 |
                   (uint64_t)1 << (8 * offset_end); /* the key's size, -1 */
            prefix_bytes = offset_end + 1 + (kcore_put_small(size_bytes, value_size) - size_bytes);
            payload_bytes = value_size > 0 ? value_size : 0;
            same = value_size;
            same_until = kcore_same_size_until(i);
        }
        kcore_store_le64(p, head | kcore_offset_code(i) << (8 * head_bytes));
        p[prefix_bytes - 2 + (size_bytes[0] < 0x80)] = size_bytes[0];
        p[prefix_bytes - 1 + (size_bytes[0] < 0x80)] = size_bytes[1];
        p += prefix_bytes;
        kcore_copy(p, value, payload_bytes);
        p += payload_bytes;
        *p++ = 0; /* headers */
    }
    *at = i;
    return p;
}

KCORE_INLINE int kcore_is_plain(const kcore_plan *plan) {
    return plan->keys.kind == KCORE_COLUMN_NULLS && plan->timestamps == NULL &&
           plan->headers == NULL;
}

/* Bytes that the records take, exactly; -1 if a key or value cannot be; or above the bound.
 *
 * Exactly, because shrinking the batch afterwards would make the allocator hand out untouched
 * pages for every large batch: their faults cost more than all the rest. */
static int64_t kcore_measure(const kcore_plan *plan) {
    const int kind = plan->values.kind;
    if (!kcore_is_plain(plan)) {
        if (kind == KCORE_COLUMN_LIST && plan->keys.kind == KCORE_COLUMN_LIST)
            return kcore_measure_any(plan, KCORE_COLUMN_LIST, KCORE_COLUMN_LIST);
        return kcore_measure_any(plan, plan->keys.kind, kind);
    }
    if (kind == KCORE_COLUMN_LIST)
        return kcore_measure_plain(plan, KCORE_COLUMN_LIST);
    if (kind == KCORE_COLUMN_64)
        return kcore_measure_plain(plan, KCORE_COLUMN_64);
    return kcore_measure_plain(plan, KCORE_COLUMN_32);
}

/* Writes records from *at on, which it advances, until `room` bytes are passed or a record comes
 * that is not for it: the last one, or one with large parts. Returns the position behind them. */
static uint8_t *kcore_write_run(const kcore_plan *plan, int64_t *at, uint8_t *p, int64_t room) {
    const int kind = plan->values.kind;
    if (!kcore_is_plain(plan) || *at >= KCORE_PLAIN_END) {
        if (kind == KCORE_COLUMN_LIST && plan->keys.kind == KCORE_COLUMN_LIST)
            return kcore_write_any(plan, KCORE_COLUMN_LIST, KCORE_COLUMN_LIST, at, p, room);
        return kcore_write_any(plan, plan->keys.kind, kind, at, p, room);
    }
    if (kind == KCORE_COLUMN_LIST)
        return kcore_write_plain(plan, KCORE_COLUMN_LIST, at, p, room);
    if (kind == KCORE_COLUMN_64)
        return kcore_write_plain(plan, KCORE_COLUMN_64, at, p, room);
    return kcore_write_plain(plan, KCORE_COLUMN_32, at, p, room);
}

/* ------------------------------------------------------------------ headers */

#define KCORE_HEADER_PART_MAX 4096

/* The header section of one record, given as None or a list of tuples (ASCII str, bytes): returns
 * its size, or -1 if it looks otherwise or may not fit. Runs no Python code. */
KCORE_INLINE int64_t kcore_headers_quick(PyObject *given, uint8_t *out, int64_t room) {
    uint8_t *p = out;
    if (room < 8)
        return -1;
    if (given == Py_None) {
        *p = 0;
        return 1;
    }
    if (!PyList_CheckExact(given) || PyList_GET_SIZE(given) > KCORE_HEADER_PART_MAX)
        return -1;
    const Py_ssize_t count = PyList_GET_SIZE(given);
    p = kcore_put_alike(p, count);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *pair = PyList_GET_ITEM(given, i);
        if (!PyTuple_CheckExact(pair) || PyTuple_GET_SIZE(pair) != 2)
            return -1;
        PyObject *name = PyTuple_GET_ITEM(pair, 0), *value = PyTuple_GET_ITEM(pair, 1);
        if (!PyUnicode_CheckExact(name) || !PyUnicode_IS_COMPACT_ASCII(name) ||
            !PyBytes_CheckExact(value))
            return -1;
        const Py_ssize_t name_size = PyUnicode_GET_LENGTH(name);
        const Py_ssize_t value_size = PyBytes_GET_SIZE(value);
        if (name_size > KCORE_HEADER_PART_MAX || value_size > KCORE_HEADER_PART_MAX ||
            name_size + value_size + 8 > room - (p - out))
            return -1;
        p = kcore_put_alike(p, name_size);
        if (name_size <= KCORE_SHORT_BYTES_MAX)
            kcore_copy_few(p, (const uint8_t *)PyUnicode_DATA(name), name_size);
        else
            memcpy(p, PyUnicode_DATA(name), (size_t)name_size);
        p = kcore_put_alike(p + name_size, value_size);
        if (value_size <= KCORE_SHORT_BYTES_MAX)
            kcore_copy_few(p, (const uint8_t *)PyBytes_AS_STRING(value), value_size);
        else
            memcpy(p, PyBytes_AS_STRING(value), (size_t)value_size);
        p += value_size;
    }
    return p - out;
}

/* The sections of records from `i` on, behind the `size` bytes that `out` holds: returns the index
 * of the first that is not quick. `ends` gets where each ends; `size` becomes the last of these. */
static int64_t kcore_headers_run(PyObject *const *given, int64_t i, int64_t count, uint8_t *out,
                                 int64_t *size, int64_t room, int64_t *ends) {
    int64_t at = *size;
    for (; i < count; i++) {
        int64_t one = kcore_headers_quick(given[i], out + at, room - at);
        if (one < 0)
            break;
        at += one;
        ends[i] = at;
    }
    *size = at;
    return i;
}

#endif
