"""Looking into one batch: what a leader checks before an append, and records one by one.

The walks run over the record section after inflation (records.pxd). A structural fault found by a
reader is CorruptBatch; the same fault in a batch that a producer sends is InvalidRecord, because
its CRC fits: the producer meant these bytes, and sending them again will not help.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport INT64_MIN, uint32_t

from kcore._native.batch cimport (
    BATCH_MAGIC, BatchHeader, BatchInfo, BatchStatus, batch_check, batch_peek, raise_batch_status,
)
from kcore._native.batch import CODEC_NAMES
from kcore._native.codecs cimport inflate
from kcore._native.counters cimport COUNTER_BUFFERS, counter_down, counter_up
from kcore._native.crc32c cimport crc32c_extend
from kcore._native.cursor cimport cursor_over
from kcore._native.layout cimport *

from kcore.errors import CorruptBatch, InvalidRecord, LimitExceeded, UnsupportedCodec

cdef enum:
    # From about this size a walk with the CRC takes 10 us: other threads may run meanwhile.
    NOGIL_BYTES_MIN = 128 * 1024

_FAULTS = {
    RECORD_LENGTH: "its length runs past the batch",
    RECORD_FIELDS: "its fields do not end where its length says",
    RECORD_SIZE: "a key, value or header is larger than the record",
    RECORD_HEADER_COUNT: "its header count does not fit the record",
    RECORD_HEADER_KEY: "a header has no key",
    RECORD_TRAILING: "bytes follow the last record",
    RECORD_OFFSET_DELTA: "its offset delta is not its index in the batch",
    RECORD_KEYLESS: "it has no key, and the topic is compacted",
}


# --------------------------------------------------------------------- for C callers

@cython.final
@cython.no_gc
@cython.freelist(32)
cdef class Pin:
    def __init__(self):
        raise TypeError("pins are made by the engine")

    @staticmethod
    cdef Pin of(data):
        cdef Pin pin = Pin.__new__(Pin)
        PyObject_GetBuffer(data, &pin.view, PyBUF_SIMPLE)
        pin.is_open = True
        counter_up(COUNTER_BUFFERS)
        return pin

    def __dealloc__(self):
        if self.is_open:
            PyBuffer_Release(&self.view)
            counter_down(COUNTER_BUFFERS)


cdef Pin section_of(
    Pin source, const uint8_t* p, const BatchHeader* h, const uint8_t** start, int64_t* size
):
    cdef int codec_id = h.attributes & ATTR_CODEC_MASK
    cdef Pin section
    if codec_id == CODEC_NONE:
        start[0] = p + BATCH_HEADER_BYTES
        size[0] = h.size - BATCH_HEADER_BYTES
        return source
    if codec_id >= CODEC_COUNT:
        raise UnsupportedCodec("unknown codec", expected=", ".join(CODEC_NAMES), found=codec_id)
    section = Pin.of(inflate(codec_id, p + BATCH_HEADER_BYTES, h.size - BATCH_HEADER_BYTES))
    start[0] = <const uint8_t*>section.view.buf
    size[0] = section.view.len
    if <int64_t>h.record_count * RECORD_BYTES_MIN > size[0]:
        raise CorruptBatch(
            f"{h.record_count} records cannot fit in the {size[0]} bytes of the batch at base "
            f"offset {h.base_offset}"
        )
    return section


cdef int raise_record_status(RecordStatus status, const BatchHeader* h, int64_t index) except -1:
    if status == RECORD_OK:
        return 0
    where = f"the batch at base offset {h.base_offset}"
    if status == RECORD_TRAILING:
        raise CorruptBatch(f"bytes follow the last record of {where}")
    raise CorruptBatch(f"record {index} of {where}: {_FAULTS[<int>status]}")


# --------------------------------------------------------------------- produce

def check_produced(data, *, Py_ssize_t max_bytes, bint need_keys=False):
    """Everything a leader must know before it appends what a producer sent; the batch's header.

    In Kafka's order: exactly one batch of version 2, its size against `max_bytes`, CRC, counts,
    flags, producer fields; then, if it is not compressed, every record: lengths, offset deltas
    0..n-1, headers with keys, and (`need_keys`) keys. A compressed batch is inflated only for
    `need_keys`: the broker passes it on as it is.
    """
    cdef BatchHeader h
    cdef Pin source = Pin.of(data)
    check_produced_batch(
        <const uint8_t*>source.view.buf, source.view.len, max_bytes, need_keys, &h)
    return BatchInfo.new(&h)


cdef int check_produced_batch(
    const uint8_t* p, int64_t n, int64_t max_bytes, bint need_keys, BatchHeader* h
) except -1:
    cdef Pin section
    cdef const uint8_t* start
    cdef int64_t size
    cdef BatchStatus status = batch_peek(p, n, h)
    if status == BATCH_MAGIC:
        raise InvalidRecord(
            "only record batches of version 2 can be produced", expected=2, found=h.magic
        )
    raise_batch_status(status, h, None, 0)
    if h.size != n:
        raise InvalidRecord(
            "a partition's data must be exactly one batch", expected=f"{h.size} bytes",
            found=f"{n} bytes",
        )
    if h.size > max_bytes:
        raise LimitExceeded(
            "the batch is too large", expected=f"at most {max_bytes} bytes", found=h.size
        )
    _check_crc(p, h)
    _check_rules(h)
    if (h.attributes & ATTR_CODEC_MASK) == CODEC_NONE:
        check_records(p + BATCH_HEADER_BYTES, h.size - BATCH_HEADER_BYTES, h, need_keys)
    elif need_keys:
        section = section_of(None, p, h, &start, &size)
        check_records(start, size, h, need_keys)
    return 0


cdef int _check_crc(const uint8_t* p, const BatchHeader* h) except -1:
    cdef size_t size = <size_t>(h.size - BATCH_CRC_FROM)
    cdef uint32_t crc
    if size < NOGIL_BYTES_MIN:
        crc = crc32c_extend(0, p + BATCH_CRC_FROM, size)
    else:
        with nogil:
            crc = crc32c_extend(0, p + BATCH_CRC_FROM, size)
    if crc != h.crc:
        raise CorruptBatch(
            "the batch's CRC does not fit its bytes", pos=BATCH_CRC_AT,
            expected=f"{h.crc:#010x}", found=f"{crc:#010x}",
        )
    return 0


cdef int _check_rules(const BatchHeader* h) except -1:
    """The header's rules for a batch from a producer, in the order in which Kafka has them."""
    if h.base_offset != 0:
        raise InvalidRecord(
            "the base offset of a produced batch must be 0", expected=0, found=h.base_offset
        )
    if h.record_count <= 0:
        raise InvalidRecord(
            "a batch must hold at least one record", expected="> 0", found=h.record_count
        )
    if h.record_count > BATCH_RECORDS_MAX:
        raise LimitExceeded(
            "too many records in a batch", expected=f"at most {BATCH_RECORDS_MAX}",
            found=h.record_count,
        )
    if h.last_offset_delta != h.record_count - 1:
        raise InvalidRecord(
            "the last offset delta must be the record count minus one",
            expected=h.record_count - 1, found=h.last_offset_delta,
        )
    if h.attributes & ATTR_CONTROL:
        raise InvalidRecord("a producer may not write control batches")
    if h.attributes & ATTR_DELETE_HORIZON:
        raise InvalidRecord("a producer may not set a delete horizon")
    if h.producer_id >= 0 and (h.producer_epoch < 0 or h.base_sequence < 0):
        raise InvalidRecord(
            f"a batch of producer {h.producer_id} needs an epoch and a sequence",
            expected="both >= 0", found=f"epoch {h.producer_epoch}, sequence {h.base_sequence}",
        )
    if h.producer_id < 0 and h.attributes & ATTR_TRANSACTIONAL:
        raise InvalidRecord(
            "a transactional batch needs a producer id", expected=">= 0", found=h.producer_id
        )
    if (h.attributes & ATTR_CODEC_MASK) >= CODEC_COUNT:
        raise UnsupportedCodec(
            "unknown codec", expected=", ".join(CODEC_NAMES), found=h.attributes & ATTR_CODEC_MASK
        )
    return 0


