"""Produce, versions 3 to 13: request into spans of the frame, results into one response frame.

The records of a partition are never copied: a span is a memoryview slice of the frame, writable
when the frame is, because the log stamps offsets into it in place.
"""

cimport cython
from cpython.buffer cimport Py_buffer, PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int16_t, int32_t, int64_t, uint32_t

from kcore._native.endian cimport load_i16, load_i32, store_i32
from kcore._native.wirebuf cimport (
    Reader, Writer, close_writer, open_reader, open_writer, put_count,
    put_endpoints, put_i8, put_i16, put_i32, put_i64, put_string, put_topic, put_uvarint,
    raise_range, read_count, read_length, read_string, read_topic, skip_tags,
    take,
)


cdef enum:
    VERSION_MIN = 3
    VERSION_MAX = 13
    FLEXIBLE_FROM = 9
    TOPIC_ID_FROM = 13


@cython.final
@cython.no_gc
@cython.freelist(64)
cdef class ProduceRequest:
    """`partitions` is [(topic, index, span)]: topic a str, or 16 bytes from version 13; span a
    memoryview slice of the frame, or None where the client sent null."""

    cdef readonly object transactional_id
    cdef readonly int16_t acks
    cdef readonly int32_t timeout_ms
    cdef readonly list partitions

    def __repr__(self):
        return (f"ProduceRequest(transactional_id={self.transactional_id!r}, acks={self.acks},"
                f" timeout_ms={self.timeout_ms}, partitions={self.partitions!r})")


@cython.final
@cython.no_gc
@cython.freelist(256)
cdef class ProduceResult:
    """`record_errors` is [(batch_index, message or None)], `current_leader` (id, epoch) or None."""

    cdef public int32_t index
    cdef public int16_t error_code
    cdef public int64_t base_offset
    cdef public int64_t append_time_ms
    cdef public int64_t log_start_offset
    cdef public object record_errors
    cdef public object error_message
    cdef public object current_leader

    def __init__(self, int32_t index, int16_t error_code=0, int64_t base_offset=-1,
                 int64_t append_time_ms=-1, int64_t log_start_offset=-1, record_errors=(),
                 error_message=None, current_leader=None):
        self.index = index
        self.error_code = error_code
        self.base_offset = base_offset
        self.append_time_ms = append_time_ms
        self.log_start_offset = log_start_offset
        self.record_errors = record_errors
        self.error_message = error_message
        self.current_leader = current_leader

    def __repr__(self):
        return (f"ProduceResult(index={self.index}, error_code={self.error_code},"
                f" base_offset={self.base_offset}, append_time_ms={self.append_time_ms},"
                f" log_start_offset={self.log_start_offset}, record_errors={self.record_errors!r},"
                f" error_message={self.error_message!r}, current_leader={self.current_leader!r})")


cdef int _check_version(int version) except -1:
    if not VERSION_MIN <= version <= VERSION_MAX:
        raise_range("Produce version", version, f"{VERSION_MIN}..{VERSION_MAX}")
    return 0


def parse_produce(object frame, Py_ssize_t pos, int version):
    """The request body at byte `pos` of `frame`. Bytes after it are ignored, as Kafka does: there
    are clients that leave some (see messages.decode_request)."""
    cdef Py_buffer view
    cdef Reader r
    _check_version(version)
    if not isinstance(frame, memoryview):
        frame = memoryview(frame)
    PyObject_GetBuffer(frame, &view, PyBUF_SIMPLE)
    try:
        open_reader(&r, &view, pos)
        return _parse(&r, version, frame)
    finally:
        PyBuffer_Release(&view)


cdef ProduceRequest _parse(Reader* r, int version, object frame):
    cdef bint flexible = version >= FLEXIBLE_FROM
    cdef ProduceRequest request = ProduceRequest.__new__(ProduceRequest)
    cdef Py_ssize_t topics
    cdef const unsigned char* p
    request.transactional_id = read_string(r, flexible, True, "ProduceRequest.transactional_id")
    p = take(r, 6, "ProduceRequest.acks")
    request.acks = load_i16(p)
    request.timeout_ms = load_i32(p + 2)
    request.partitions = []
    # A topic is at least its name or id, an empty array and, if flexible, an empty tag section.
    topics = read_count(r, flexible, 18 if version >= TOPIC_ID_FROM else 3 if flexible else 6,
                        False, "ProduceRequest.topic_data")
    while topics > 0:
        topics -= 1
        _parse_topic(r, version, flexible, frame, request.partitions)
    if flexible:
        skip_tags(r, "ProduceRequest.tags")
    return request


