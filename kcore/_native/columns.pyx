"""Decoding whole spans to columns: NumPy arrays of offsets and timestamps, and bounds of keys and
values over one buffer.

Nothing is copied when no batch is compressed: the bounds lie over the caller's span. As soon as one
is, the record sections of all are joined into one buffer of their own. The arrays are made by NumPy
(imported when first used) and filled through their pointers without the GIL.
"""

cimport cython
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.list cimport PyList_New, PyList_SET_ITEM
from cpython.ref cimport Py_INCREF
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset

from kcore._native.batch cimport (
    BATCH_OK, BatchHeader, BatchStatus, batch_check, batch_peek, batch_relations,
    raise_batch_status,
)
from kcore._native.cursor cimport Cursor, cursor_over
from kcore._native.endian cimport load_i16, load_i32
from kcore._native.layout cimport *
from kcore._native.records cimport (
    RECORD_FIELDS, RECORD_OFFSET_DELTA, RECORD_OK, RECORD_TRAILING, Fill, Pin, RecordStatus,
    RecordView, kcore_fill_run, raise_record_status, record_headers_check, record_in_steps,
    record_next, section_of, timestamp_at,
)

from kcore._native.codecs import budget_for
from kcore.errors import LimitExceeded
from kcore.types import ControlMarker

cdef enum:
    NOGIL_BYTES_MIN = 128 * 1024  # about 10 us of work: now other threads gain from the GIL


# --------------------------------------------------------------------- public

@cython.final
cdef class Columns:
    """The records of a span, by column. Made by `decode`."""

    cdef readonly object offsets       # int64 array
    cdef readonly object timestamps    # int64 array, milliseconds
    cdef readonly object key_bounds    # (n, 2) int64: start and end in `buffer`; -1, -1: null
    cdef readonly object value_bounds
    cdef readonly object buffer        # what the bounds lie over
    cdef readonly list control         # the ControlMarkers of the span
    cdef Pin pin

    def __init__(self):
        raise TypeError("columns come from kcore.decode()")

    def __len__(self):
        return len(self.offsets)

    def keys(self):
        """The keys: a list of bytes or None."""
        return _to_list(self.pin, self.key_bounds)

    def values(self):
        """The values: a list of bytes or None."""
        return _to_list(self.pin, self.value_bounds)

    def to_arrow(self):
        """A pyarrow.Table of offset, timestamp (ms), key and value."""
        import pyarrow

        return pyarrow.table({
            "offset": pyarrow.array(self.offsets),
            "timestamp": pyarrow.array(self.timestamps).cast(pyarrow.timestamp("ms")),
            "key": _to_arrow(pyarrow, self.pin, self.key_bounds),
            "value": _to_arrow(pyarrow, self.pin, self.value_bounds),
        })

    def __repr__(self):
        return f"Columns({len(self)} records, {len(self.control)} control markers)"


def decode(span, *, bint verify=True):
    """All records in `span`, whole batches one after the other, as `Columns`.

    `verify=False` leaves out the CRC, never the bounds. Control batches are listed in `.control`.
    """
    import numpy

    cdef Pin source = Pin.of(span)
    cdef Columns columns = Columns.__new__(Columns)
    cdef _Plan plan = _Plan.__new__(_Plan)
    cdef Fill fill
    columns.control = []
    plan.survey(source, verify)
    plan.read_markers(columns.control)
    # One block for all columns: four that are freed together would make the allocator return
    # their pages each time, and fresh pages cost as much as the decoding.
    cdef int64_t n = plan.count
    cdef object block = numpy.empty(6 * n, dtype=numpy.int64)
    if plan.inflated == 0:
        columns.pin = source
        columns.buffer = span
    else:
        columns.pin = plan.join()
        columns.buffer = columns.pin.view.obj
    fill.offsets = _address(block)
    fill.timestamps = fill.offsets + n
    fill.keys = fill.offsets + 2 * n
    fill.values = fill.offsets + 4 * n
    plan.fill_all(columns.pin, &fill)
    columns.offsets = block[:n]
    columns.timestamps = block[n:2 * n]
    columns.key_bounds = block[2 * n:4 * n].reshape(n, 2)
    columns.value_bounds = block[4 * n:].reshape(n, 2)
    return columns


# --------------------------------------------------------------------- the two passes

cdef struct Section:
    BatchHeader h
    const uint8_t* start  # of its records, inflated
    int64_t size