cdef int check_records(
    const uint8_t* p, int64_t size, const BatchHeader* h, bint need_keys
) except -1:
    cdef RecordStatus status
    cdef int32_t index = 0
    if size < NOGIL_BYTES_MIN:
        status = _walk_produced(p, size, h.record_count, need_keys, &index)
    else:
        with nogil:
            status = _walk_produced(p, size, h.record_count, need_keys, &index)
    if status == RECORD_OK:
        return 0
    if status == RECORD_TRAILING:
        raise InvalidRecord("bytes follow the last record of the batch")
    raise InvalidRecord(f"record {index} is not valid: {_FAULTS[<int>status]}", record_index=index)


cdef RecordStatus _walk_produced(
    const void* p, int64_t size, int32_t record_count, bint need_keys, int32_t* index
) noexcept nogil:
    cdef Cursor c = cursor_over(p, size)
    cdef RecordView r
    cdef RecordStatus status
    cdef int32_t i = 0
    while True:
        i = kcore_check_run(&c.p, c.end, i, record_count, need_keys)
        if i == record_count:
            break
        status = record_in_steps(&c, &r)
        if status == RECORD_OK and r.header_count:
            status = record_headers_check(&r)
        if status == RECORD_OK and r.offset_delta != i:
            status = RECORD_OFFSET_DELTA
        if status == RECORD_OK and need_keys and r.key_size < 0:
            status = RECORD_KEYLESS
        if status != RECORD_OK:
            index[0] = i
            return status
        i += 1
    return RECORD_OK if c.p == c.end else RECORD_TRAILING


