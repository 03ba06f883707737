"""CRC-32C (Castagnoli): the checksum of every record batch.

The arithmetic is in crc32c_impl.c; the fastest way the processor has is picked once, here, at
import. Python callers pass any object with a contiguous buffer.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t

cdef extern from "crc32c_impl.h" nogil:
    void kcore_crc32c_init()
    uint32_t kcore_crc32c_extend(uint32_t crc, const void* p, size_t size)
    uint32_t kcore_crc32c_copy(uint32_t crc, void* dst, const void* src, size_t size)
    const char* kcore_crc32c_way(int index)
    bint kcore_crc32c_available(int index)
    int kcore_crc32c_use(int index)
    int kcore_crc32c_current()

cdef enum:
    NOGIL_BYTES_MIN = 256 * 1024  # about 10 us of work: now other threads gain from the GIL


cdef uint32_t crc32c_extend(uint32_t crc, const void* p, size_t size) noexcept nogil:
    return kcore_crc32c_extend(crc, p, size)


cdef uint32_t crc32c_copy(uint32_t crc, void* dst, const void* src, size_t size) noexcept nogil:
    return kcore_crc32c_copy(crc, dst, src, size)


def crc32c(data, uint32_t crc=0):
    """The CRC-32C of `data`, continuing from `crc` (0 to start)."""
    # bytes by hand: a typed memoryview argument would cost another 80 to 100 ns a call.
    if PyBytes_CheckExact(data) and PyBytes_GET_SIZE(data) < NOGIL_BYTES_MIN:
        return kcore_crc32c_extend(crc, PyBytes_AS_STRING(data), <size_t>PyBytes_GET_SIZE(data))
    cdef Py_buffer view
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        if view.len < NOGIL_BYTES_MIN:
            crc = kcore_crc32c_extend(crc, view.buf, <size_t>view.len)
        else:
            with nogil:
                crc = kcore_crc32c_extend(crc, view.buf, <size_t>view.len)
    finally:
        PyBuffer_Release(&view)
    return crc


def crc32c_into(target, data, uint32_t crc=0):
    """Copy `data` to the start of the writable buffer `target`; its CRC-32C from the same pass."""
    cdef Py_buffer src, dst
    cdef char* src_start
    cdef char* dst_start
    PyObject_GetBuffer(data, &src, PyBUF_SIMPLE)
    try:
        PyObject_GetBuffer(target, &dst, PyBUF_WRITABLE)
        try:
            if dst.len < src.len:
                raise ValueError(f"target has {dst.len} bytes, data {src.len}")
            src_start = <char*>src.buf
            dst_start = <char*>dst.buf
            if src_start < dst_start + src.len and dst_start < src_start + src.len and src.len:
                raise ValueError("target and data overlap")
            with nogil:
                crc = kcore_crc32c_copy(crc, dst.buf, src.buf, <size_t>src.len)
        finally:
            PyBuffer_Release(&dst)
    finally:
        PyBuffer_Release(&src)
    return crc


def ways():
    """Names of the ways this processor can compute it, slowest first."""
    cdef int i = 0
    names = []
    while kcore_crc32c_way(i) != NULL:
        if kcore_crc32c_available(i):
            names.append(kcore_crc32c_way(i).decode("ascii"))
        i += 1
    return names


def current_way():
    """Name of the way in use."""
    return kcore_crc32c_way(kcore_crc32c_current()).decode("ascii")


def use_way(str name):
    """Switch to the way `name` (tests and benches compare them; import has picked the fastest)."""
    cdef int i = 0
    while kcore_crc32c_way(i) != NULL:
        if kcore_crc32c_way(i).decode("ascii") == name and kcore_crc32c_use(i) == 0:
            return
        i += 1
    raise ValueError(f"this processor has no way {name!r}; it has {', '.join(ways())}")


kcore_crc32c_init()
