"""Wire types of Kafka's protocol, bounded: the error they raise and the parts not worth inlining.

Every length and count is compared with the bytes that remain before anything is allocated for it,
so the memory that a message can take is a small multiple of the bytes that were really received.
"""

from cpython.buffer cimport Py_buffer, PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy

from kcore._native.endian cimport load_i16, load_i32

cdef extern from "Python.h":
    object PyUnicode_DecodeUTF8(const char* data, Py_ssize_t size, const char* errors)
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL
    long long PyLong_AsLongLongAndOverflow(object value, int* overflow) except? -1


class WireError(ValueError):
    """Bytes from a peer are not the message they claim to be.

    `field` is "Struct.field", `pos` the byte position in the frame (-1: unknown), `expected` and
    `found` what the check compared.
    """

    def __init__(self, field, pos, expected, found):
        self.field = field
        self.pos = pos
        self.expected = expected
        self.found = found
        super().__init__(f"{field} at byte {pos}: expected {expected}, found {found}")


cdef int raise_wire(const Reader* r, object field, object expected, object found) except -1:
    raise WireError(field, r.p - r.base, expected, found)


cdef int raise_short(const Reader* r, Py_ssize_t size, object field) except -1:
    raise WireError(field, r.p - r.base, f"{size} more bytes", f"{r.end - r.p}")


cdef int raise_range(object field, object value, object expected) except -1:
    raise ValueError(f"{field}: expected {expected}, got {value!r}")


cdef int open_reader(Reader* r, const Py_buffer* view, Py_ssize_t pos) except -1:
    """Reads from byte `pos` to the end; positions in errors count from the start of the buffer."""
    if pos < 0 or pos > view.len:
        raise WireError("frame", pos, f"a position in 0..{view.len}", pos)
    r.base = <const unsigned char*> view.buf
    r.p = r.base + pos
    r.end = r.base + view.len
    r.elements_left = ELEMENTS_MAX
    return 0