# --------------------------------------------------------------------- lookups in one batch

def keyless_record(data):
    """Index of the first record without a key in the batch `data`, or None."""
    cdef _Section s = _Section.over(data)
    cdef RecordView r
    cdef int32_t i
    for i in range(s.h.record_count):
        s.next(&r, i)
        if r.key_size < 0:
            return i
    return None


def find_timestamp(data, int64_t target_ms, *, int64_t min_offset=0):
    """The first record at or after `target_ms` (and `min_offset`): (timestamp, offset), or None.

    In a batch of type LogAppendTime every record has the batch's time.
    """
    cdef _Section s = _Section.over(data)
    cdef RecordView r
    cdef int64_t timestamp, offset
    cdef int32_t i
    if s.h.attributes & ATTR_APPEND_TIME and s.h.max_timestamp < target_ms:
        return None
    for i in range(s.h.record_count):
        s.next(&r, i)
        timestamp = s.timestamp_of(&r)
        offset = s.h.base_offset + r.offset_delta
        if timestamp >= target_ms and offset >= min_offset:
            return timestamp, offset
    return None


def max_timestamp_record(data, *, int64_t min_offset=0):
    """The first of the records with the greatest timestamp: (timestamp, offset), or None."""
    cdef _Section s = _Section.over(data)
    cdef RecordView r
    cdef int64_t timestamp, offset, best = INT64_MIN, best_offset = -1
    cdef int32_t i
    for i in range(s.h.record_count):
        s.next(&r, i)
        timestamp = s.timestamp_of(&r)
        offset = s.h.base_offset + r.offset_delta
        if offset >= min_offset and (timestamp > best or best_offset < 0):
            best = timestamp
            best_offset = offset
    return None if best_offset < 0 else (best, best_offset)


@cython.final
cdef class _Section:
    """The records of the one batch that `data` starts with, checked and inflated."""

    cdef BatchHeader h
    cdef Pin pin
    cdef Cursor c

    @staticmethod
    cdef _Section over(data):
        cdef _Section s = _Section.__new__(_Section)
        cdef Pin source = Pin.of(data)
        s.open_at(source, <const uint8_t*>source.view.buf, source.view.len)
        return s

    cdef int open_at(self, Pin source, const uint8_t* p, int64_t n) except -1:
        cdef const uint8_t* start
        cdef int64_t size
        cdef int64_t pos = p - <const uint8_t*>source.view.buf
        raise_batch_status(batch_check(p, n, &self.h), &self.h, None, pos)
        self.pin = section_of(source, p, &self.h, &start, &size)
        self.c = cursor_over(start, size)
        return 0

    cdef int next(self, RecordView* r, int64_t index) except -1:
        """The next record, its headers and its place in the batch checked."""
        cdef RecordStatus status = record_next(&self.c, r)
        if status == RECORD_OK:
            status = record_headers_check(r)
        if status == RECORD_OK and not 0 <= r.offset_delta <= self.h.last_offset_delta:
            status = RECORD_OFFSET_DELTA
        if status != RECORD_OK:
            raise_record_status(status, &self.h, index)
        return 0

    cdef int64_t timestamp_of(self, const RecordView* r) noexcept:
        if self.h.attributes & ATTR_APPEND_TIME:
            return self.h.max_timestamp
        return timestamp_at(self.h.base_timestamp, r.timestamp_delta)


# --------------------------------------------------------------------- records, one by one

