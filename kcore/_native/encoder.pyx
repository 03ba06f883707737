"""Building record batches: from lists of bytes, from buffers with offsets, from Arrow arrays.

Two passes. The first looks at every size, so that the batch is allocated once; the second writes.
The CRC follows the writing a few KiB behind, while the bytes are in the first-level cache; large
values are copied and summed in one pass. Between the passes no Python code can run: a list of the
caller's stays as it was measured.
"""

cimport cython
from cpython.buffer cimport PyBUF_FORMAT, PyBUF_ND, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from libc.stdint cimport INT64_MIN, int16_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy
from posix.time cimport CLOCK_REALTIME, clock_gettime, timespec

from kcore._native.batch cimport BatchHeader, batch_check, raise_batch_status
from kcore._native.codecs cimport deflate
from kcore._native.codecs import codec_id_of
from kcore._native.crc32c cimport crc32c_copy, crc32c_extend
from kcore._native.endian cimport store_i16, store_i32, store_i64, store_u32
from kcore._native.layout cimport *
from kcore._native.records cimport Pin, check_records, section_of
from kcore._native.varint cimport (
    VARINT_BYTES_MAX, varint_size, varlong_size, write_varint, write_varlong,
)

from kcore.errors import LimitExceeded

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL

cdef extern from *:
    """
    /* Macros of Python.h on borrowed pointers: usable while another thread waits for the GIL. */
    #define KCORE_IS_NONE(o) ((o) == Py_None)
    #define KCORE_IS_BYTES(o) PyBytes_CheckExact(o)
    #define KCORE_BYTES_AT(o) ((const uint8_t *)PyBytes_AS_STRING(o))
    #define KCORE_BYTES_SIZE(o) PyBytes_GET_SIZE(o)
    #define KCORE_LIST_ITEMS(o) (((PyListObject *)(o))->ob_item)

    /* A copy of at most a few hundred bytes without a call: whole steps, then one that overlaps
     * the end. Never touches a byte outside either range. */
    static inline void kcore_copy_short(uint8_t *dst, const uint8_t *src, int64_t n) {
        if (n >= 32) {
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
    """
    bint KCORE_IS_NONE(PyObject* o) nogil
    bint KCORE_IS_BYTES(PyObject* o) nogil
    const uint8_t* KCORE_BYTES_AT(PyObject* o) nogil
    Py_ssize_t KCORE_BYTES_SIZE(PyObject* o) nogil
    PyObject** KCORE_LIST_ITEMS(object o)
    void kcore_copy_short(uint8_t* dst, const uint8_t* src, int64_t n) nogil

cdef enum:
    CRC_BEHIND_BYTES = 24 * 1024 # how far the CRC may lag: still in the first-level cache
    SHORT_BYTES_MAX = 512        # copied inline; above it memcpy wins
    FUSED_BYTES_MIN = 4 * 1024   # from here a value is copied and summed in one pass
    NOGIL_BYTES_MIN = 128 * 1024 # about 10 us of work: now other threads gain from the GIL

cdef enum ColumnKind:
    COLUMN_NULLS = 0  # every value null
    COLUMN_LIST = 1   # a list of bytes or None
    COLUMN_32 = 2     # a buffer and int32 offsets
    COLUMN_64 = 3     # a buffer and int64 offsets

cdef struct Column:
    ColumnKind kind
    PyObject** items
    const uint8_t* data
    const int32_t* offsets32
    const int64_t* offsets64
    const uint8_t* valid   # Arrow's validity bitmap, or NULL
    int64_t first          # Arrow: index of the first value in offsets and bitmap

cdef struct Plan:
    int64_t count
    Column keys
    Column values
    const int64_t* timestamps    # NULL: all are base_timestamp
    int64_t base_timestamp
    int64_t max_timestamp
    const uint8_t* headers       # encoded header sections, one after the other; NULL: none
    const int64_t* header_ends


# --------------------------------------------------------------------- public

