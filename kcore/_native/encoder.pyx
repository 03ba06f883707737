"""Building record batches: from lists of bytes, from buffers with offsets, from Arrow arrays.

One pass writes, into room that was guessed from a sample of the records and grows where that was
too little (recordwrite.h). The CRC follows the writing a few KiB behind, while the bytes are in the
first-level cache; large values are copied and summed in one pass. Meanwhile no Python code can run:
the caller's lists stay as they are.
"""

cimport cython
from cpython.buffer cimport PyBUF_FORMAT, PyBUF_ND, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from cpython.ref cimport Py_XDECREF
from libc.stdint cimport INT64_MIN, int16_t, int32_t, int64_t, uint8_t, uint32_t
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
from kcore._native.varint cimport VARINT_BYTES_MAX, write_varint, write_varlong

from kcore.errors import LimitExceeded

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL

cdef extern from *:
    """
    /* Macros of Python.h on borrowed pointers: usable while another thread waits for the GIL. */
    #define KCORE_BYTES_AT(o) ((const uint8_t *)PyBytes_AS_STRING(o))
    #define KCORE_BYTES_SIZE(o) PyBytes_GET_SIZE(o)
    #define KCORE_LIST_ITEMS(o) (((PyListObject *)(o))->ob_item)
    #define KCORE_IS_INT(o) PyLong_CheckExact(o)
    /* The memory stays as it is: given back, it would be missed (docs/nonobvious.md). */
    #define KCORE_SHORTEN_BYTES(o, n) \
        (Py_SET_SIZE((PyVarObject *)(o), (n)), (void)(PyBytes_AS_STRING(o)[n] = 0))
    """
    const uint8_t* KCORE_BYTES_AT(PyObject* o) nogil
    Py_ssize_t KCORE_BYTES_SIZE(PyObject* o) nogil
    PyObject** KCORE_LIST_ITEMS(object o)
    bint KCORE_IS_INT(PyObject* o)
    void KCORE_SHORTEN_BYTES(PyObject* o, Py_ssize_t n)
    PyObject* kcore_new_bytes "PyBytes_FromStringAndSize"(
        const char* p, Py_ssize_t n
    ) except NULL
    int _PyBytes_Resize(PyObject** o, Py_ssize_t n) except -1

cdef extern from "recordwrite.h" nogil:
    enum:
        KCORE_SHORT_BYTES_MAX
        KCORE_FUSED_BYTES_MIN
        KCORE_COLUMN_NULLS
        KCORE_COLUMN_LIST
        KCORE_COLUMN_32
        KCORE_COLUMN_64
        KCORE_SPARE_BYTES
        KCORE_NO_BYTES
        KCORE_RARE_HEADERS

    ctypedef struct Column "kcore_column":
        int kind
        PyObject** items
        const uint8_t* data
        int64_t data_size
        const int32_t* offsets32
        const int64_t* offsets64
        const uint8_t* valid
        int64_t first

    ctypedef struct Plan "kcore_plan":
        int64_t count
        Column keys
        Column values
        const int64_t* timestamps
        int64_t base_timestamp
        PyObject** header_lists
        const uint8_t* headers
        const int64_t* header_ends

    void kcore_copy_short(uint8_t* dst, const uint8_t* src, int64_t n)
    int64_t kcore_column_at(const Column* c, int kind, int64_t i, const uint8_t** p)
    int64_t kcore_delta(const Plan* plan, int64_t i)
    int64_t kcore_headers_size(const Plan* plan, int64_t i)
    int64_t kcore_body_size(
        int64_t i, int64_t delta, int64_t key_size, int64_t value_size, int64_t headers_size
    )
    int64_t kcore_record_size(const Plan* plan, int64_t i)
    int64_t kcore_room_guess(const Plan* plan)
    uint8_t* kcore_put_headers(uint8_t* p, const uint8_t* end, const Plan* plan, int64_t i)
    uint8_t* kcore_write_run(
        const Plan* plan, int64_t* at, uint8_t* p, const uint8_t* soft, const uint8_t* end
    )

