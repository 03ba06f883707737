/* Writing the records of a batch, in one pass over what the caller gave.
 *
 * A pass that measured first would cost a third of the whole: it fetches every object once more.
 * So the room is guessed from a sample, and who writes checks it (and the types) as it goes.
 * The writers are inline functions, of which the common shapes (values only; as a list, with int32
 * or with int64 offsets) get a copy with the other shapes' tests folded away. They write what
 * nearly all records are; any other is left to encoder.pyx, which owns the batch's memory, its
 * header, its CRC and large values too.
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
    PyObject **header_lists; /* of each record None or a plain list; NULL: see `headers` */
    const uint8_t *headers;  /* encoded header sections, one after the other; NULL: none */
    const int64_t *header_ends;
} kcore_plan;

/* Instead of a size. */
enum {
    KCORE_NO_BYTES = -2,    /* a key or value is no bytes, or not within its buffer */
    KCORE_RARE_HEADERS = -3 /* header lists that are not plain: they must be encoded first */
};

KCORE_INLINE int64_t kcore_less(int64_t a, int64_t b) { return a < b ? a : b; }

/* A copy of at most a few hundred bytes without a call: whole steps, then one that overlaps
 * the end. Never touches a byte outside either range. */
KCORE_INLINE void kcore_copy_short(uint8_t *dst, const uint8_t *src, int64_t n) {
    if (n >= 32) {
        const int64_t last = n - 32;
        if (n <= 128) { /* the usual sizes: four steps, which overlap, and no loop to mispredict */
            const int64_t second = kcore_less(32, last), third = kcore_less(64, last);
            memcpy(dst, src, 32);
            memcpy(dst + second, src + second, 32);
            memcpy(dst + third, src + third, 32);
        } else {
            for (int64_t i = 0; i < last; i += 32)
                memcpy(dst + i, src + i, 32);
        }
        memcpy(dst + last, src + last, 32);
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

/* Of the time between a record and the first, which is mostly less than 64 ms. */
KCORE_INLINE uint8_t *kcore_put_delta(uint8_t *p, int64_t v) {
    if ((uint64_t)v + 64 >= 128)
        return kcore_put_number(p, v);
    *p = (uint8_t)kcore_zigzag(v);
    return p + 1;
}

/* A number without branches, for -1 <= v < 8192; also overwrites one byte behind a short one. */
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

/* ------------------------------------------------------------------ headers */

/* Bytes of the header section of one record, if it is plain: None or a list of tuples (ASCII str,
 * bytes or None), all together of no more than KCORE_SHORT_BYTES_MAX. Or KCORE_RARE_HEADERS. */
KCORE_INLINE int64_t kcore_plain_headers_size(PyObject *given) {
    if (given == Py_None)
        return 1;
    if (!PyList_CheckExact(given))
        return KCORE_RARE_HEADERS;
    const Py_ssize_t count = PyList_GET_SIZE(given);
    int64_t size = kcore_size_size(count);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *pair = PyList_GET_ITEM(given, i);
        if (!PyTuple_CheckExact(pair) || PyTuple_GET_SIZE(pair) != 2)
            return KCORE_RARE_HEADERS;
        PyObject *name = PyTuple_GET_ITEM(pair, 0), *value = PyTuple_GET_ITEM(pair, 1);
        if (!PyUnicode_CheckExact(name) || !PyUnicode_IS_COMPACT_ASCII(name))
            return KCORE_RARE_HEADERS;
        const int64_t name_size = PyUnicode_GET_LENGTH(name);
        int64_t value_size = 0;
        if (PyBytes_CheckExact(value))
            value_size = PyBytes_GET_SIZE(value);
        else if (value != Py_None)
            return KCORE_RARE_HEADERS;
        size += kcore_size_size(name_size) + name_size + kcore_size_size(value_size) + value_size;
        if (size > KCORE_SHORT_BYTES_MAX)
            return KCORE_RARE_HEADERS;
    }
    return size;
}

/* Writes such a section and returns the position behind it; NULL: it is not plain, or `end` could
 * be too near. Looks at each object once, hence the same tests once more. */
KCORE_INLINE uint8_t *kcore_put_plain_headers(uint8_t *p, const uint8_t *end, PyObject *given) {
    const uint8_t *start = p;
    if (given == Py_None) {
        *p = 0;
        return p + 1;
    }
    if (!PyList_CheckExact(given) || PyList_GET_SIZE(given) > KCORE_SHORT_BYTES_MAX)
        return NULL;
    const Py_ssize_t count = PyList_GET_SIZE(given);
    p = kcore_put_alike(p, count);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *pair = PyList_GET_ITEM(given, i);
        if (!PyTuple_CheckExact(pair) || PyTuple_GET_SIZE(pair) != 2)
            return NULL;
        PyObject *name = PyTuple_GET_ITEM(pair, 0), *value = PyTuple_GET_ITEM(pair, 1);
        if (!PyUnicode_CheckExact(name) || !PyUnicode_IS_COMPACT_ASCII(name))
            return NULL;
        const int64_t name_size = PyUnicode_GET_LENGTH(name);
        const int64_t room = kcore_less(KCORE_SHORT_BYTES_MAX - (p - start), end - p - 8);
        if (name_size > room)
            return NULL;
        p = kcore_put_alike(p, name_size);
        kcore_copy_few(p, (const uint8_t *)PyUnicode_DATA(name), name_size);
        p += name_size;
        if (value == Py_None) {
            *p++ = 1; /* -1 */
            continue;
        }
        if (!PyBytes_CheckExact(value) || PyBytes_GET_SIZE(value) > room - name_size)
            return NULL;
        const int64_t value_size = PyBytes_GET_SIZE(value);
        p = kcore_put_alike(p, value_size);
        kcore_copy_few(p, (const uint8_t *)PyBytes_AS_STRING(value), value_size);
        p += value_size;
    }
    return p;
}