def encode(
    values, *, keys=None, headers=None, timestamps=None, str codec="none", level=None,
    int64_t base_offset=0, int64_t producer_id=-1, int16_t producer_epoch=-1,
    int32_t base_sequence=-1, bint transactional=False, bint control=False,
    int32_t leader_epoch=-1, append_time=None,
):
    """One record batch of `values`, as bytes.

    `values` and `keys`: a list of bytes or None, a pair (buffer, offsets) with n + 1 int32 or int64
    offsets, or an Arrow binary array. `headers`: for each record None or a list of (name, value).
    `timestamps`: milliseconds, one for all or one a record (list, or int64 array); default: now.
    `append_time` makes it a batch of type LogAppendTime.
    """
    cdef int codec_id = codec_id_of(codec)
    cdef _Source value_source = _Source.of("values", values)
    cdef _Source key_source = _Source.of("keys", keys)
    cdef _Times times = _Times.of(timestamps, value_source.count)
    cdef _Headers header_source = _Headers.of(headers, value_source.count)
    cdef Plan plan
    cdef BatchHeader h
    if value_source.count == 0:
        raise ValueError("a batch holds at least one record")
    if keys is not None and key_source.count != value_source.count:
        raise ValueError(f"{key_source.count} keys for {value_source.count} values")
    if value_source.count > BATCH_RECORDS_MAX:
        raise LimitExceeded(
            "too many records", expected=f"at most {BATCH_RECORDS_MAX}", found=value_source.count
        )
    plan.count = value_source.count
    plan.timestamps = times.each
    plan.base_timestamp = times.first
    plan.max_timestamp = times.largest
    plan.headers = header_source.data
    plan.header_ends = header_source.ends
    h.base_offset = base_offset
    h.leader_epoch = leader_epoch
    h.last_offset_delta = <int32_t>(plan.count - 1)
    h.base_timestamp = times.first
    h.max_timestamp = times.largest
    h.producer_id = producer_id
    h.producer_epoch = producer_epoch
    h.base_sequence = base_sequence
    h.record_count = <int32_t>plan.count
    h.attributes = codec_id
    h.attributes |= ATTR_TRANSACTIONAL if transactional else 0
    h.attributes |= ATTR_CONTROL if control else 0
    if append_time is not None:
        h.attributes |= ATTR_APPEND_TIME
        h.max_timestamp = append_time
    return _build(&plan, &h, value_source, key_source, codec_id, level)


def rebuild(data, str codec, level=None):
    """The batch `data` with its records compressed by `codec`: same offsets, timestamps, producer.

    Every record is checked as for a produced batch. Raises as `check_produced` does.
    """
    cdef int codec_id = codec_id_of(codec)
    cdef Pin source = Pin.of(data)
    cdef const uint8_t* p = <const uint8_t*>source.view.buf
    cdef const uint8_t* start
    cdef int64_t size
    cdef BatchHeader h
    raise_batch_status(batch_check(p, source.view.len, &h), &h, None, 0)
    cdef Pin section = section_of(source, p, &h, &start, &size)
    check_records(start, size, &h, False)
    h.attributes = <int16_t>((h.attributes & ~ATTR_CODEC_MASK) | codec_id)
    if codec_id == CODEC_NONE:
        return _assemble(&h, start, size)
    cdef Pin packed = Pin.of(deflate(codec_id, start, size, level))
    return _assemble(&h, <const uint8_t*>packed.view.buf, packed.view.len)


# --------------------------------------------------------------------- building