cdef enum:
    CRC_BEHIND_BYTES = 6 * 1024  # how far the CRC may lag: still in the first-level cache
    NOGIL_BYTES_MIN = 128 * 1024 # about 10 us of work: now other threads gain from the GIL


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
    return _build(&plan, &h, value_source, key_source, header_source, codec_id, level)


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

cdef object _build(
    Plan* plan, BatchHeader* h, _Source values, _Source keys, _Headers headers, int codec_id, level
):
    cdef Output out
    cdef int64_t status
    values.fill(&plan.values, plan.count)
    keys.fill(&plan.keys, plan.count)
    headers.fill(plan)
    out.batch = NULL
    try:
        status = _write_all(plan, h, &out, codec_id == CODEC_NONE)
        if status == WRITTEN:
            if codec_id == CODEC_NONE:
                return <object>out.batch
            packed = Pin.of(deflate(codec_id, out.base + BATCH_HEADER_BYTES, out.size, level))
            return _assemble(h, <const uint8_t*>packed.view.buf, packed.view.len)
    finally:
        Py_XDECREF(out.batch)
    # Rare: byte-like objects in a list, unusual headers, or wrong arguments.
    if status == KCORE_RARE_HEADERS:
        headers.encode()
    elif not (values.made_plain() | keys.made_plain()):
        raise TypeError("the values changed while they were encoded")
    return _build(plan, h, values, keys, headers, codec_id, level)


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


# --------------------------------------------------------------------- writing

cdef enum:
    WRITTEN = 0
    NO_ROOM = 1

cdef struct Output:
    PyObject* batch  # bytes that only we know
    uint8_t* base    # where they lie
    int64_t size     # of the records so far
    int64_t room     # for the records
    int64_t summed   # the CRC has come this far
    int64_t index    # of the next record
    uint32_t crc
    bint has_crc


cdef int64_t _write_all(Plan* plan, BatchHeader* h, Output* out, bint has_crc) except? -1:
    """WRITTEN, or what is wrong with a record."""
    cdef int64_t status = kcore_room_guess(plan)
    if status < 0:
        return status
    _check_size(status - KCORE_SPARE_BYTES)
    out.batch = NULL
    _make_room(out, status)
    out.size = out.summed = out.index = 0
    out.has_crc = has_crc
    _store_header(out.base, h, BATCH_HEADER_BYTES)  # how long it gets is not known yet
    out.crc = crc32c_extend(0, out.base + BATCH_CRC_FROM, BATCH_HEADER_BYTES - BATCH_CRC_FROM)
    while True:
        if (
            plan.values.kind == KCORE_COLUMN_LIST or plan.keys.kind == KCORE_COLUMN_LIST
            or plan.header_lists != NULL or out.room < NOGIL_BYTES_MIN
        ):
            status = _write_records(plan, out)
        else:
            with nogil:
                status = _write_records(plan, out)
        if status != NO_ROOM:
            break
        status = kcore_record_size(plan, out.index)
        _check_size(out.size + status)
        # What is to come is taken to be like what has been; in any case a quarter more than now.
        status += <int64_t>(1.1 * out.size / (out.index + 1) * (plan.count - out.index))
        _make_room(out, max(out.size + status, out.room + (out.room >> 2)) + KCORE_SPARE_BYTES)
    if status != WRITTEN:
        return status
    _check_size(out.size)
    store_i32(out.base + BATCH_LENGTH_AT,
              <int32_t>(BATCH_HEADER_BYTES + out.size - BATCH_OVERHEAD_BYTES))
    store_u32(out.base + BATCH_CRC_AT, out.crc)
    if out.room - out.size > (out.size >> 2) + 2 * KCORE_SPARE_BYTES:
        _PyBytes_Resize(&out.batch, <Py_ssize_t>(BATCH_HEADER_BYTES + out.size))
        out.base = <uint8_t*>KCORE_BYTES_AT(out.batch)
    else:
        KCORE_SHORTEN_BYTES(out.batch, <Py_ssize_t>(BATCH_HEADER_BYTES + out.size))
    return WRITTEN