cdef int64_t read_uvarint_slow(Reader* r, object field) except -1:
    """At most five bytes and 32 bits: no length in the protocol needs more."""
    cdef uint64_t value = 0
    cdef int shift = 0
    cdef unsigned char byte
    cdef const unsigned char* p = r.p
    while True:
        if p >= r.end:
            raise_short(r, p - r.p + 1, field)
        byte = p[0]
        p += 1
        value |= <uint64_t> (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift >= 7 * UVARINT_BYTES_MAX:
            raise_wire(r, field, "a varint of at most 5 bytes", "a longer one")
    if value > 0xFFFFFFFFU:
        raise_wire(r, field, "a varint of at most 32 bits", value)
    r.p = p
    return <int64_t> value


cdef Py_ssize_t read_length(Reader* r, bint compact, Py_ssize_t wide, bint nullable,
                            Py_ssize_t limit, object field) except -2:
    """Size of a string or blob in bytes, -1 for null; `wide` bytes of length when not compact."""
    cdef Reader at = r[0]
    cdef int64_t size
    if compact:
        size = read_uvarint(r, field) - 1
    elif wide == 2:
        size = load_i16(take(r, 2, field))
    else:
        size = load_i32(take(r, 4, field))
    if size < 0:
        if size == -1 and nullable:
            return -1
        raise_wire(&at, field, "a size, not null" if size == -1 else "a size of 0 or more", size)
    if size > limit:
        raise_wire(&at, field, f"at most {limit} bytes", size)
    if size > r.end - r.p:
        raise_wire(&at, field, f"at most the {r.end - r.p} bytes that remain", size)
    return size


cdef Py_ssize_t read_count(Reader* r, bint compact, Py_ssize_t element_bytes, bint nullable,
                           object field) except -2:
    """Element count of an array, -1 for null. Each element takes `element_bytes` or more."""
    cdef Reader at = r[0]
    cdef int64_t count
    if compact:
        count = read_uvarint(r, field) - 1
    else:
        count = load_i32(take(r, 4, field))
    if count < 0:
        if count == -1 and nullable:
            return -1
        raise_wire(&at, field, "a count, not null" if count == -1 else "a count of 0 or more", count)
    if count > (r.end - r.p) // element_bytes:
        raise_wire(&at, field,
                   f"at most {(r.end - r.p) // element_bytes} elements in the bytes that remain", count)
    if count > r.elements_left:
        raise_wire(&at, field, f"at most {ELEMENTS_MAX} elements in one message", count)
    r.elements_left -= count
    return count


cdef object read_string(Reader* r, bint compact, bint nullable, object field):
    cdef Py_ssize_t size = read_length(r, compact, 2, nullable, STRING_BYTES_MAX, field)
    if size < 0:
        return None
    try:
        text = PyUnicode_DecodeUTF8(<const char*> r.p, size, NULL)
    except UnicodeDecodeError as error:
        raise WireError(field, r.p - r.base + error.start, "UTF-8", f"byte {r.p[error.start]:#04x}") from None
    r.p += size
    return text


cdef object read_bytes(Reader* r, bint compact, bint nullable, object field):
    cdef Py_ssize_t size = read_length(r, compact, 4, nullable, 0x7FFFFFFF, field)
    if size < 0:
        return None
    r.p += size
    return PyBytes_FromStringAndSize(<const char*> r.p - size, size)


cdef Py_ssize_t read_tag_count(Reader* r, object field) except -1:
    cdef Reader at = r[0]
    cdef int64_t count = read_uvarint(r, field)
    if count > TAGS_MAX:
        raise_wire(&at, field, f"at most {TAGS_MAX} tagged fields", count)
    if 2 * count > r.end - r.p:  # a tag and a size, one byte each at least
        raise_wire(&at, field,
                   f"at most {(r.end - r.p) // 2} tagged fields in the bytes that remain", count)
    return count


cdef int64_t read_tag(Reader* r, int64_t previous, Py_ssize_t* size, object field) except -1:
    """Next tag, which must be above `previous`; leaves the reader at its `size` bytes."""
    cdef Reader at = r[0]
    cdef int64_t tag = read_uvarint(r, field)
    cdef int64_t length
    if tag <= previous:
        raise_wire(&at, field, f"a tag above {previous}", tag)
    at = r[0]
    length = read_uvarint(r, field)
    if length > r.end - r.p:
        raise_wire(&at, field, f"a tag of at most the {r.end - r.p} bytes that remain", length)
    size[0] = length
    return tag


cdef int skip_tags(Reader* r, object field) except -1:
    cdef Py_ssize_t count = read_tag_count(r, field)
    cdef Py_ssize_t size
    cdef int64_t tag = -1
    while count > 0:
        tag = read_tag(r, tag, &size, field)
        r.p += size
        count -= 1
    return 0


cdef int open_writer(Writer* w, Py_ssize_t size) except -1:
    w.base = <unsigned char*> malloc(size)
    if w.base == NULL:
        raise MemoryError()
    w.p = w.base
    w.end = w.base + size
    return 0


cdef void close_writer(Writer* w) noexcept:
    free(w.base)
    w.base = w.p = w.end = NULL


cdef int grow(Writer* w, Py_ssize_t size) except -1:
    cdef Py_ssize_t used = w.p - w.base
    cdef Py_ssize_t room = 2 * (w.end - w.base)
    cdef unsigned char* moved
    if room < used + size:
        room = used + size
    moved = <unsigned char*> realloc(w.base, room)
    if moved == NULL:
        raise MemoryError()
    w.base = moved
    w.p = moved + used
    w.end = moved + room
    return 0


cdef int put_count(Writer* w, bint compact, Py_ssize_t count) except -1:
    """`count` -1 is null."""
    if compact:
        return put_uvarint(w, <uint64_t> (count + 1))
    return put_i32(w, <int32_t> count)


cdef int put_string(Writer* w, bint compact, bint nullable, object value, object field) except -1:
    cdef const char* data
    cdef Py_ssize_t size
    if value is None:
        if not nullable:
            raise_range(field, value, "a str, not null")
        return put_uvarint(w, 0) if compact else put_i16(w, -1)
    if not isinstance(value, str):
        raise_range(field, value, "a str")
    data = PyUnicode_AsUTF8AndSize(value, &size)
    if size > STRING_BYTES_MAX:
        raise_range(field, f"{size} bytes", f"a str of at most {STRING_BYTES_MAX} bytes")
    if compact:
        put_uvarint(w, <uint64_t> (size + 1))
    else:
        put_i16(w, <int16_t> size)
    return put_raw(w, data, size)


cdef int put_bytes(Writer* w, bint compact, bint nullable, object value, object field) except -1:
    cdef Py_buffer view
    if value is None:
        if not nullable:
            raise_range(field, value, "bytes, not null")
        return put_count(w, compact, -1)
    PyObject_GetBuffer(value, &view, PyBUF_SIMPLE)
    try:
        if view.len > 0x7FFFFFFF:
            raise_range(field, f"{view.len} bytes", "less than 2 GiB")
        put_count(w, compact, view.len)
        return put_raw(w, view.buf, view.len)
    finally:
        PyBuffer_Release(&view)


cdef int put_uuid(Writer* w, object value, object field) except -1:
    if not isinstance(value, bytes) or PyBytes_GET_SIZE(value) != 16:
        raise_range(field, value, "16 bytes")
    return put_raw(w, PyBytes_AS_STRING(value), 16)


cdef int64_t as_int(object value, int64_t low, int64_t high, object field) except? -1:
    cdef int overflow = 0
    cdef long long number
    if not isinstance(value, int):
        raise_range(field, value, "an int")
    number = PyLong_AsLongLongAndOverflow(value, &overflow)
    if overflow or number < low or number > high:
        raise_range(field, value, f"{low}..{high}")
    return number


cdef object read_topic(Reader* r, bint compact, bint by_id, object field):
    """A topic's name, or its id of 16 bytes."""
    if by_id:
        return PyBytes_FromStringAndSize(<const char*> take(r, 16, field), 16)
    return read_string(r, compact, False, field)


cdef int put_topic(Writer* w, bint compact, bint by_id, object topic, object field) except -1:
    if by_id:
        return put_uuid(w, topic, field)
    return put_string(w, compact, False, topic, field)


cdef int put_endpoints(Writer* w, object endpoints) except -1:
    """Tag 0 of the response: where the leaders that it names can be reached (KIP-951)."""
    cdef Writer body
    open_writer(&body, 256)
    try:
        put_uvarint(&body, len(endpoints) + 1)
        for node_id, host, port, rack in endpoints:
            put_i32(&body, <int32_t> as_int(node_id, -0x80000000LL, 0x7FFFFFFF, "NodeEndpoint.node_id"))
            put_string(&body, True, False, host, "NodeEndpoint.host")
            put_i32(&body, <int32_t> as_int(port, -0x80000000LL, 0x7FFFFFFF, "NodeEndpoint.port"))
            put_string(&body, True, True, rack, "NodeEndpoint.rack")
            put_i8(&body, 0)
        put_uvarint(w, 0)  # tag
        put_uvarint(w, body.p - body.base)
        return put_raw(w, body.base, body.p - body.base)
    finally:
        close_writer(&body)