cdef object _build(Plan* plan, BatchHeader* h, _Source values, _Source keys, int codec_id, level):
    """From here to the end of the second pass no Python code runs."""
    cdef int64_t size
    values.fill(&plan.values)
    keys.fill(&plan.keys)
    size = _measure(plan, keys.data_size(), values.data_size())
    if size < 0:  # rare: byte-like objects in a list, or wrong arguments
        if not (values.made_plain() | keys.made_plain()):
            raise TypeError("the values changed while they were encoded")
        return _build(plan, h, values, keys, codec_id, level)
    if codec_id != CODEC_NONE:
        return _build_compressed(plan, h, size, codec_id, level)
    _check_size(size)
    cdef object batch = PyBytes_FromStringAndSize(NULL, BATCH_HEADER_BYTES + size)
    cdef uint8_t* p = <uint8_t*>PyBytes_AS_STRING(batch)
    _store_header(p, h, BATCH_HEADER_BYTES + size)
    cdef uint32_t crc = crc32c_extend(0, p + BATCH_CRC_FROM, BATCH_HEADER_BYTES - BATCH_CRC_FROM)
    if plan.values.kind == COLUMN_LIST or plan.keys.kind == COLUMN_LIST or size < NOGIL_BYTES_MIN:
        _write_records(plan, p + BATCH_HEADER_BYTES, &crc)
    else:
        with nogil:
            _write_records(plan, p + BATCH_HEADER_BYTES, &crc)
    store_u32(p + BATCH_CRC_AT, crc)
    return batch


cdef object _build_compressed(Plan* plan, BatchHeader* h, int64_t size, int codec_id, level):
    _check_size(size)
    cdef uint8_t* section = <uint8_t*>malloc(<size_t>size)
    cdef Pin packed
    if section == NULL:
        raise MemoryError()
    try:
        _write_records(plan, section, NULL)
        packed = Pin.of(deflate(codec_id, section, size, level))
    finally:
        free(section)
    return _assemble(h, <const uint8_t*>packed.view.buf, packed.view.len)


cdef int _check_size(int64_t size) except -1:
    if BATCH_HEADER_BYTES + size > BATCH_BYTES_MAX:
        raise LimitExceeded(
            "the batch would be too large", expected=f"at most {BATCH_BYTES_MAX} bytes", found=size
        )
    return 0


cdef object _assemble(BatchHeader* h, const uint8_t* section, int64_t size):
    """A batch of this header around these bytes."""
    _check_size(size)
    cdef object batch = PyBytes_FromStringAndSize(NULL, BATCH_HEADER_BYTES + size)
    cdef uint8_t* p = <uint8_t*>PyBytes_AS_STRING(batch)
    cdef uint32_t crc
    _store_header(p, h, BATCH_HEADER_BYTES + size)
    crc = crc32c_extend(0, p + BATCH_CRC_FROM, BATCH_HEADER_BYTES - BATCH_CRC_FROM)
    crc = crc32c_copy(crc, p + BATCH_HEADER_BYTES, section, <size_t>size)
    store_u32(p + BATCH_CRC_AT, crc)
    return batch


cdef void _store_header(uint8_t* p, const BatchHeader* h, int64_t size) noexcept nogil:
    store_i64(p + BATCH_BASE_OFFSET_AT, h.base_offset)
    store_i32(p + BATCH_LENGTH_AT, <int32_t>(size - BATCH_OVERHEAD_BYTES))
    store_i32(p + BATCH_LEADER_EPOCH_AT, h.leader_epoch)
    p[BATCH_MAGIC_AT] = BATCH_MAGIC_V2
    store_u32(p + BATCH_CRC_AT, 0)
    store_i16(p + BATCH_ATTRIBUTES_AT, h.attributes)
    store_i32(p + BATCH_LAST_OFFSET_DELTA_AT, h.last_offset_delta)
    store_i64(p + BATCH_BASE_TIMESTAMP_AT, h.base_timestamp)
    store_i64(p + BATCH_MAX_TIMESTAMP_AT, h.max_timestamp)
    store_i64(p + BATCH_PRODUCER_ID_AT, h.producer_id)
    store_i16(p + BATCH_PRODUCER_EPOCH_AT, h.producer_epoch)
    store_i32(p + BATCH_BASE_SEQUENCE_AT, h.base_sequence)
    store_i32(p + BATCH_RECORD_COUNT_AT, h.record_count)



# --------------------------------------------------------------------- the two passes

