"""A file system in memory: the in-memory mode of a log, and the crash simulator of the tests."""

from libc.stdint cimport int64_t, uint8_t

from kcore._native.fileops cimport File, FileOps


cdef class Inode:
    """The bytes of one file. Every arena it ever had lives as long as it does: old mappings may
    still show them."""
    cdef uint8_t* live
    cdef int64_t capacity
    cdef int64_t size
    cdef int64_t modified_ms
    cdef list arenas            # [(address, capacity)]
    cdef bytes durable          # content at the last sync; None before the first, or untracked

    cdef int reserve(self, int64_t capacity) except -1


cdef class MemoryFile(File):
    cdef Inode inode


cdef class MemoryOps(FileOps):
    cdef dict _names            # directory -> {name: Inode}
    cdef dict _durable_names    # the same as of each directory's last sync
    cdef list _pending          # name changes since: (directory, name, Inode or None)
    cdef list _faults
    cdef bint _tracks
    cdef bint _stores
    cdef object _clock_ms
    cdef public object capacity_bytes
    cdef readonly dict calls    # how often each operation ran, for tests

    cdef int64_t _enter(self, str op, str path) except? -1
    cdef Inode _find(self, str path)
    cdef _put(self, Inode inode, const uint8_t* data, int64_t size, int64_t pos)
    cdef int _charge(self, Inode inode, int64_t size, str path) except -1