/* ------------------------------------------------------------------ what a record is made of */

KCORE_INLINE int kcore_is_null(const kcore_column *c, int64_t i) {
    return c->valid != NULL && !((c->valid[i >> 3] >> (i & 7)) & 1);
}

/* Size and place of value i; -1: null; KCORE_NO_BYTES. `kind` is c->kind. */
KCORE_INLINE int64_t kcore_column_at(const kcore_column *c, int kind, int64_t i,
                                     const uint8_t **p) {
    if (kind == KCORE_COLUMN_NULLS)
        return -1;
    if (kind == KCORE_COLUMN_LIST) {
        PyObject *item = c->items[i];
        if (!PyBytes_CheckExact(item))
            return item == Py_None ? -1 : KCORE_NO_BYTES;
        *p = (const uint8_t *)PyBytes_AS_STRING(item);
        return PyBytes_GET_SIZE(item);
    }
    i += c->first;
    if (kcore_is_null(c, i))
        return -1;
    int64_t start = kind == KCORE_COLUMN_32 ? c->offsets32[i] : c->offsets64[i];
    int64_t end = kind == KCORE_COLUMN_32 ? c->offsets32[i + 1] : c->offsets64[i + 1];
    if ((uint64_t)start > (uint64_t)end || (uint64_t)end > (uint64_t)c->data_size)
        return KCORE_NO_BYTES; /* unsigned: what is negative is too large */
    *p = c->data + start;
    return end - start;
}

KCORE_INLINE int64_t kcore_delta(const kcore_plan *plan, int64_t i) {
    if (plan->timestamps == NULL)
        return 0;
    return (int64_t)((uint64_t)plan->timestamps[i] - (uint64_t)plan->base_timestamp);
}

/* KCORE_RARE_HEADERS: the section is not plain. */
KCORE_INLINE int64_t kcore_headers_size(const kcore_plan *plan, int64_t i) {
    if (plan->header_lists != NULL)
        return kcore_plain_headers_size(plan->header_lists[i]);
    if (plan->headers == NULL)
        return 1; /* the count, zero */
    return plan->header_ends[i] - (i ? plan->header_ends[i - 1] : 0);
}