cdef inline int64_t _column_at(const Column* column, int64_t i, const uint8_t** p) noexcept nogil:
    """Size and place of value i; -1: null."""
    cdef PyObject* item
    cdef int64_t start
    if column.kind == COLUMN_NULLS:
        return -1
    if column.kind == COLUMN_LIST:
        item = column.items[i]
        if KCORE_IS_NONE(item):
            return -1
        p[0] = KCORE_BYTES_AT(item)
        return KCORE_BYTES_SIZE(item)
    i += column.first
    if column.valid != NULL and not (column.valid[i >> 3] >> (i & 7)) & 1:
        return -1
    if column.kind == COLUMN_32:
        start = column.offsets32[i]
        p[0] = column.data + start
        return column.offsets32[i + 1] - start
    start = column.offsets64[i]
    p[0] = column.data + start
    return column.offsets64[i + 1] - start


cdef inline int64_t _checked_size(
    const Column* column, int64_t i, int64_t data_size
) noexcept nogil:
    """Size of value i; -1: null; -2: it is no bytes, or not within the buffer."""
    cdef PyObject* item
    cdef const uint8_t* p = column.data
    cdef int64_t size
    if column.kind == COLUMN_NULLS:
        return -1
    if column.kind == COLUMN_LIST:
        item = column.items[i]
        if KCORE_IS_BYTES(item):
            return KCORE_BYTES_SIZE(item)
        return -1 if KCORE_IS_NONE(item) else -2
    size = _column_at(column, i, &p)
    if size < 0:
        return -1 if size == -1 and _is_null(column, i) else -2
    if p < column.data or size > data_size or p - column.data > data_size - size:
        return -2
    return size


cdef inline bint _is_null(const Column* column, int64_t i) noexcept nogil:
    i += column.first
    return column.valid != NULL and not (column.valid[i >> 3] >> (i & 7)) & 1


cdef inline int64_t _body_size(
    const Plan* plan, int64_t i, int64_t key_size, int64_t value_size, int64_t headers_size
) noexcept nogil:
    cdef int64_t size = 1 + varint_size(<int32_t>i) + headers_size
    size += 1 if plan.timestamps == NULL else varlong_size(_delta(plan, i))
    size += varint_size(<int32_t>key_size) + (key_size if key_size > 0 else 0)
    return size + varint_size(<int32_t>value_size) + (value_size if value_size > 0 else 0)


cdef inline int64_t _delta(const Plan* plan, int64_t i) noexcept nogil:
    if plan.timestamps == NULL:
        return 0
    return <int64_t>(<uint64_t>plan.timestamps[i] - <uint64_t>plan.base_timestamp)


cdef inline int64_t _headers_size(const Plan* plan, int64_t i) noexcept nogil:
    if plan.headers == NULL:
        return 1  # the count, zero
    return plan.header_ends[i] - (plan.header_ends[i - 1] if i else 0)


cdef int64_t _measure(const Plan* plan, int64_t keys_size, int64_t values_size) noexcept nogil:
    """Bytes that the records take, exactly; -1 if a key or value cannot be; or above the bound.

    Exactly, because shrinking the batch afterwards would make the allocator hand out untouched
    pages for every large batch: their faults cost more than all the rest.
    """
    cdef int64_t i, key_size, value_size, headers_size, body, total = 0
    for i in range(plan.count):
        key_size = _checked_size(&plan.keys, i, keys_size)
        value_size = _checked_size(&plan.values, i, values_size)
        if key_size < -1 or value_size < -1:
            return -1
        headers_size = _headers_size(plan, i)
        if (
            key_size > BATCH_BYTES_MAX
            or value_size > BATCH_BYTES_MAX
            or headers_size > BATCH_BYTES_MAX
        ):
            return BATCH_BYTES_MAX + 1
        body = _body_size(plan, i, key_size, value_size, headers_size)
        if body > BATCH_BYTES_MAX:
            return body
        total += varint_size(<int32_t>body) + body
    return total


