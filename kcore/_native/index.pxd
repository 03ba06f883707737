"""Sparse offset and time indexes. Entries are kept as the bytes of the file: what is searched in
memory, mapped and written is one format, and a big-endian load costs one byte swap.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t

from kcore._native.fileops cimport File, FileOps
from kcore._native.mapping cimport Mapping


# Index of the last entry whose leading uint32 at `at` is <= key, or -1. Branchless.
cdef int64_t floor_u32(const uint8_t* entries, int64_t count, int64_t width, int64_t at,
                       uint32_t key) noexcept nogil


cdef class IndexFile:
    """Common part: an array of fixed-width entries, either owned (the active segment's, growing)
    or mapped from the file at first use (a sealed segment's)."""
    cdef FileOps ops
    cdef public str path
    cdef readonly int64_t base_offset
    cdef readonly int64_t count
    cdef readonly bint loaded
    cdef int64_t width
    cdef uint8_t* data
    cdef int64_t capacity          # entries allocated; 0 when mapped
    cdef int64_t stored            # leading entries that the file holds
    cdef Mapping mapping
    cdef File written               # not yet synced; kept open, because the name may change

    cdef uint8_t* _push(self) noexcept nogil
    cdef int release(self) except -1
    cdef int rest(self) except -1
    cdef bint _sane(self) noexcept nogil
    cdef int load(self, bint owned) except -1
    cdef int store(self, bint whole) except -1
    cdef int reset(self) except -1
    cdef int cut(self, int64_t count) except -1
    cdef int sync(self) except -1


cdef class OffsetIndex(IndexFile):
    cdef bint _entry(self, int64_t i, int64_t* last_offset, int64_t* pos) noexcept nogil
    cdef int add(self, int64_t last_offset, int64_t pos) noexcept nogil
    # Fills the greatest entry with last offset <= offset; False when there is none.
    cdef bint floor(self, int64_t offset, int64_t* last_offset, int64_t* pos) noexcept nogil
    cdef bint floor_pos(self, int64_t pos, int64_t* last_offset, int64_t* at) noexcept nogil
    cdef int truncate(self, int64_t pos) except -1


cdef class TimeIndex(IndexFile):
    cdef bint _entry(self, int64_t i, int64_t* timestamp, int64_t* offset) noexcept nogil
    cdef int add(self, int64_t timestamp, int64_t offset) noexcept nogil
    cdef bint floor(self, int64_t timestamp, int64_t* found, int64_t* offset) noexcept nogil
    cdef bint last(self, int64_t* timestamp, int64_t* offset) noexcept nogil
    cdef int truncate(self, int64_t next_offset) except -1