KCORE_INLINE int64_t kcore_body_size(int64_t i, int64_t delta, int64_t key_size,
                                     int64_t value_size, int64_t headers_size) {
    return 1 + kcore_number_size(delta) + kcore_number_size(i) + kcore_number_size(key_size) +
           (key_size > 0 ? key_size : 0) + kcore_number_size(value_size) +
           (value_size > 0 ? value_size : 0) + headers_size;
}

KCORE_INLINE void kcore_store_le64(uint8_t *p, uint64_t v) {
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap64(v);
#endif
    memcpy(p, &v, 8);
}

KCORE_INLINE void kcore_store_le32(uint8_t *p, uint32_t v) {
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap32(v);
#endif
    memcpy(p, &v, 4);
}

/* The number of a record, as it is written: at most four bytes, the first one lowest. Counting up
 * keeps that form: a carry runs out of a byte's seven bits into the next byte, and takes with it
 * the mark that another byte follows, which is set again. */
typedef struct {
    uint32_t code;
    uint32_t marks;
    int64_t bytes;
    int64_t until; /* this record's number takes a byte more */
} kcore_offset;

KCORE_INLINE kcore_offset kcore_offset_from(int64_t i) {
    const uint32_t u = (uint32_t)i << 1;
    const int64_t bytes = kcore_number_size(i);
    const uint32_t marks = 0x00808080u >> (8 * (4 - bytes));
    const uint32_t code = (u & 0x7f) | (u >> 7 & 0x7f) << 8 | (u >> 14 & 0x7f) << 16 | u >> 21 << 24;
    return (kcore_offset){code | marks, marks, bytes, (int64_t)1 << (7 * bytes - 1)};
}

_Static_assert(BATCH_RECORDS_MAX <= 1 << 27, "a record's number takes at most four bytes");

/* ------------------------------------------------------------------ room */

/* The quick writers want so much more than a record's key and value: for its numbers, and for what
 * they put behind one. */
#define KCORE_SPARE_BYTES 48
#define KCORE_SAMPLES 64

/* Bytes that record i takes, exactly; more than a batch may have; or what is wrong with it. */
static int64_t kcore_record_size(const kcore_plan *plan, int64_t i) {
    const uint8_t *unused;
    int64_t key_size = kcore_column_at(&plan->keys, plan->keys.kind, i, &unused);
    int64_t value_size = kcore_column_at(&plan->values, plan->values.kind, i, &unused);
    int64_t headers_size = kcore_headers_size(plan, i);
    if (key_size == KCORE_NO_BYTES || value_size == KCORE_NO_BYTES)
        return KCORE_NO_BYTES;
    if (headers_size == KCORE_RARE_HEADERS)
        return KCORE_RARE_HEADERS;
    if (key_size > BATCH_BYTES_MAX || value_size > BATCH_BYTES_MAX ||
        headers_size > BATCH_BYTES_MAX)
        return BATCH_BYTES_MAX + 1;
    int64_t body = kcore_body_size(i, kcore_delta(plan, i), key_size, value_size, headers_size);
    return kcore_number_size(body) + body;
}

/* What the records probably take, rather too much; or what is wrong with one of them. */
static int64_t kcore_room_guess(const kcore_plan *plan) {
    const int64_t step = plan->count / KCORE_SAMPLES | 1; /* odd: misses few patterns */
    int64_t total = 0, samples = 0;
    for (int64_t i = 0; i < plan->count; i += step, samples++) {
        int64_t size = kcore_record_size(plan, i);
        if (size < 0 || size > BATCH_BYTES_MAX)
            return size;
        total += size;
    }
    if (samples < plan->count)
        total = (int64_t)((double)total / (double)samples * (double)plan->count * 1.1);
    return kcore_less(total, BATCH_BYTES_MAX) + KCORE_SPARE_BYTES;
}