cdef void _write_records(const Plan* plan, uint8_t* out, uint32_t* crc) noexcept nogil:
    """Writes all records, as measured. `crc` (or NULL) is continued over them."""
    cdef uint8_t* p = out
    cdef uint8_t* summed = out  # the CRC has come this far
    cdef const uint8_t* key = NULL
    cdef const uint8_t* value = NULL
    cdef const uint8_t* headers = plan.headers
    cdef int64_t i, key_size, value_size, headers_size
    for i in range(plan.count):
        key_size = _column_at(&plan.keys, i, &key)
        value_size = _column_at(&plan.values, i, &value)
        headers_size = _headers_size(plan, i)
        p = write_varint(p, <int32_t>_body_size(plan, i, key_size, value_size, headers_size))
        p[0] = 0  # attributes: none are defined
        p = write_varlong(p + 1, _delta(plan, i))
        p = write_varint(p, <int32_t>i)
        p = write_varint(p, <int32_t>key_size)
        if key_size > 0:
            p = _put(p, key, key_size, &summed, crc)
        p = write_varint(p, <int32_t>value_size)
        if value_size > 0:
            p = _put(p, value, value_size, &summed, crc)
        if headers == NULL:
            p[0] = 0
        else:
            if headers_size <= SHORT_BYTES_MAX:
                kcore_copy_short(p, headers, headers_size)
            else:
                memcpy(p, headers, <size_t>headers_size)
            headers += headers_size
        p += headers_size
        if crc != NULL and p - summed >= CRC_BEHIND_BYTES:
            crc[0] = crc32c_extend(crc[0], summed, <size_t>(p - summed))
            summed = p
    if crc != NULL:
        crc[0] = crc32c_extend(crc[0], summed, <size_t>(p - summed))


cdef inline uint8_t* _put(
    uint8_t* p, const uint8_t* src, int64_t size, uint8_t** summed, uint32_t* crc
) noexcept nogil:
    if size <= SHORT_BYTES_MAX:
        kcore_copy_short(p, src, size)
    elif size < FUSED_BYTES_MIN or crc == NULL:
        memcpy(p, src, <size_t>size)
    else:
        crc[0] = crc32c_extend(crc[0], summed[0], <size_t>(p - summed[0]))
        crc[0] = crc32c_copy(crc[0], p, src, <size_t>size)
        summed[0] = p + size
    return p + size


# --------------------------------------------------------------------- what callers pass

cdef bint _is_pair(given):
    """(buffer, offsets), and not a tuple of two values."""
    if type(given) is not tuple or len(given) != 2:
        return False
    buffer, offsets = given
    return buffer is not None and not isinstance(offsets, (bytes, str, type(None)))


