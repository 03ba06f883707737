"""Interpreter of schema programs: decodes and encodes every message that has no codec of its own.

A generated struct class carries `FIELDS` (see kbroker.wire.struct). `Codec(cls, version)` turns
that into a Plan once: the fields this version has, in wire order, with the position of each slot
inside the object. Decoding then allocates the object and fills its slots directly; no constructor
and no attribute lookup runs. Encoding reads the slots the same way.

Malformed bytes raise WireError and a value that does not fit its field raises ValueError; either
leaves nothing behind.
"""

cimport cython
from cpython.buffer cimport Py_buffer, PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.float cimport PyFloat_AsDouble
from cpython.list cimport PyList_Append, PyList_GET_ITEM, PyList_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdint cimport (
    INT64_MAX, INT64_MIN, int8_t, int16_t, int32_t, int64_t, uint16_t, uint32_t, uint64_t,
)
from libc.string cimport memcpy, memmove

from kcore._native.endian cimport load_i16, load_i32, load_i64, load_u16, load_u32, load_u64, store_i32
from kcore._native.wirebuf cimport (
    Reader, Writer, as_int, close_writer, open_reader, open_writer,
    put_bytes, put_count, put_i8, put_i16, put_i32, put_i64, put_string, put_uuid,
    put_uvarint, raise_range, raise_wire, read_bytes, read_count, read_string, read_tag,
    read_tag_count, reserve, skip_tags, take,
)

cdef extern from *:
    """
    #include <Python.h>
    #if PY_VERSION_HEX < 0x030C0000
    #include <structmember.h>
    #define KCORE_OBJECT_SLOT T_OBJECT_EX
    #else
    #define KCORE_OBJECT_SLOT Py_T_OBJECT_EX
    #endif

    /* Position of a __slots__ member inside its object, or -1 when it is not one. */
    static Py_ssize_t kcore_slot_position(PyObject *descr) {
        PyMemberDef *member;
        if (!Py_IS_TYPE(descr, &PyMemberDescr_Type)) return -1;
        member = ((PyMemberDescrObject *)descr)->d_member;
        return member->type == KCORE_OBJECT_SLOT ? member->offset : -1;
    }
    static inline PyObject *kcore_new(PyObject *type) {
        return ((PyTypeObject *)type)->tp_alloc((PyTypeObject *)type, 0);
    }
    """
    Py_ssize_t slot_position "kcore_slot_position" (object descr)
    object new_object "kcore_new" (object cls)


cdef enum Kind:
    BOOL, INT8, INT16, UINT16, INT32, UINT32, INT64, FLOAT64, UUID, STRING, BYTES, STRUCT

cdef enum Fresh:
    FRESH_NONE, FRESH_LIST, FRESH_STRUCT

cdef dict KINDS = {
    "bool": BOOL, "int8": INT8, "int16": INT16, "uint16": UINT16, "int32": INT32,
    "uint32": UINT32, "int64": INT64, "float64": FLOAT64, "uuid": UUID, "string": STRING,
    "bytes": BYTES, "records": BYTES,
}
cdef dict FIXED_BYTES = {
    BOOL: 1, INT8: 1, INT16: 2, UINT16: 2, INT32: 4, UINT32: 4, INT64: 8, FLOAT64: 8, UUID: 16,
}

cdef dict _plans = {}  # (class, version) -> Plan; as many entries as the schemas have versions


@cython.final
@cython.no_gc
cdef class Field:
    cdef Kind kind
    cdef Fresh fresh
    cdef bint is_array
    cdef bint nullable
    cdef bint flexible
    cdef int tag  # -1: not tagged
    cdef Py_ssize_t slot  # byte position in the object
    cdef Py_ssize_t element_bytes  # the least that one value of `kind` takes
    cdef str label  # "Struct.field" for errors
    cdef object default
    cdef Plan plan  # of a struct