cdef int _make_room(Output* out, int64_t room) except -1:
    """Room for records of so many bytes, with what is written so far."""
    room = min(room, <int64_t>BATCH_BYTES_MAX + KCORE_SPARE_BYTES)
    if out.batch == NULL:
        out.batch = kcore_new_bytes(NULL, <Py_ssize_t>(BATCH_HEADER_BYTES + room))
    else:
        _PyBytes_Resize(&out.batch, <Py_ssize_t>(BATCH_HEADER_BYTES + room))
    out.base = <uint8_t*>KCORE_BYTES_AT(out.batch)
    out.room = room
    return 0


cdef int64_t _write_records(const Plan* plan, Output* out) noexcept nogil:
    """Until all are WRITTEN, there is NO_ROOM for one, or one is wrong."""
    cdef uint8_t* base = out.base + BATCH_HEADER_BYTES
    cdef int64_t status
    while out.index < plan.count:
        out.size = kcore_write_run(
            plan, &out.index, base + out.size, base + out.summed + CRC_BEHIND_BYTES,
            base + out.room
        ) - base
        if out.size - out.summed >= CRC_BEHIND_BYTES:
            _sum(out)
        elif out.index < plan.count:
            status = _write_record(plan, out)
            if status != WRITTEN:
                return status
    _sum(out)
    return WRITTEN


cdef void _sum(Output* out) noexcept nogil:
    """The CRC of what it has not seen yet."""
    cdef const uint8_t* p = out.base + BATCH_HEADER_BYTES + out.summed
    if out.has_crc:
        out.crc = crc32c_extend(out.crc, p, <size_t>(out.size - out.summed))
    out.summed = out.size


cdef int64_t _write_record(const Plan* plan, Output* out) noexcept nogil:
    """The next record, whatever it is, and not a byte behind it."""
    cdef const uint8_t* key = NULL
    cdef const uint8_t* value = NULL
    cdef int64_t i = out.index
    cdef int64_t size = kcore_record_size(plan, i)
    if size < 0:
        return size
    if size > out.room - out.size:
        return NO_ROOM
    cdef int64_t key_size = kcore_column_at(&plan.keys, plan.keys.kind, i, &key)
    cdef int64_t value_size = kcore_column_at(&plan.values, plan.values.kind, i, &value)
    cdef int64_t headers_size = kcore_headers_size(plan, i)
    cdef int64_t delta = kcore_delta(plan, i)
    cdef int64_t behind = out.size + size
    cdef uint8_t* p = out.base + BATCH_HEADER_BYTES + out.size
    p = write_varint(p, <int32_t>kcore_body_size(i, delta, key_size, value_size, headers_size))
    p[0] = 0  # attributes: none are defined
    p = write_varlong(p + 1, delta)
    p = write_varint(p, <int32_t>i)
    p = write_varint(p, <int32_t>key_size)
    if key_size > 0:
        p = _put(p, key, key_size, out)
    p = write_varint(p, <int32_t>value_size)
    if value_size > 0:
        p = _put(p, value, value_size, out)
    if plan.headers == NULL:
        kcore_put_headers(p, p + 2 * KCORE_SHORT_BYTES_MAX, plan, i)  # its size is known to fit
    else:
        memcpy(p, plan.headers + plan.header_ends[i] - headers_size, <size_t>headers_size)
    out.size = behind
    out.index += 1
    return WRITTEN