@cython.final
cdef class _Source:
    """Keys or values as the caller gave them, kept alive until the batch is built."""

    cdef str name
    cdef int64_t count
    cdef ColumnKind kind
    cdef list items
    cdef Pin data
    cdef Pin offsets
    cdef Pin valid
    cdef int64_t first

    @staticmethod
    cdef _Source of(str name, given):
        cdef _Source s = _Source.__new__(_Source)
        s.name = name
        s.kind = COLUMN_NULLS
        if given is None:
            return s
        if type(given) is list:
            s.take_list(given)
        elif _is_pair(given):
            s.take_buffer(given[0], given[1])
        elif hasattr(given, "combine_chunks") or hasattr(given, "buffers"):
            s.take_arrow(given)
        else:
            s.take_list(list(given))
        return s

    cdef int take_list(self, list items) except -1:
        self.kind = COLUMN_LIST
        self.items = items
        self.count = len(items)
        return 0

    cdef int take_buffer(self, data, offsets) except -1:
        self.data = Pin.of(data)
        cdef int64_t width
        self.offsets = _integers(self.name + " offsets", offsets, &width)
        self.kind = COLUMN_32 if width == 4 else COLUMN_64
        self.count = self.offsets.view.len // width - 1
        if self.count < 0:
            raise ValueError(
                f"{self.name}: offsets need one entry more than there are values; they are empty"
            )
        return 0

    cdef int take_arrow(self, array) except -1:
        if hasattr(array, "combine_chunks"):
            array = array.combine_chunks()  # a column of a table
        kind = str(array.type)
        if kind not in ("binary", "string", "large_binary", "large_string"):
            array = array.cast("large_binary")
            kind = "large_binary"
        valid, offsets, data = array.buffers()
        self.count = len(array)
        self.first = array.offset
        self.kind = COLUMN_64 if kind.startswith("large") else COLUMN_32
        self.valid = None if valid is None or not array.null_count else Pin.of(valid)
        if self.count == 0:
            return 0
        self.offsets = Pin.of(offsets)
        self.data = Pin.of(b"" if data is None else data)
        return 0

    cdef int64_t data_size(self) noexcept:
        return 0 if self.data is None else self.data.view.len

    cdef void fill(self, Column* column) noexcept:
        column.kind = self.kind
        column.first = self.first
        column.items = NULL
        column.data = NULL
        column.offsets32 = NULL
        column.offsets64 = NULL
        column.valid = NULL
        if self.kind == COLUMN_LIST:
            column.items = KCORE_LIST_ITEMS(self.items)
        if self.data is not None:
            column.data = <const uint8_t*>self.data.view.buf
        if self.offsets is not None:
            column.offsets32 = <const int32_t*>self.offsets.view.buf
            column.offsets64 = <const int64_t*>self.offsets.view.buf
        if self.valid is not None:
            column.valid = <const uint8_t*>self.valid.view.buf

    cdef bint made_plain(self) except -1:
        """Whether the list held other byte-like objects, which are bytes now; else raises."""
        if self.kind == COLUMN_NULLS:
            return False
        if self.kind != COLUMN_LIST:
            raise ValueError(f"{self.name}: offsets must ascend and stay within the buffer")
        plain = []
        for index, item in enumerate(self.items):
            if item is None or type(item) is bytes:
                plain.append(item)
            elif isinstance(item, (bytes, bytearray, memoryview)):
                plain.append(bytes(item))
            else:
                raise TypeError(f"{self.name}[{index}] is {type(item).__name__}, not bytes or None")
        self.take_list(plain)
        return True


cdef Pin _integers(str name, given, int64_t* width):
    """A pinned, contiguous array of int32 or int64 (in `width`)."""
    cdef Py_buffer view
    try:
        PyObject_GetBuffer(given, &view, PyBUF_FORMAT | PyBUF_ND)
    except (TypeError, BufferError, ValueError):
        import numpy

        return _integers(name, numpy.ascontiguousarray(given, dtype=numpy.int64), width)
    try:
        width[0] = view.itemsize
        if (
            view.ndim != 1
            or view.format == NULL
            or view.format[0] not in b"ilqn"
            or view.itemsize not in (4, 8)
        ):
            raise TypeError(f"{name}: a one-dimensional int32 or int64 array is needed")
    finally:
        PyBuffer_Release(&view)
    return Pin.of(given)


cdef object _longs(given):
    """A memoryview of int64, an eighth of the cost of array("q", ...)."""
    cdef Py_ssize_t i = 0, count = len(given)
    cdef object room = PyBytes_FromStringAndSize(NULL, 8 * count)
    cdef int64_t* p = <int64_t*>PyBytes_AS_STRING(room)
    for item in given:
        if i == count:
            break
        p[i] = item
        i += 1
    return memoryview(room).cast("q")