@cython.final
cdef class Plan:
    cdef object cls
    cdef str label
    cdef bint flexible
    cdef list present  # wire order
    cdef list tagged  # ascending tags
    cdef list absent  # not in this version: filled with defaults
    cdef Py_ssize_t least_bytes


cdef Plan _plan(object cls, int version, bint flexible):
    cdef Plan plan = _plans.get((cls, version))
    if plan is not None:
        return plan
    plan = Plan()
    plan.cls = cls
    plan.label = f"{cls.__name__}.tags"
    plan.flexible = flexible
    plan.present, plan.tagged, plan.absent = [], [], []
    plan.least_bytes = 1 if flexible else 0
    cdef Field field
    for name, kind, versions, nullable, tag, default in cls.FIELDS:
        field = _field(cls, name, kind, version, flexible, default)
        field.nullable = nullable is not None and nullable[0] <= version <= nullable[1]
        if not versions[0] <= version <= versions[1]:
            plan.absent.append(field)
        elif tag is not None and version >= tag[1]:
            field.tag = tag[0]
            plan.tagged.append(field)
        else:
            plan.present.append(field)
            plan.least_bytes += _least_bytes(field)
    plan.tagged.sort(key=_tag_of)
    _plans[cls, version] = plan
    return plan


def _tag_of(Field field):
    return field.tag


cdef Field _field(object cls, str name, object kind, int version, bint flexible, object default):
    field = Field()
    field.label = f"{cls.__name__}.{name}"
    field.tag = -1
    field.flexible = flexible
    field.slot = slot_position(cls.__dict__[name])
    if field.slot < 0:
        raise TypeError(f"{field.label} is not a slot")
    field.is_array = isinstance(kind, tuple)
    if field.is_array:
        kind = kind[0]
    field.default = default
    if isinstance(kind, str):
        field.kind = KINDS[kind]
        field.element_bytes = FIXED_BYTES.get(field.kind, 0) or (
            1 if flexible else 2 if field.kind == STRING else 4)
    else:
        field.kind = STRUCT
        field.plan = _plan(kind, version, flexible)
        field.element_bytes = max(1, field.plan.least_bytes)
    if isinstance(default, list):
        field.fresh = FRESH_LIST if field.is_array else FRESH_STRUCT
    else:
        field.fresh = FRESH_NONE
    return field


cdef Py_ssize_t _least_bytes(Field field):
    if field.is_array:
        return 1 if field.flexible else 4
    if field.kind == STRUCT and field.nullable:
        return 1
    return field.element_bytes


# Slots. A slot is NULL until it is set; the object is never visible to anyone before all are.

cdef inline void _set(object obj, Field field, object value):
    cdef PyObject** at = <PyObject**> (<char*> <PyObject*> obj + field.slot)
    cdef PyObject* old = at[0]
    Py_INCREF(value)
    at[0] = <PyObject*> value
    Py_XDECREF(old)


cdef inline bint _is_unset(object obj, Field field):
    return (<PyObject**> (<char*> <PyObject*> obj + field.slot))[0] == NULL


cdef inline object _get(object obj, Field field):
    cdef PyObject* value = (<PyObject**> (<char*> <PyObject*> obj + field.slot))[0]
    if value == NULL:
        raise_range(field.label, "a deleted attribute", "a value")
    return <object> value


cdef object _fresh_default(Field field):
    if field.fresh == FRESH_NONE:
        return field.default
    if field.fresh == FRESH_LIST:
        return []
    return field.plan.cls()


# Decoding.