/* ------------------------------------------------------------------ the quick writers */

/* Attributes, timestamp, number and key. */
KCORE_INLINE uint8_t *kcore_put_front(uint8_t *p, int64_t delta, kcore_offset offset,
                                      int64_t key_size, const uint8_t *key) {
    p[0] = 0; /* attributes: none are defined */
    p = kcore_put_delta(p + 1, delta);
    kcore_store_le32(p, offset.code);
    p = kcore_put_alike(p + offset.bytes, key_size);
    if (key_size > 0) {
        kcore_copy_few(p, key, key_size);
        p += key_size;
    }
    return p;
}

/* At most KCORE_SHORT_BYTES_MAX of them. NULL: they are none of these. */
KCORE_INLINE uint8_t *kcore_put_headers(uint8_t *p, const uint8_t *end, const kcore_plan *plan,
                                        int64_t i) {
    if (plan->header_lists != NULL)
        return kcore_put_plain_headers(p, end, plan->header_lists[i]);
    if (plan->headers == NULL) {
        *p = 0;
        return p + 1;
    }
    const int64_t size = kcore_headers_size(plan, i);
    if (size > KCORE_SHORT_BYTES_MAX || size > end - p)
        return NULL;
    kcore_copy_few(p, plan->headers + plan->header_ends[i] - size, size);
    return p + size;
}

/* `soft` is where the CRC wants to follow, `end` that of the room. Numbers are written with up to
 * five bytes too many, for which there is room. */
KCORE_INLINE uint8_t *kcore_write_any(const kcore_plan *all, int key_kind, int value_kind,
                                      int64_t *at, uint8_t *out, const uint8_t *soft,
                                      const uint8_t *end) {
    const kcore_plan copy = *all, *plan = &copy; /* which no store can be thought to change */
    const uint8_t *key = NULL, *value = NULL;
    uint8_t *start = out, *p;
    int64_t i = *at;
    kcore_offset offset = {0};
    for (; i < plan->count && start < soft; i++, start = p) {
        int64_t key_size = kcore_column_at(&plan->keys, key_kind, i, &key);
        int64_t value_size = kcore_column_at(&plan->values, value_kind, i, &value);
        int64_t delta = kcore_delta(plan, i);
        if (key_size < -1 || value_size < -1 || value_size >= KCORE_FUSED_BYTES_MIN ||
            key_size > KCORE_SHORT_BYTES_MAX ||
            end - start < key_size + value_size + KCORE_SPARE_BYTES)
            break;
        if (i >= offset.until)
            offset = kcore_offset_from(i);
        if (value_size >= 64) { /* both sizes take two bytes; the first is known afterwards */
            p = kcore_put_front(start + 2, delta, offset, key_size, key);
            p[0] = (uint8_t)(value_size << 1 | 0x80);
            p[1] = (uint8_t)(value_size >> 6);
            p += 2;
            kcore_copy(p, value, value_size);
            p = kcore_put_headers(p + value_size, end, plan, i);
            if (p == NULL)
                break;
            const int64_t body = p - start - 2;
            start[0] = (uint8_t)(body << 1 | 0x80);
            start[1] = (uint8_t)(body >> 6);
        } else {
            const int64_t headers_size = kcore_headers_size(plan, i);
            if (headers_size < 0 || headers_size > KCORE_SHORT_BYTES_MAX)
                break;
            p = kcore_put_small(
                start, kcore_body_size(i, delta, key_size, value_size, headers_size));
            p = kcore_put_front(p, delta, offset, key_size, key);
            *p++ = (uint8_t)kcore_zigzag(value_size);
            if (value_size > 0) {
                kcore_copy_short(p, value, value_size);
                p += value_size;
            }
            p = kcore_put_headers(p, end, plan, i);
            if (p == NULL)
                break;
        }
        offset.code = (offset.code + 2) | offset.marks;
    }
    *at = i;
    return start;
}

