"""The header of a record batch v2, for C callers (batch.pxd) and for Python (`inspect`)."""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport INT32_MAX, INT64_MAX
from libc.string cimport memcpy, memset

from kcore._native.crc32c cimport crc32c_extend
from kcore._native.endian cimport (
    load_i16, load_i32, load_i64, load_u32, store_i32, store_i64, store_u16, store_u32,
)
from kcore._native.layout cimport *

from kcore.errors import CorruptBatch, TornTail

CODEC_NAMES = ("none", "gzip", "snappy", "lz4", "zstd")


# --------------------------------------------------------------------- for C callers

cdef BatchStatus batch_peek(const uint8_t* p, int64_t n, BatchHeader* h) noexcept nogil:
    cdef uint8_t part[BATCH_HEADER_BYTES]
    if n < BATCH_HEADER_BYTES:
        # A torn header: show what is there, so that the error can say what the bytes began with.
        memset(part, 0, BATCH_HEADER_BYTES)
        if n > 0:
            memcpy(part, p, <size_t>n)
        _load_header(part, h)
        return BATCH_SHORT
    _load_header(p, h)
    if h.batch_length < BATCH_HEADER_BYTES - BATCH_OVERHEAD_BYTES or h.size > BATCH_BYTES_MAX:
        return BATCH_LENGTH
    if h.magic != BATCH_MAGIC_V2:
        return BATCH_MAGIC
    if h.size > n:
        return BATCH_SHORT
    return BATCH_OK


cdef BatchStatus batch_check(const uint8_t* p, int64_t n, BatchHeader* h) noexcept nogil:
    cdef BatchStatus status = batch_peek(p, n, h)
    if status != BATCH_OK:
        return status
    if crc32c_extend(0, p + BATCH_CRC_FROM, <size_t>(h.size - BATCH_CRC_FROM)) != h.crc:
        return BATCH_CRC
    return batch_relations(h)


cdef BatchStatus batch_relations(const BatchHeader* h) noexcept nogil:
    # A batch holds no more records than offsets; compaction may have left fewer, even none.
    if h.base_offset < 0 or h.base_offset > INT64_MAX - INT32_MAX - 1:
        return BATCH_COUNT
    if h.last_offset_delta < 0 or h.record_count < 0 or h.record_count > BATCH_RECORDS_MAX:
        return BATCH_COUNT
    if <int64_t>h.record_count > <int64_t>h.last_offset_delta + 1:
        return BATCH_COUNT
    if (h.attributes & ATTR_CODEC_MASK) == CODEC_NONE and (
        <int64_t>h.record_count * RECORD_BYTES_MIN > h.size - BATCH_HEADER_BYTES
    ):
        return BATCH_COUNT
    return BATCH_OK


cdef void batch_stamp(uint8_t* p, int64_t base_offset, int32_t leader_epoch) noexcept nogil:
    store_i64(p + BATCH_BASE_OFFSET_AT, base_offset)
    store_i32(p + BATCH_LEADER_EPOCH_AT, leader_epoch)


cdef void batch_set_append_time(uint8_t* p, int64_t append_time_ms) noexcept nogil:
    cdef int64_t size = <int64_t>load_i32(p + BATCH_LENGTH_AT) + BATCH_OVERHEAD_BYTES
    cdef int attributes = load_i16(p + BATCH_ATTRIBUTES_AT) | ATTR_APPEND_TIME
    cdef uint32_t crc
    store_u16(p + BATCH_ATTRIBUTES_AT, <uint16_t>attributes)
    store_i64(p + BATCH_MAX_TIMESTAMP_AT, append_time_ms)
    crc = crc32c_extend(0, p + BATCH_CRC_FROM, <size_t>(size - BATCH_CRC_FROM))
    store_u32(p + BATCH_CRC_AT, crc)


cdef int raise_batch_status(
    BatchStatus status, const BatchHeader* h, str path, int64_t pos
) except -1:
    if status == BATCH_OK:
        return 0
    where = {"path": path, "pos": pos}
    if status == BATCH_SHORT:
        # In a file it is a write that was cut short; in a message it is simply wrong.
        error = CorruptBatch if path is None else TornTail
        if h == NULL or h.batch_length == 0:
            raise error("the bytes end inside a batch header", **where)
        raise error(f"the bytes end inside a batch of {h.size} bytes", **where)
    if h == NULL:
        raise CorruptBatch("record batch is not valid", **where)
    if status == BATCH_LENGTH:
        raise CorruptBatch(
            "batch length out of bounds", **where, found=h.batch_length,
            expected=f"{BATCH_HEADER_BYTES - BATCH_OVERHEAD_BYTES}.."
            f"{BATCH_BYTES_MAX - BATCH_OVERHEAD_BYTES}",
        )
    if status == BATCH_MAGIC:
        raise CorruptBatch(
            "batch format (magic) is not supported", **where, expected=BATCH_MAGIC_V2, found=h.magic
        )
    if status == BATCH_CRC:
        raise CorruptBatch(
            f"CRC {h.crc:#010x} of the batch at base offset {h.base_offset} does not fit its "
            f"{h.size} bytes", **where
        )
    raise CorruptBatch(
        f"base offset {h.base_offset}, record count {h.record_count}, last offset delta "
        f"{h.last_offset_delta} and size {h.size} of a batch contradict each other", **where,
    )