@cython.final
cdef class _Plan:
    """The batches of a span: first surveyed, then written to the columns."""

    cdef Section* sections
    cdef Py_ssize_t section_count
    cdef Py_ssize_t section_room
    cdef int64_t count           # records that are not control records
    cdef int64_t inflated        # bytes of the sections that were compressed
    cdef list pins               # keep the inflated bytes

    def __dealloc__(self):
        free(self.sections)

    cdef int survey(self, Pin source, bint verify) except -1:
        """Pass one: check and inflate each batch, count the records."""
        cdef const uint8_t* base = <const uint8_t*>source.view.buf
        cdef int64_t pos = 0
        cdef int64_t budget = budget_for(source.view.len)
        cdef Section* s
        cdef Pin pin
        cdef BatchStatus status
        self.pins = []
        while pos < source.view.len:
            s = self.new_section()
            status = _look(base + pos, source.view.len - pos, &s.h, verify)
            raise_batch_status(status, &s.h, None, pos)
            pin = section_of(source, base + pos, &s.h, &s.start, &s.size)
            if pin is not source:
                self.pins.append(pin)
                self.inflated += s.size
                if self.inflated > budget:
                    raise LimitExceeded(
                        "a span inflates to more than its budget",
                        expected=f"at most {budget} bytes", found="more",
                    )
            if not s.h.attributes & ATTR_CONTROL:
                self.count += s.h.record_count
            self.section_count += 1
            pos += s.h.size
        return 0

    cdef Section* new_section(self) except NULL:
        cdef Section* grown
        cdef Py_ssize_t room
        if self.section_count == self.section_room:
            room = 2 * self.section_room + 8
            grown = <Section*>realloc(self.sections, <size_t>room * sizeof(Section))
            if grown == NULL:
                raise MemoryError()
            self.sections = grown
            self.section_room = room
        return &self.sections[self.section_count]

    cdef Pin join(self):
        """All records in one buffer: the only section's own, or a copy of all."""
        cdef Py_ssize_t i
        cdef int64_t size = 0
        cdef uint8_t* p
        if self.section_count == 1:
            return self.pins[0]
        for i in range(self.section_count):
            size += self.sections[i].size
        joined = PyBytes_FromStringAndSize(NULL, size)
        p = <uint8_t*>PyBytes_AS_STRING(joined)
        for i in range(self.section_count):
            memcpy(p, self.sections[i].start, <size_t>self.sections[i].size)
            self.sections[i].start = p
            p += self.sections[i].size
        self.pins = None
        return Pin.of(joined)

    cdef int fill_all(self, Pin pin, Fill* fill) except -1:
        """Pass two: every record into the columns."""
        cdef Py_ssize_t i
        cdef Section* s
        cdef int32_t index = 0
        cdef RecordStatus status
        cdef const uint8_t* base = <const uint8_t*>pin.view.buf
        for i in range(self.section_count):
            s = &self.sections[i]
            if s.h.attributes & ATTR_CONTROL:
                continue
            if s.size < NOGIL_BYTES_MIN:
                status = _fill_section(s, base, fill, &index)
            else:
                with nogil:
                    status = _fill_section(s, base, fill, &index)
            raise_record_status(status, &s.h, index)
        return 0

    cdef int read_markers(self, list markers) except -1:
        cdef Py_ssize_t i
        cdef int32_t index
        cdef Cursor c
        cdef RecordView r
        cdef Section* s
        for i in range(self.section_count):
            s = &self.sections[i]
            if not s.h.attributes & ATTR_CONTROL:
                continue
            c = cursor_over(s.start, s.size)
            for index in range(s.h.record_count):
                raise_record_status(record_next(&c, &r), &s.h, index)
                if r.key_size < 4:
                    raise_record_status(RECORD_FIELDS, &s.h, index)
                markers.append(_marker(&s.h, &r))
        return 0


cdef inline BatchStatus _look(const uint8_t* p, int64_t n, BatchHeader* h, bint verify) noexcept:
    cdef BatchStatus status = batch_peek(p, n, h)
    if status != BATCH_OK:
        return status
    if not verify:
        return batch_relations(h)
    if h.size < NOGIL_BYTES_MIN:
        return batch_check(p, n, h)
    with nogil:
        status = batch_check(p, n, h)
    return status


cdef RecordStatus _fill_section(
    const Section* s, const uint8_t* base, Fill* fill, int32_t* index
) noexcept nogil:
    cdef Cursor c = cursor_over(s.start, s.size)
    cdef RecordView r
    cdef RecordStatus status
    cdef int32_t i = 0, count = s.h.record_count
    cdef bint append_time = s.h.attributes & ATTR_APPEND_TIME
    cdef int64_t timestamp = s.h.max_timestamp if append_time else s.h.base_timestamp
    while True:
        i += kcore_fill_run(
            &c.p, c.end, base, count - i, s.h.base_offset, s.h.last_offset_delta, timestamp,
            not append_time, fill
        )
        if i == count:
            break
        status = record_in_steps(&c, &r)
        if status == RECORD_OK and r.header_count:
            status = record_headers_check(&r)
        if status == RECORD_OK and <uint32_t>r.offset_delta > <uint32_t>s.h.last_offset_delta:
            status = RECORD_OFFSET_DELTA
        if status != RECORD_OK:
            index[0] = i
            return status
        i += 1
        fill.offsets[0] = s.h.base_offset + r.offset_delta
        fill.timestamps[0] = timestamp_at(timestamp, 0 if append_time else r.timestamp_delta)
        fill.keys[0] = r.key - base if r.key_size >= 0 else -1
        fill.keys[1] = fill.keys[0] + r.key_size if r.key_size >= 0 else -1
        fill.values[0] = r.value - base if r.value_size >= 0 else -1
        fill.values[1] = fill.values[0] + r.value_size if r.value_size >= 0 else -1
        fill.offsets += 1
        fill.timestamps += 1
        fill.keys += 2
        fill.values += 2
    return RECORD_OK if c.p == c.end else RECORD_TRAILING