cdef int _parse_topic(Reader* r, int version, bint flexible, object frame, list partitions) except -1:
    cdef object topic = read_topic(r, flexible, version >= TOPIC_ID_FROM, "TopicProduceData.name")
    cdef Py_ssize_t count = read_count(r, flexible, 6 if flexible else 8, False,
                                       "TopicProduceData.partition_data")
    cdef Py_ssize_t size, start
    cdef int32_t index
    while count > 0:
        count -= 1
        index = load_i32(take(r, 4, "PartitionProduceData.index"))
        size = read_length(r, flexible, 4, True, 0x7FFFFFFF, "PartitionProduceData.records")
        if size < 0:
            partitions.append((topic, index, None))
        else:
            start = r.p - r.base
            partitions.append((topic, index, frame[start:start + size]))
            r.p += size
        if flexible:
            skip_tags(r, "PartitionProduceData.tags")
    if flexible:
        skip_tags(r, "TopicProduceData.tags")
    return 0


def build_produce(int version, int32_t correlation_id, int32_t throttle_ms, list results not None,
                  object node_endpoints=None):
    """The whole response frame. `results` is [(topic, [ProduceResult])], `node_endpoints`
    [(node_id, host, port, rack)] of the leaders named in `current_leader` (version 10 on)."""
    cdef Writer w
    cdef bint flexible = version >= FLEXIBLE_FROM
    cdef object topic
    cdef list partitions
    cdef ProduceResult result
    _check_version(version)
    open_writer(&w, 256)
    try:
        put_i32(&w, 0)
        put_i32(&w, correlation_id)
        if flexible:
            put_i8(&w, 0)
        put_count(&w, flexible, len(results))
        for topic, partitions in results:
            put_topic(&w, flexible, version >= TOPIC_ID_FROM, topic, "TopicProduceResponse.name")
            put_count(&w, flexible, len(partitions))
            for result in partitions:
                _put_result(
                    &w, version, result.index, result.error_code, result.base_offset,
                    result.append_time_ms, result.log_start_offset, result.record_errors,
                    result.error_message, result.current_leader)
            if flexible:
                put_i8(&w, 0)
        put_i32(&w, throttle_ms)
        if flexible:
            if version >= 10 and node_endpoints:
                put_i8(&w, 1)
                put_endpoints(&w, node_endpoints)
            else:
                put_i8(&w, 0)
        if w.p - w.base - 4 > 0x7FFFFFFF:
            raise_range("ProduceResponse", w.p - w.base, "a frame below 2 GiB")
        store_i32(w.base, <int32_t> (w.p - w.base - 4))
        return PyBytes_FromStringAndSize(<const char*> w.base, w.p - w.base)
    finally:
        close_writer(&w)


cdef int put_appended(
    Writer* w, int version, int32_t correlation_id, object topic, int32_t index,
    int64_t base_offset, int64_t log_start_offset
) except -1:
    cdef bint flexible = version >= FLEXIBLE_FROM
    cdef Py_ssize_t start = w.p - w.base
    put_i32(w, 0)
    put_i32(w, correlation_id)
    if flexible:
        put_i8(w, 0)
    put_count(w, flexible, 1)
    put_topic(w, flexible, version >= TOPIC_ID_FROM, topic, "TopicProduceResponse.name")
    put_count(w, flexible, 1)
    _put_result(w, version, index, 0, base_offset, -1, log_start_offset, (), None, None)
    if flexible:
        put_i8(w, 0)
    put_i32(w, 0)
    if flexible:
        put_i8(w, 0)
    store_i32(w.base + start, <int32_t> (w.p - w.base - start - 4))
    return 0


cdef int _put_result(
    Writer* w, int version, int32_t index, int16_t error_code, int64_t base_offset,
    int64_t append_time_ms, int64_t log_start_offset, object record_errors, object error_message,
    object current_leader
) except -1:
    cdef bint flexible = version >= FLEXIBLE_FROM
    cdef int32_t batch_index, leader_id, leader_epoch
    put_i32(w, index)
    put_i16(w, error_code)
    put_i64(w, base_offset)
    put_i64(w, append_time_ms)
    if version >= 5:
        put_i64(w, log_start_offset)
    if version >= 8:
        put_count(w, flexible, len(record_errors))
        for batch_index, message in record_errors:
            put_i32(w, batch_index)
            put_string(w, flexible, True, message, "BatchIndexAndErrorMessage.batch_index_error_message")
            if flexible:
                put_i8(w, 0)
        put_string(w, flexible, True, error_message, "PartitionProduceResponse.error_message")
    if not flexible:
        return 0
    if version < 10 or current_leader is None:
        return put_i8(w, 0)
    leader_id, leader_epoch = current_leader
    put_i8(w, 1)
    put_uvarint(w, 0)  # tag
    put_uvarint(w, 9)  # size
    put_i32(w, leader_id)
    put_i32(w, leader_epoch)
    return put_i8(w, 0)