# --------------------------------------------------------------------- for Python

@cython.final
@cython.no_gc
@cython.freelist(64)
cdef class BatchInfo:
    """The header of one record batch; read-only. Made by `inspect` and `check_produced`."""

    def __init__(self):
        raise TypeError("BatchInfo comes from kcore.inspect()")

    @staticmethod
    cdef BatchInfo new(const BatchHeader* h):
        cdef BatchInfo info = BatchInfo.__new__(BatchInfo)
        info.h = h[0]
        return info

    @property
    def base_offset(self):
        return self.h.base_offset

    @property
    def last_offset(self):
        """Offset of the last record, base_offset + last_offset_delta."""
        return self.h.base_offset + self.h.last_offset_delta

    @property
    def batch_length(self):
        """Bytes after the length field, as the header counts them."""
        return self.h.batch_length

    @property
    def size(self):
        """Bytes of the whole batch."""
        return self.h.size

    @property
    def leader_epoch(self):
        return self.h.leader_epoch

    @property
    def magic(self):
        return self.h.magic

    @property
    def crc(self):
        return self.h.crc

    @property
    def attributes(self):
        return self.h.attributes

    @property
    def codec(self):
        """Name of the codec: none, gzip, snappy, lz4, zstd; "unknown-5" for ids Kafka has not."""
        cdef int codec_id = self.h.attributes & ATTR_CODEC_MASK
        return CODEC_NAMES[codec_id] if codec_id < CODEC_COUNT else f"unknown-{codec_id}"

    @property
    def codec_id(self):
        return self.h.attributes & ATTR_CODEC_MASK

    @property
    def is_transactional(self):
        return (self.h.attributes & ATTR_TRANSACTIONAL) != 0

    @property
    def is_control(self):
        return (self.h.attributes & ATTR_CONTROL) != 0

    @property
    def is_append_time(self):
        return (self.h.attributes & ATTR_APPEND_TIME) != 0

    @property
    def has_delete_horizon(self):
        """Whether base_timestamp is the time at which tombstones and markers may go."""
        return (self.h.attributes & ATTR_DELETE_HORIZON) != 0

    @property
    def last_offset_delta(self):
        return self.h.last_offset_delta

    @property
    def base_timestamp(self):
        return self.h.base_timestamp

    @property
    def max_timestamp(self):
        return self.h.max_timestamp

    @property
    def producer_id(self):
        return self.h.producer_id

    @property
    def producer_epoch(self):
        return self.h.producer_epoch

    @property
    def base_sequence(self):
        return self.h.base_sequence

    @property
    def last_sequence(self):
        """Sequence of the last record (wraps from 2^31 - 1 to 0); -1 without one."""
        if self.h.base_sequence < 0:
            return -1
        return (<int64_t>self.h.base_sequence + self.h.last_offset_delta) & INT32_MAX

    @property
    def record_count(self):
        return self.h.record_count

    def __repr__(self):
        return (
            f"BatchInfo(base_offset={self.h.base_offset}, record_count={self.h.record_count}, "
            f"size={self.h.size}, codec={self.codec!r}, attributes={self.h.attributes:#06x}, "
            f"producer_id={self.h.producer_id})"
        )


def inspect(data, *, Py_ssize_t pos=0, bint check_crc=True):
    """The header of the batch that starts at `pos` of `data` (more may follow it).

    With `check_crc` the CRC and the relations between the counts are checked too; without it only
    length and magic. Raises CorruptBatch.
    """
    cdef Py_buffer view
    cdef BatchHeader h
    cdef BatchStatus status
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        if pos < 0 or pos > view.len:
            raise ValueError(f"pos {pos} is outside the {view.len} bytes of data")
        if check_crc:
            status = batch_check(<const uint8_t*>view.buf + pos, view.len - pos, &h)
        else:
            status = batch_peek(<const uint8_t*>view.buf + pos, view.len - pos, &h)
        raise_batch_status(status, &h, None, pos)
        return BatchInfo.new(&h)
    finally:
        PyBuffer_Release(&view)


# --------------------------------------------------------------------- private

cdef inline void _load_header(const uint8_t* p, BatchHeader* h) noexcept nogil:
    h.base_offset = load_i64(p + BATCH_BASE_OFFSET_AT)
    h.batch_length = load_i32(p + BATCH_LENGTH_AT)
    h.size = <int64_t>h.batch_length + BATCH_OVERHEAD_BYTES
    h.leader_epoch = load_i32(p + BATCH_LEADER_EPOCH_AT)
    h.magic = <int8_t>p[BATCH_MAGIC_AT]
    h.crc = load_u32(p + BATCH_CRC_AT)
    h.attributes = load_i16(p + BATCH_ATTRIBUTES_AT)
    h.last_offset_delta = load_i32(p + BATCH_LAST_OFFSET_DELTA_AT)
    h.base_timestamp = load_i64(p + BATCH_BASE_TIMESTAMP_AT)
    h.max_timestamp = load_i64(p + BATCH_MAX_TIMESTAMP_AT)
    h.producer_id = load_i64(p + BATCH_PRODUCER_ID_AT)
    h.producer_epoch = load_i16(p + BATCH_PRODUCER_EPOCH_AT)
    h.base_sequence = load_i32(p + BATCH_BASE_SEQUENCE_AT)
    h.record_count = load_i32(p + BATCH_RECORD_COUNT_AT)