@cython.final
@cython.no_gc
@cython.freelist(1024)
cdef class Record:
    """One record. Key, value and headers are read from the batch when asked for.

    It keeps the bytes it was decoded from alive: of a span of a log, the mapping of its segment.
    """

    cdef Pin pin
    cdef const uint8_t* key_at
    cdef const uint8_t* value_at
    cdef const uint8_t* headers_at
    cdef const uint8_t* end
    cdef readonly int64_t offset
    cdef readonly int64_t timestamp
    cdef int32_t key_size, value_size, header_count

    def __init__(self):
        raise TypeError("records come from kcore.records()")

    @property
    def key(self):
        """The key, or None."""
        return _bytes_or_none(self.key_at, self.key_size)

    @property
    def value(self):
        """The value, or None."""
        return _bytes_or_none(self.value_at, self.value_size)

    @property
    def headers(self):
        """A list of (name, value or None), in the order written."""
        cdef Cursor c
        cdef const uint8_t* key
        cdef const uint8_t* value
        cdef int32_t key_size, value_size, i
        cdef list headers = []
        c.p = self.headers_at
        c.end = self.end
        for i in range(self.header_count):
            # Checked when decoded; the caller's buffer may have been written to since.
            if header_next(&c, &key, &key_size, &value, &value_size) != RECORD_OK:
                raise CorruptBatch(
                    f"headers of the record at offset {self.offset} have changed since it was read"
                )
            name = PyUnicode_DecodeUTF8(<char*>key, key_size, "replace")
            headers.append((name, _bytes_or_none(value, value_size)))
        return headers

    def __repr__(self):
        return (
            f"Record(offset={self.offset}, timestamp={self.timestamp}, key={self.key!r}, "
            f"value={self.value!r}, headers={self.headers!r})"
        )


@cython.final
cdef class RecordIterator:
    """Walks the batches of a span. See `records`."""

    cdef Pin source
    cdef const uint8_t* next_batch
    cdef const uint8_t* end
    cdef _Section section
    cdef int32_t index
    cdef bint include_control

    def __iter__(self):
        return self

    def __next__(self):
        cdef RecordView r
        cdef const uint8_t* behind
        cdef Record record
        while self.index >= self.section.h.record_count:
            self._open_next()
        behind = kcore_record_quick(self.section.c.p, self.section.c.end, &r)
        if behind == NULL or r.offset_delta > self.section.h.last_offset_delta or (
            r.header_count and not kcore_headers_fit(&r)
        ):
            r = self._next_in_steps()
        else:
            self.section.c.p = behind
        self.index += 1
        if self.index == self.section.h.record_count and self.section.c.p != self.section.c.end:
            raise_record_status(RECORD_TRAILING, &self.section.h, self.index)
        record = Record.__new__(Record)
        record.pin = self.section.pin
        record.key_at = r.key
        record.value_at = r.value
        record.headers_at = r.headers
        record.end = r.end
        record.offset = self.section.h.base_offset + r.offset_delta
        if self.section.h.attributes & ATTR_APPEND_TIME:
            record.timestamp = self.section.h.max_timestamp
        else:
            record.timestamp = timestamp_at(self.section.h.base_timestamp, r.timestamp_delta)
        record.key_size = r.key_size
        record.value_size = r.value_size
        record.header_count = r.header_count
        return record

    cdef RecordView _next_in_steps(self) except *:
        """By value: a record whose address is known to nobody is decoded in registers."""
        cdef RecordView r
        self.section.next(&r, self.index)
        return r

    cdef int _open_next(self) except -1:
        if self.next_batch >= self.end:
            raise StopIteration
        self.section.h.record_count = 0  # a batch that cannot be opened yields nothing again
        self.section.open_at(self.source, self.next_batch, self.end - self.next_batch)
        self.next_batch += self.section.h.size
        self.index = 0
        if self.section.h.attributes & ATTR_CONTROL and not self.include_control:
            self.index = self.section.h.record_count
        return 0


def records(data, *, bint include_control=False):
    """An iterator of the `Record`s in `data`, whole batches one after the other.

    Control batches (transaction markers) are left out unless `include_control`.

    Each batch is checked (CRC, counts) and inflated when its first record is asked for.
    """
    cdef RecordIterator it = RecordIterator.__new__(RecordIterator)
    it.source = Pin.of(data)
    it.next_batch = <const uint8_t*>it.source.view.buf
    it.end = it.next_batch + it.source.view.len
    it.section = _Section.__new__(_Section)
    it.section.h.record_count = 0
    it.index = 0
    it.include_control = include_control
    return it


cdef inline object _bytes_or_none(const uint8_t* p, int32_t size):
    return None if size < 0 else PyBytes_FromStringAndSize(<char*>p, size)