cdef object _decode_struct(Plan plan, Reader* r):
    cdef object obj = new_object(plan.cls)
    cdef Field field
    cdef Py_ssize_t i
    for i in range(PyList_GET_SIZE(plan.present)):
        field = <Field> PyList_GET_ITEM(plan.present, i)
        _set(obj, field, _decode_array(field, r) if field.is_array else _decode_one(field, r, field.nullable))
    if plan.flexible:
        if r.p < r.end and r.p[0] == 0:
            r.p += 1
        elif PyList_GET_SIZE(plan.tagged) == 0:
            skip_tags(r, plan.label)
        else:
            _decode_tags(plan, r, obj)
        for i in range(PyList_GET_SIZE(plan.tagged)):
            field = <Field> PyList_GET_ITEM(plan.tagged, i)
            if _is_unset(obj, field):
                _set(obj, field, _fresh_default(field))
    for i in range(PyList_GET_SIZE(plan.absent)):
        field = <Field> PyList_GET_ITEM(plan.absent, i)
        _set(obj, field, _fresh_default(field))
    return obj


cdef int _decode_tags(Plan plan, Reader* r, object obj) except -1:
    cdef Py_ssize_t count = read_tag_count(r, plan.label)
    cdef Py_ssize_t size
    cdef int64_t tag = -1
    cdef Reader inner
    cdef Field field
    while count > 0:
        count -= 1
        tag = read_tag(r, tag, &size, plan.label)
        for field in plan.tagged:
            if field.tag == tag:
                inner = r[0]
                inner.end = r.p + size
                _set(obj, field, _decode_array(field, &inner) if field.is_array
                     else _decode_one(field, &inner, field.nullable))
                if inner.p != inner.end:
                    raise_wire(&inner, field.label, f"a tagged field of {inner.p - r.p} bytes", size)
                r.elements_left = inner.elements_left
                break
        r.p += size
    return 0


cdef list _decode_array(Field field, Reader* r):
    cdef Py_ssize_t count = read_count(r, field.flexible, field.element_bytes, field.nullable, field.label)
    cdef list values
    if count < 0:
        return None
    # Appended one by one: the list grows with the elements that really decode.
    values = []
    while count > 0:
        PyList_Append(values, _decode_one(field, r, False))
        count -= 1
    return values


cdef object _decode_one(Field field, Reader* r, bint nullable):
    cdef Kind kind = field.kind
    cdef uint64_t bits
    cdef double number
    if kind == INT32:
        return load_i32(take(r, 4, field.label))
    if kind == STRING:
        return read_string(r, field.flexible, nullable, field.label)
    if kind == STRUCT:
        if nullable and <int8_t> take(r, 1, field.label)[0] < 0:
            return None
        return _decode_struct(field.plan, r)
    if kind == INT16:
        return load_i16(take(r, 2, field.label))
    if kind == INT64:
        return load_i64(take(r, 8, field.label))
    if kind == BOOL:
        return take(r, 1, field.label)[0] != 0
    if kind == INT8:
        return <int8_t> take(r, 1, field.label)[0]
    if kind == UUID:
        return PyBytes_FromStringAndSize(<const char*> take(r, 16, field.label), 16)
    if kind == BYTES:
        return read_bytes(r, field.flexible, nullable, field.label)
    if kind == UINT16:
        return load_u16(take(r, 2, field.label))
    if kind == UINT32:
        return load_u32(take(r, 4, field.label))
    bits = load_u64(take(r, 8, field.label))
    memcpy(&number, &bits, 8)
    return number


# Encoding.

cdef int _encode_struct(Plan plan, Writer* w, object obj, str label) except -1:
    cdef Field field
    cdef Py_ssize_t i
    if type(obj) is not plan.cls:
        raise_range(label, obj, f"a {plan.cls.__name__}")
    for i in range(PyList_GET_SIZE(plan.present)):
        field = <Field> PyList_GET_ITEM(plan.present, i)
        _encode_field(field, w, _get(obj, field))
    if plan.flexible:
        if PyList_GET_SIZE(plan.tagged) == 0:
            put_i8(w, 0)
        else:
            _encode_tags(plan, w, obj)
    return 0