cdef inline uint8_t* _put(
    uint8_t* p, const uint8_t* src, int64_t size, Output* out
) noexcept nogil:
    if size <= KCORE_SHORT_BYTES_MAX:
        kcore_copy_short(p, src, size)
    elif size < KCORE_FUSED_BYTES_MIN or not out.has_crc:
        memcpy(p, src, <size_t>size)
    else:
        out.size = p - out.base - BATCH_HEADER_BYTES
        _sum(out)
        out.crc = crc32c_copy(out.crc, p, src, <size_t>size)
        out.summed += size
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
    cdef int kind
    cdef list items
    cdef Pin data
    cdef Pin offsets
    cdef Pin valid
    cdef int64_t first

    @staticmethod
    cdef _Source of(str name, given):
        cdef _Source s = _Source.__new__(_Source)
        s.name = name
        s.kind = KCORE_COLUMN_NULLS
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
        self.kind = KCORE_COLUMN_LIST
        self.items = items
        self.count = len(items)
        return 0

    cdef int take_buffer(self, data, offsets) except -1:
        self.data = Pin.of(data)
        cdef int64_t width
        self.offsets = _integers(self.name + " offsets", offsets, &width)
        self.kind = KCORE_COLUMN_32 if width == 4 else KCORE_COLUMN_64
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
        self.kind = KCORE_COLUMN_64 if kind.startswith("large") else KCORE_COLUMN_32
        self.valid = None if valid is None or not array.null_count else Pin.of(valid)
        if self.count == 0:
            return 0
        self.offsets = Pin.of(offsets)
        self.data = Pin.of(b"" if data is None else data)
        return 0

    cdef int fill(self, Column* column, int64_t count) except -1:
        column.kind = self.kind
        column.first = self.first
        column.items = NULL
        column.data = NULL
        column.data_size = 0
        column.offsets32 = NULL
        column.offsets64 = NULL
        column.valid = NULL
        if self.kind == KCORE_COLUMN_LIST:
            if len(self.items) != count:
                raise ValueError(f"the {self.name} changed while they were encoded")
            column.items = KCORE_LIST_ITEMS(self.items)
        if self.data is not None:
            column.data = <const uint8_t*>self.data.view.buf
            column.data_size = self.data.view.len
        if self.offsets is not None:
            column.offsets32 = <const int32_t*>self.offsets.view.buf
            column.offsets64 = <const int64_t*>self.offsets.view.buf
        if self.valid is not None:
            column.valid = <const uint8_t*>self.valid.view.buf
        return 0

    cdef bint made_plain(self) except -1:
        """Whether the list held other byte-like objects, which are bytes now; else raises."""
        if self.kind == KCORE_COLUMN_NULLS:
            return False
        if self.kind != KCORE_COLUMN_LIST:
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
    """A memoryview of int64, a tenth of the cost of array("q", ...)."""
    cdef Py_ssize_t i, count = len(given)
    cdef object room = PyBytes_FromStringAndSize(NULL, 8 * count)
    cdef int64_t* p = <int64_t*>PyBytes_AS_STRING(room)
    cdef list items = given if type(given) is list else list(given)
    cdef PyObject* item
    for i in range(count):
        if i >= len(items):
            break
        item = KCORE_LIST_ITEMS(items)[i]
        if KCORE_IS_INT(item):  # converting it runs no code of the caller's: it may be borrowed
            p[i] = <int64_t><object>item
        else:
            p[i] = items[i]
    if len(items) != count:
        raise ValueError("the timestamps changed while they were encoded")
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
    """The headers of all records: as they were given, and encoded if they are not all plain."""

    cdef list records
    cdef int64_t count
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
        if given is None:
            return h
        if len(given) != count:
            raise ValueError(f"headers of {len(given)} records for {count} values")
        # A list of the caller's, because other objects may run code when they are iterated.
        h.records = given if type(given) is list else list(given)
        h.count = count
        return h

    cdef int fill(self, Plan* plan) except -1:
        plan.headers = self.data
        plan.header_ends = self.ends
        plan.header_lists = NULL
        if self.records is None or self.data != NULL:
            return 0
        if len(self.records) != self.count:
            raise ValueError("the headers changed while they were encoded")
        plan.header_lists = KCORE_LIST_ITEMS(self.records)
        return 0

    cdef int encode(self) except -1:
        """The sections of all records, one after the other. May run the caller's code."""
        cdef int64_t i
        self.ends = <int64_t*>malloc(<size_t>(8 * self.count))
        if self.ends == NULL:
            raise MemoryError()
        for i in range(self.count):
            if i >= len(self.records):
                raise ValueError("the headers changed while they were encoded")
            self.add_record(self.records[i], i)
            self.ends[i] = self.size
        return 0

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
        if size <= KCORE_SHORT_BYTES_MAX:
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