@cython.final
cdef class _Times:
    """The timestamps of the records: one for all, or an int64 array."""

    cdef Pin pin
    cdef const int64_t* each
    cdef int64_t first
    cdef int64_t largest

    @staticmethod
    cdef _Times of(given, int64_t count):
        cdef _Times t = _Times.__new__(_Times)
        cdef int64_t width, i
        cdef timespec now
        t.each = NULL
        if given is None:
            clock_gettime(CLOCK_REALTIME, &now)
            t.first = t.largest = <int64_t>now.tv_sec * 1000 + now.tv_nsec // 1000000
            return t
        if isinstance(given, int):
            t.first = t.largest = given
            return t
        if isinstance(given, (list, tuple)):
            given = _longs(given)
        t.pin = _integers("timestamps", given, &width)
        if width != 8:
            raise TypeError("timestamps: int64 milliseconds are needed")
        if t.pin.view.len != 8 * count:
            raise ValueError(f"{t.pin.view.len // 8} timestamps for {count} values")
        t.each = <const int64_t*>t.pin.view.buf
        t.first = t.each[0] if count else 0
        t.largest = INT64_MIN
        for i in range(count):
            if t.each[i] > t.largest:
                t.largest = t.each[i]
        return t


@cython.final
cdef class _Headers:
    """The header sections of all records, encoded one after the other."""

    cdef uint8_t* data
    cdef int64_t* ends
    cdef int64_t size
    cdef int64_t room

    def __dealloc__(self):
        free(self.data)
        free(self.ends)

    @staticmethod
    cdef _Headers of(given, int64_t count):
        cdef _Headers h = _Headers.__new__(_Headers)
        cdef int64_t i = 0
        if given is None:
            return h
        if len(given) != count:
            raise ValueError(f"headers of {len(given)} records for {count} values")
        h.ends = <int64_t*>malloc(<size_t>(8 * (count + 1)))
        if h.ends == NULL:
            raise MemoryError()
        for one in given:
            h.add_record(one, i)
            h.ends[i] = h.size
            i += 1
        return h

    cdef int add_record(self, one, int64_t index) except -1:
        if one is None:
            return self.add_size(0)
        if isinstance(one, dict):
            one = one.items()
        self.add_size(<int64_t>len(one))
        for pair in one:
            if type(pair) is tuple and len(<tuple>pair) == 2:
                self.add_header((<tuple>pair)[0], (<tuple>pair)[1], index)
            else:
                name, value = pair
                self.add_header(name, value, index)
        return 0

    cdef int add_header(self, name, value, int64_t index) except -1:
        cdef Py_ssize_t size
        cdef const char* text
        if isinstance(name, str):
            text = PyUnicode_AsUTF8AndSize(name, &size)
            self.add(<const uint8_t*>text, size)
        elif isinstance(name, bytes):
            self.add(KCORE_BYTES_AT(<PyObject*>name), KCORE_BYTES_SIZE(<PyObject*>name))
        else:
            found = type(name).__name__
            raise TypeError(f"headers[{index}]: a header's name is {found}, not str or bytes")
        if value is None:
            return self.add_size(-1)
        if not isinstance(value, bytes):
            found = type(value).__name__
            raise TypeError(f"headers[{index}]: a header's value is {found}, not bytes or None")
        return self.add(KCORE_BYTES_AT(<PyObject*>value), KCORE_BYTES_SIZE(<PyObject*>value))

    cdef inline int add_size(self, int64_t size) except -1:
        if size > BATCH_BYTES_MAX:
            raise LimitExceeded(
                "a header is too large", expected=f"at most {BATCH_BYTES_MAX} bytes", found=size
            )
        if self.room - self.size < VARINT_BYTES_MAX:
            self.grow(VARINT_BYTES_MAX)
        self.size = write_varint(self.data + self.size, <int32_t>size) - self.data
        return 0

    cdef inline int add(self, const uint8_t* p, int64_t size) except -1:
        self.add_size(size)
        if self.room - self.size < size:
            self.grow(size)
        if size <= SHORT_BYTES_MAX:
            kcore_copy_short(self.data + self.size, p, size)
        else:
            memcpy(self.data + self.size, p, <size_t>size)
        self.size += size
        return 0

    cdef int grow(self, int64_t size) except -1:
        cdef uint8_t* grown
        self.room = 2 * self.room + size + 256
        grown = <uint8_t*>realloc(self.data, <size_t>self.room)
        if grown == NULL:
            raise MemoryError()
        self.data = grown
        return 0