cdef int _encode_tags(Plan plan, Writer* w, object obj) except -1:
    """Only the fields that differ from their default, in ascending order of tag."""
    cdef Field field
    cdef Writer sized  # over `digits`, which never has to grow
    cdef unsigned char digits[16]
    cdef Py_ssize_t start, size
    cdef list fields = [f for f in plan.tagged if not _is_default(<Field> f, _get(obj, <Field> f))]
    put_uvarint(w, len(fields))
    for field in fields:
        put_uvarint(w, field.tag)
        start = w.p - w.base
        _encode_field(field, w, _get(obj, field))
        # The size goes before the value but is known only now: make room and move the value up.
        size = w.p - w.base - start
        sized.base = sized.p = digits
        sized.end = digits + sizeof(digits)
        put_uvarint(&sized, size)
        reserve(w, sized.p - digits)
        memmove(w.base + start + (sized.p - digits), w.base + start, size)
        memcpy(w.base + start, digits, sized.p - digits)
        w.p += sized.p - digits
    return 0


cdef bint _is_default(Field field, object value) except -1:
    if field.fresh == FRESH_LIST:
        return value is not None and len(value) == 0
    if field.fresh == FRESH_STRUCT:
        return value == field.plan.cls()
    return value == field.default


cdef int _encode_field(Field field, Writer* w, object value) except -1:
    cdef Py_ssize_t i, count
    if not field.is_array:
        return _encode_one(field, w, value, field.nullable)
    if value is None:
        if not field.nullable:
            raise_range(field.label, value, "a list, not null")
        return put_count(w, field.flexible, -1)
    if not isinstance(value, (list, tuple)):
        raise_range(field.label, value, "a list")
    count = len(value)
    if count > 0x7FFFFFFF:
        raise_range(field.label, count, "fewer elements")
    put_count(w, field.flexible, count)
    for i in range(count):
        _encode_one(field, w, value[i], False)
    return 0


cdef int _encode_one(Field field, Writer* w, object value, bint nullable) except -1:
    cdef Kind kind = field.kind
    cdef uint64_t bits
    cdef double number
    if kind == INT32:
        return put_i32(w, <int32_t> as_int(value, -0x80000000LL, 0x7FFFFFFF, field.label))
    if kind == STRING:
        return put_string(w, field.flexible, nullable, value, field.label)
    if kind == STRUCT:
        if nullable:
            put_i8(w, -1 if value is None else 1)
            if value is None:
                return 0
        return _encode_struct(field.plan, w, value, field.label)
    if kind == INT16:
        return put_i16(w, <int16_t> as_int(value, -0x8000, 0x7FFF, field.label))
    if kind == INT64:
        return put_i64(w, as_int(value, INT64_MIN, INT64_MAX, field.label))
    if kind == BOOL:
        return put_i8(w, 1 if value else 0)
    if kind == INT8:
        return put_i8(w, <int8_t> as_int(value, -0x80, 0x7F, field.label))
    if kind == UUID:
        return put_uuid(w, value, field.label)
    if kind == BYTES:
        return put_bytes(w, field.flexible, nullable, value, field.label)
    if kind == UINT16:
        return put_i16(w, <int16_t> as_int(value, 0, 0xFFFF, field.label))
    if kind == UINT32:
        return put_i32(w, <int32_t> as_int(value, 0, 0xFFFFFFFFLL, field.label))
    number = PyFloat_AsDouble(value)
    memcpy(&bits, &number, 8)
    return put_i64(w, <int64_t> bits)