#define KCORE_PLAIN_END (1 << 20) /* numbers below it take at most three bytes */

/* Of plain records: neither key nor headers nor a timestamp of their own. Before the value lie the
 * body's size (1 or 2 bytes), attributes, delta, number (1 to 3), null key, value size (1 or 2): in
 * a run of values of one size only the number changes. */
KCORE_INLINE uint8_t *kcore_write_plain(const kcore_plan *plan, int kind, int64_t *at, uint8_t *out,
                                        const uint8_t *soft, const uint8_t *end) {
    const kcore_column values = plan->values;
    const int64_t count = kcore_less(plan->count, KCORE_PLAIN_END);
    const uint8_t *value = NULL;
    uint8_t *p = out;
    int64_t i = *at;
    while (i < count && p < soft) {
        const int64_t same = kcore_column_at(&values, kind, i, &value);
        if (same < -1 || same >= KCORE_FUSED_BYTES_MIN)
            break;
        const kcore_offset offset = kcore_offset_from(i);
        const int64_t value_bytes = same > 0 ? same : 0;
        uint8_t size_bytes[2], body_bytes[2];
        const int64_t size_size = kcore_put_small(size_bytes, same) - size_bytes;
        const int64_t body_size = 4 + offset.bytes + size_size + value_bytes;
        const int64_t number_at = kcore_put_small(body_bytes, body_size) - body_bytes + 2;
        const int64_t value_at = number_at + offset.bytes + 1 + size_size;
        const int64_t record_bytes = value_at + value_bytes + 1;
        if (end - p < record_bytes + KCORE_SPARE_BYTES)
            break;
        const uint8_t *last = end - record_bytes - KCORE_SPARE_BYTES;
        const uint8_t *limit = soft < last ? soft : last;
        const int64_t stop = kcore_less(count, offset.until);
        const uint64_t step = (uint64_t)2 << (8 * number_at);
        const uint64_t marks = (uint64_t)offset.marks << (8 * number_at);
        uint64_t head = body_bytes[0] | (uint64_t)(number_at == 4 ? body_bytes[1] : 0) << 8 |
                        (offset.code | (uint64_t)1 << (8 * offset.bytes)) << (8 * number_at);
        do {
            kcore_store_le64(p, head);
            head = (head + step) | marks;
            memcpy(p + value_at - size_size, size_bytes, 2);
            kcore_copy(p + value_at, value, value_bytes);
            p += record_bytes;
            p[-1] = 0; /* headers */
        } while (++i < stop && p < limit && kcore_column_at(&values, kind, i, &value) == same);
    }
    *at = i;
    return p;
}

/* Writes records from *at on, which it advances, up to `soft` or to a record that is not for it.
 * Returns the position behind them. */
static uint8_t *kcore_write_run(const kcore_plan *plan, int64_t *at, uint8_t *p,
                                const uint8_t *soft, const uint8_t *end) {
    const int kind = plan->values.kind;
    if (plan->keys.kind != KCORE_COLUMN_NULLS || plan->timestamps != NULL ||
        plan->header_lists != NULL || plan->headers != NULL || *at >= KCORE_PLAIN_END) {
        if (kind == KCORE_COLUMN_LIST && plan->keys.kind == KCORE_COLUMN_LIST)
            return kcore_write_any(plan, KCORE_COLUMN_LIST, KCORE_COLUMN_LIST, at, p, soft, end);
        return kcore_write_any(plan, plan->keys.kind, kind, at, p, soft, end);
    }
    if (kind == KCORE_COLUMN_LIST)
        return kcore_write_plain(plan, KCORE_COLUMN_LIST, at, p, soft, end);
    if (kind == KCORE_COLUMN_64)
        return kcore_write_plain(plan, KCORE_COLUMN_64, at, p, soft, end);
    return kcore_write_plain(plan, KCORE_COLUMN_32, at, p, soft, end);
}

#endif
