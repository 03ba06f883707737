"""Walking the records of one batch, after inflation: bounded, no Python object a record.

`record_next` reads one record's fixed part; `record_headers_check` walks its headers.
"""

from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint64_t

from kcore._native.batch cimport BatchHeader
from kcore._native.cursor cimport Cursor, cursor_i8, cursor_skip
from kcore._native.layout cimport HEADER_BYTES_MIN
from kcore._native.varint cimport read_varint, read_varlong

cdef enum RecordStatus:
    RECORD_OK = 0
    RECORD_LENGTH = 1        # the record's length is missing, negative or larger than what is left
    RECORD_FIELDS = 2        # its fields do not end where its length says
    RECORD_SIZE = 3          # a key, value or header size below -1 or beyond the record
    RECORD_HEADER_COUNT = 4  # negative, or more headers than bytes for them
    RECORD_HEADER_KEY = 5    # a header without a key
    RECORD_TRAILING = 6      # bytes after the last record
    RECORD_OFFSET_DELTA = 7  # not the record's index (produce), or outside the batch
    RECORD_KEYLESS = 8       # no key where the topic needs one

cdef extern from "walk.h" nogil:
    ctypedef struct RecordView "kcore_record":
        int64_t timestamp_delta
        const uint8_t* key        # NULL: null
        const uint8_t* value      # NULL: null
        const uint8_t* headers    # first header, if header_count > 0
        const uint8_t* end        # one past the record
        int32_t offset_delta
        int32_t key_size          # -1: null
        int32_t value_size        # -1: null
        int32_t header_count
    ctypedef struct Fill "kcore_fill":  # where the next record's columns go
        int64_t* offsets
        int64_t* timestamps
        int64_t* keys      # start, end; -1, -1: null
        int64_t* values
    const uint8_t* kcore_record_quick(const uint8_t* p, const uint8_t* end, RecordView* r)
    bint kcore_headers_fit(const RecordView* r)
    int32_t kcore_fill_run(
        const uint8_t** at, const uint8_t* end, const uint8_t* base, int32_t count,
        int64_t base_offset, int32_t offset_delta_max, int64_t timestamp, bint with_delta, Fill* to
    )
    int32_t kcore_check_run(
        const uint8_t** at, const uint8_t* end, int32_t index, int32_t count, bint need_keys
    )


cdef inline RecordStatus _sized(Cursor* c, const uint8_t** p, int32_t* size) noexcept nogil:
    if not read_varint(c, size):
        return RECORD_FIELDS
    if size[0] < 0:
        p[0] = NULL
        return RECORD_OK if size[0] == -1 else RECORD_SIZE
    p[0] = c.p
    return RECORD_OK if cursor_skip(c, size[0]) else RECORD_SIZE


cdef inline RecordStatus record_next(Cursor* c, RecordView* r) noexcept nogil:
    """The next record; advances past it. The headers themselves are not looked at."""
    cdef const uint8_t* behind = kcore_record_quick(c.p, c.end, r)
    if behind == NULL:
        return record_in_steps(c, r)
    c.p = behind
    return RECORD_OK


cdef inline RecordStatus record_in_steps(Cursor* c, RecordView* r) noexcept nogil:
    cdef Cursor body = c[0]
    cdef int32_t length
    cdef int8_t attributes
    cdef RecordStatus status
    if not read_varint(&body, &length) or length < 0 or length > body.end - body.p:
        return RECORD_LENGTH
    body.end = body.p + length
    r.end = body.end
    if not (
        cursor_i8(&body, &attributes)
        and read_varlong(&body, &r.timestamp_delta)
        and read_varint(&body, &r.offset_delta)
    ):
        return RECORD_FIELDS
    status = _sized(&body, &r.key, &r.key_size)
    if status != RECORD_OK:
        return status
    status = _sized(&body, &r.value, &r.value_size)
    if status != RECORD_OK:
        return status
    if not read_varint(&body, &r.header_count):
        return RECORD_FIELDS
    if r.header_count == 0:
        if body.p != body.end:
            return RECORD_FIELDS
    elif r.header_count < 0 or r.header_count > (body.end - body.p) // HEADER_BYTES_MIN:
        return RECORD_HEADER_COUNT
    r.headers = body.p
    c.p = r.end
    return RECORD_OK


cdef inline RecordStatus header_next(
    Cursor* c, const uint8_t** key, int32_t* key_size, const uint8_t** value, int32_t* value_size
) noexcept nogil:
    cdef RecordStatus status = _sized(c, key, key_size)
    if status != RECORD_OK:
        return status
    if key_size[0] < 0:
        return RECORD_HEADER_KEY
    return _sized(c, value, value_size)


cdef inline RecordStatus record_headers_check(const RecordView* r) noexcept nogil:
    """Every header lies inside the record, has a key, and the last one ends it."""
    cdef Cursor c
    cdef const uint8_t* part
    cdef int32_t key_size, value_size, i
    cdef RecordStatus status
    if r.header_count == 0 or kcore_headers_fit(r):
        return RECORD_OK
    c.p = r.headers
    c.end = r.end
    for i in range(r.header_count):
        status = header_next(&c, &part, &key_size, &part, &value_size)
        if status != RECORD_OK:
            return status
    return RECORD_OK if c.p == c.end else RECORD_FIELDS


cdef inline int64_t timestamp_at(int64_t base_timestamp, int64_t delta) noexcept nogil:
    """Wraps like Java's: a hostile delta must not be undefined behaviour."""
    return <int64_t>(<uint64_t>base_timestamp + <uint64_t>delta)


cdef class Pin:
    """Keeps the buffer of an object open (and so its bytes in place) while this object lives."""

    cdef Py_buffer view
    cdef bint is_open

    @staticmethod
    cdef Pin of(data)


# The record section of a batch whose header has passed batch_check: where it starts and how long
# it is, inflated if need be. The result keeps those bytes alive: `source` itself or a new pin.
cdef Pin section_of(
    Pin source, const uint8_t* p, const BatchHeader* h, const uint8_t** start, int64_t* size
)

# Raises CorruptBatch for a fault that a reader found at record `index`.
cdef int raise_record_status(RecordStatus status, const BatchHeader* h, int64_t index) except -1

# Walks a record section as a leader checks it. Raises InvalidRecord.
cdef int check_records(
    const uint8_t* p, int64_t size, const BatchHeader* h, bint need_keys
) except -1

# `check_produced` for C callers: fills `h`, raises what it raises.
cdef int check_produced_batch(
    const uint8_t* p, int64_t n, int64_t max_bytes, bint need_keys, BatchHeader* h
) except -1