@cython.final
cdef class Codec:
    """Decodes and encodes one message class in one version."""

    cdef Plan plan
    cdef readonly int version

    def __init__(self, object cls not None, int version):
        low, high = cls.VERSIONS
        if not low <= version <= high:
            raise ValueError(f"{cls.__name__}: expected a version in {low}..{high}, got {version}")
        self.version = version
        self.plan = _plan(cls, version, 0 <= cls.FLEXIBLE_FROM <= version)

    def decode(self, object data, Py_ssize_t pos=0, *, bint exact=True):
        """The message that starts at `pos` of `data` and, if `exact`, takes all bytes from there."""
        cdef Py_buffer view
        cdef Reader r
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            open_reader(&r, &view, pos)
            message = _decode_struct(self.plan, &r)
            if exact and r.p != r.end:
                raise_wire(&r, self.plan.cls.__name__, "the end of the message",
                           f"{r.end - r.p} more bytes")
            return message
        finally:
            PyBuffer_Release(&view)

    def encode(self, object message):
        """The body alone."""
        cdef Writer w
        open_writer(&w, 256)
        try:
            _encode_struct(self.plan, &w, message, self.plan.cls.__name__)
            return PyBytes_FromStringAndSize(<const char*> w.base, w.p - w.base)
        finally:
            close_writer(&w)

    def encode_frame(self, int correlation_id, bint header_tags, object message):
        """A whole response: length prefix, header (with an empty tag section or none), body."""
        cdef Writer w
        open_writer(&w, 256)
        try:
            put_i32(&w, 0)
            put_i32(&w, correlation_id)
            if header_tags:
                put_i8(&w, 0)
            _encode_struct(self.plan, &w, message, self.plan.cls.__name__)
            if w.p - w.base - 4 > 0x7FFFFFFF:
                raise_range(self.plan.cls.__name__, w.p - w.base, "a frame below 2 GiB")
            store_i32(w.base, <int32_t> (w.p - w.base - 4))
            return PyBytes_FromStringAndSize(<const char*> w.base, w.p - w.base)
        finally:
            close_writer(&w)


# Request headers.

@cython.final
@cython.no_gc
@cython.freelist(64)
cdef class RequestHeader:
    """`body_pos` is where the body starts in the buffer that was parsed."""

    cdef readonly int api_key
    cdef readonly int api_version
    cdef readonly int correlation_id
    cdef readonly object client_id  # str, or None for null
    cdef readonly Py_ssize_t body_pos

    def __repr__(self):
        return (f"RequestHeader(api_key={self.api_key}, api_version={self.api_version},"
                f" correlation_id={self.correlation_id}, client_id={self.client_id!r},"
                f" body_pos={self.body_pos})")


cdef enum:
    API_KEYS_MAX = 128


@cython.final
cdef class HeaderParser:
    """Parses headers v1 and v2, given from which version on each API has the flexible one.

    An unknown API gets a v1 header: the dispatcher refuses it by its key.
    """

    cdef int flexible_from[API_KEYS_MAX]

    def __init__(self, dict flexible_from not None):
        cdef int key, version
        for key in range(API_KEYS_MAX):
            self.flexible_from[key] = -1
        for key, version in flexible_from.items():
            if not 0 <= key < API_KEYS_MAX:
                raise ValueError(f"api key: expected 0..{API_KEYS_MAX - 1}, got {key}")
            self.flexible_from[key] = version

    def __call__(self, object data, Py_ssize_t pos=0):
        cdef Py_buffer view
        cdef Reader r
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            open_reader(&r, &view, pos)
            return self._parse(&r)
        finally:
            PyBuffer_Release(&view)

    cdef RequestHeader _parse(self, Reader* r):
        cdef RequestHeader header = RequestHeader.__new__(RequestHeader)
        cdef const unsigned char* p = take(r, 8, "RequestHeader")
        cdef int first = -1
        header.api_key = load_i16(p)
        header.api_version = load_i16(p + 2)
        header.correlation_id = load_i32(p + 4)
        # Not compact even in header v2: Kafka kept it readable for every version of ApiVersions.
        header.client_id = read_string(r, False, True, "RequestHeader.client_id")
        if 0 <= header.api_key < API_KEYS_MAX:
            first = self.flexible_from[header.api_key]
        if first >= 0 and header.api_version >= first:
            skip_tags(r, "RequestHeader.tags")
        header.body_pos = r.p - r.base
        return header
