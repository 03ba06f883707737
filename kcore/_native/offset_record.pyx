"""Records of committed offsets in `__consumer_offsets`: the key (type 1) and its value.

A coordinator loads and keeps them by the million, so they have classes of their own instead of the
interpreted schema: made straight from the bytes, without a number object for each field, and
nothing that the garbage collector has to walk. They look like the other structs of group records
(`FIELDS`, keyword constructor, equality over the fields), but do not change once they are made.

`encode` and `decode_*` include the two bytes in front: the type of a key, the version of a value.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int16_t, int32_t, int64_t
from libc.string cimport memcpy

from kcore._native.endian cimport load_i16, load_i32, load_i64, store_i16, store_i32, store_i64
from kcore._native.wirebuf cimport (
    Reader, raise_range, raise_wire, read_string, read_tag, read_tag_count, take, STRING_BYTES_MAX,
)

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL

cdef enum:
    KEY_TYPE = 1
    VERSION_EXPIRING = 1
    VERSION_PLAIN = 3
    VERSION_FLEXIBLE = 4
    TOPIC_ID_TAG = 0
    ID_BYTES = 16

cdef bytes ZERO_ID = bytes(ID_BYTES)


@cython.final
@cython.freelist(64)
cdef class OffsetCommitKey:
    TYPE = KEY_TYPE
    VERSIONS = (0, 0)
    FLEXIBLE_FROM = -1
    FIELDS = (
        ("group", "string", (0, 0), None, None, ""),
        ("topic", "string", (0, 0), None, None, ""),
        ("partition", "int32", (0, 0), None, None, 0),
    )

    cdef readonly str group
    cdef readonly str topic
    cdef readonly int32_t partition

    def __init__(self, *, str group not None="", str topic not None="", int32_t partition=0):
        self.group = group
        self.topic = topic
        self.partition = partition

    def __eq__(self, other):
        if not isinstance(other, OffsetCommitKey):
            return NotImplemented
        cdef OffsetCommitKey key = other
        return (
            self.group == key.group and self.topic == key.topic
            and self.partition == key.partition
        )

    def __repr__(self):
        return (
            f"OffsetCommitKey(group={self.group!r}, topic={self.topic!r}, "
            f"partition={self.partition})"
        )

    def encode(self):
        cdef Py_ssize_t group_bytes, topic_bytes
        cdef const char* group = _text(self.group, &group_bytes, "OffsetCommitKey.group")
        cdef const char* topic = _text(self.topic, &topic_bytes, "OffsetCommitKey.topic")
        cdef bytes data = PyBytes_FromStringAndSize(NULL, 10 + group_bytes + topic_bytes)
        cdef char* p = PyBytes_AS_STRING(data)
        store_i16(p, KEY_TYPE)
        p = _put_text(p + 2, group, group_bytes)
        p = _put_text(p, topic, topic_bytes)
        store_i32(p, self.partition)
        return data


@cython.final
@cython.freelist(64)
cdef class OffsetCommitValue:
    """Written as version 3, or as 1 when the commit has an expiry of its own, as Kafka does."""

    VERSIONS = (0, VERSION_FLEXIBLE)
    FLEXIBLE_FROM = VERSION_FLEXIBLE
    FIELDS = (
        ("offset", "int64", (0, 4), None, None, 0),
        ("leader_epoch", "int32", (3, 4), None, None, -1),
        ("metadata", "string", (0, 4), None, None, ""),
        ("commit_timestamp", "int64", (0, 4), None, None, 0),
        ("expire_timestamp", "int64", (1, 1), None, None, -1),
        ("topic_id", "uuid", (4, 4), None, (0, 4), ZERO_ID),
    )

    def __init__(
        self, *, int64_t offset=0, int32_t leader_epoch=-1, str metadata not None="",
        int64_t commit_timestamp=0, int64_t expire_timestamp=-1, bytes topic_id not None=ZERO_ID,
    ):
        self.offset = offset
        self.leader_epoch = leader_epoch
        self.metadata = metadata
        self.commit_timestamp = commit_timestamp
        self.expire_timestamp = expire_timestamp
        self.topic_id = topic_id

    def version(self):
        return VERSION_PLAIN if self.expire_timestamp == -1 else VERSION_EXPIRING

    def __eq__(self, other):
        if not isinstance(other, OffsetCommitValue):
            return NotImplemented
        cdef OffsetCommitValue value = other
        return (
            self.offset == value.offset and self.leader_epoch == value.leader_epoch
            and self.metadata == value.metadata
            and self.commit_timestamp == value.commit_timestamp
            and self.expire_timestamp == value.expire_timestamp
            and self.topic_id == value.topic_id
        )

    def __repr__(self):
        return (
            f"OffsetCommitValue(offset={self.offset}, leader_epoch={self.leader_epoch}, "
            f"metadata={self.metadata!r}, commit_timestamp={self.commit_timestamp}, "
            f"expire_timestamp={self.expire_timestamp}, topic_id={self.topic_id!r})"
        )

    def encode(self):
        cdef Py_ssize_t size
        cdef const char* text = _text(self.metadata, &size, "OffsetCommitValue.metadata")
        cdef bint expires = self.expire_timestamp != -1
        cdef bytes data = PyBytes_FromStringAndSize(NULL, (28 if expires else 24) + size)
        cdef char* p = PyBytes_AS_STRING(data)
        store_i16(p, VERSION_EXPIRING if expires else VERSION_PLAIN)
        store_i64(p + 2, self.offset)
        p += 10
        if not expires:
            store_i32(p, self.leader_epoch)
            p += 4
        p = _put_text(p, text, size)
        store_i64(p, self.commit_timestamp)
        if expires:
            store_i64(p + 8, self.expire_timestamp)
        return data


cdef OffsetCommitValue new_value(
    int64_t offset, int32_t leader_epoch, str metadata, int64_t commit_timestamp,
    int64_t expire_timestamp,
):
    """One of ours, which has no topic id."""
    cdef OffsetCommitValue value = OffsetCommitValue.__new__(OffsetCommitValue)
    value.offset = offset
    value.leader_epoch = leader_epoch
    value.metadata = metadata
    value.commit_timestamp = commit_timestamp
    value.expire_timestamp = expire_timestamp
    value.topic_id = ZERO_ID
    return value


cdef const char* _text(str text, Py_ssize_t* size, object field) except NULL:
    cdef const char* p = PyUnicode_AsUTF8AndSize(text, size)
    if size[0] > STRING_BYTES_MAX:
        raise_range(field, f"{size[0]} bytes", f"at most {STRING_BYTES_MAX} bytes")
    return p


cdef inline char* _put_text(char* p, const char* text, Py_ssize_t size) noexcept:
    store_i16(p, <int16_t> size)
    memcpy(p + 2, text, size)
    return p + 2 + size


cdef inline void _open(Reader* r, bytes data) noexcept:
    r.base = r.p = <const unsigned char*> PyBytes_AS_STRING(data)
    r.end = r.p + PyBytes_GET_SIZE(data)
    r.elements_left = 0


cdef inline int _check_end(const Reader* r, object field) except -1:
    if r.p != r.end:
        raise_wire(r, field, "the end", f"{r.end - r.p} more bytes")
    return 0


def decode_key(bytes data not None):
    """WireError unless `data` is a key of type 1, or 0 as Kafka before 0.9 wrote it."""
    cdef Reader r
    _open(&r, data)
    cdef int16_t kind = load_i16(take(&r, 2, "OffsetCommitKey.type"))
    if not 0 <= kind <= KEY_TYPE:
        raise_wire(&r, "OffsetCommitKey.type", f"0 or {KEY_TYPE}", kind)
    cdef OffsetCommitKey key = OffsetCommitKey.__new__(OffsetCommitKey)
    key.group = read_string(&r, False, False, "OffsetCommitKey.group")
    key.topic = read_string(&r, False, False, "OffsetCommitKey.topic")
    key.partition = load_i32(take(&r, 4, "OffsetCommitKey.partition"))
    _check_end(&r, "OffsetCommitKey")
    return key


def decode_value(bytes data not None):
    """WireError unless `data` is a value of version 0 to 4."""
    cdef Reader r
    _open(&r, data)
    cdef int16_t version = load_i16(take(&r, 2, "OffsetCommitValue.version"))
    if not 0 <= version <= VERSION_FLEXIBLE:
        raise_wire(&r, "OffsetCommitValue.version", f"0 to {VERSION_FLEXIBLE}", version)
    cdef bint flexible = version >= VERSION_FLEXIBLE
    cdef OffsetCommitValue value = OffsetCommitValue.__new__(OffsetCommitValue)
    value.offset = load_i64(take(&r, 8, "OffsetCommitValue.offset"))
    value.leader_epoch = -1
    if version >= VERSION_PLAIN:
        value.leader_epoch = load_i32(take(&r, 4, "OffsetCommitValue.leader_epoch"))
    value.metadata = read_string(&r, flexible, False, "OffsetCommitValue.metadata")
    value.commit_timestamp = load_i64(take(&r, 8, "OffsetCommitValue.commit_timestamp"))
    value.expire_timestamp = -1
    if version == VERSION_EXPIRING:
        value.expire_timestamp = load_i64(take(&r, 8, "OffsetCommitValue.expire_timestamp"))
    value.topic_id = ZERO_ID
    if flexible:
        _read_tags(&r, value)
    _check_end(&r, "OffsetCommitValue")
    return value


cdef int _read_tags(Reader* r, OffsetCommitValue value) except -1:
    cdef Py_ssize_t size
    cdef int64_t tag = -1
    cdef const unsigned char* p
    for _ in range(read_tag_count(r, "OffsetCommitValue.tags")):
        tag = read_tag(r, tag, &size, "OffsetCommitValue.tags")
        p = take(r, size, "OffsetCommitValue.tags")
        if tag != TOPIC_ID_TAG:
            continue
        if size != ID_BYTES:
            raise_wire(r, "OffsetCommitValue.topic_id", f"{ID_BYTES} bytes", size)
        value.topic_id = PyBytes_FromStringAndSize(<const char*> p, ID_BYTES)
    return 0