cdef object _marker(const BatchHeader* h, const RecordView* r):
    """Key: version int16, type int16. Value of an end marker: version int16, epoch int32."""
    cdef int kind = load_i16(r.key + 2)
    cdef int32_t coordinator_epoch = -1
    cdef int64_t timestamp = timestamp_at(h.base_timestamp, r.timestamp_delta)
    if 0 <= kind <= 1 and r.value_size >= 6:
        coordinator_epoch = load_i32(r.value + 2)
    return ControlMarker(
        h.base_offset + r.offset_delta,
        h.max_timestamp if h.attributes & ATTR_APPEND_TIME else timestamp,
        h.producer_id,
        h.producer_epoch,
        "abort" if kind == 0 else "commit" if kind == 1 else f"type-{kind}",
        coordinator_epoch,
    )


# --------------------------------------------------------------------- columns to objects

cdef int64_t* _address(array) except? NULL:
    """Where the numbers of a fresh NumPy array lie: valid while the array lives."""
    cdef Py_buffer view
    PyObject_GetBuffer(array, &view, PyBUF_WRITABLE)
    cdef int64_t* address = <int64_t*>view.buf
    PyBuffer_Release(&view)
    return address


cdef Pin _bounds_of(Pin pin, bounds, Py_ssize_t* count):
    """The bounds, checked: their arrays are the caller's to write to."""
    cdef Pin checked = Pin.of(bounds)
    cdef const int64_t* p = <const int64_t*>checked.view.buf
    cdef Py_ssize_t i
    count[0] = checked.view.len // 16
    for i in range(count[0]):
        if p[2 * i] >= 0 and not p[2 * i] <= p[2 * i + 1] <= pin.view.len:
            raise IndexError(
                f"bounds {p[2 * i]}..{p[2 * i + 1]} of record {i} lie outside the buffer"
            )
    return checked


cdef list _to_list(Pin pin, bounds):
    cdef Py_ssize_t i, count
    cdef Pin checked = _bounds_of(pin, bounds, &count)
    cdef const int64_t* p = <const int64_t*>checked.view.buf
    cdef const char* base = <const char*>pin.view.buf
    cdef list out = PyList_New(count)
    cdef object item
    for i in range(count):
        if p[2 * i] < 0:
            item = None
        else:
            item = PyBytes_FromStringAndSize(base + p[2 * i], p[2 * i + 1] - p[2 * i])
        Py_INCREF(item)
        PyList_SET_ITEM(out, i, item)
    return out


cdef object _to_arrow(pyarrow, Pin pin, bounds):
    """A large_binary array: the values put one after the other, offsets, validity bits."""
    cdef Py_ssize_t i, count
    cdef Pin checked = _bounds_of(pin, bounds, &count)
    cdef const int64_t* p = <const int64_t*>checked.view.buf
    cdef const uint8_t* base = <const uint8_t*>pin.view.buf
    cdef int64_t size = 0, nulls = 0
    for i in range(count):
        if p[2 * i] >= 0:
            size += p[2 * i + 1] - p[2 * i]
    cdef object offsets = PyBytes_FromStringAndSize(NULL, 8 * (count + 1))
    cdef object valid = PyBytes_FromStringAndSize(NULL, (count + 7) // 8)
    cdef object data = PyBytes_FromStringAndSize(NULL, size)
    cdef int64_t* offset = <int64_t*>PyBytes_AS_STRING(offsets)
    cdef uint8_t* bits = <uint8_t*>PyBytes_AS_STRING(valid)
    cdef uint8_t* out = <uint8_t*>PyBytes_AS_STRING(data)
    memset(bits, 0, <size_t>((count + 7) // 8))
    size = 0
    for i in range(count):
        offset[i] = size
        if p[2 * i] < 0:
            nulls += 1
            continue
        bits[i >> 3] |= <uint8_t>(1 << (i & 7))
        memcpy(out + size, base + p[2 * i], <size_t>(p[2 * i + 1] - p[2 * i]))
        size += p[2 * i + 1] - p[2 * i]
    offset[count] = size
    buffers = [pyarrow.py_buffer(part) for part in (valid, offsets, data)]
    if not nulls:
        buffers[0] = None
    return pyarrow.Array.from_buffers(pyarrow.large_binary(), count, buffers, null_count=nulls)
