"""Counted mappings of segment files, and the spans that readers hold into them."""

from libc.stdint cimport int64_t, uint8_t

from kcore._native.fileops cimport File, FileOps


cdef extern from "mapping_impl.h" nogil:
    ctypedef struct PopulateJob:
        pass


cdef class Mapping:
    """A mapping of the first `size` bytes of a file; unmapped when the last reference goes.

    Owners: the segment, and every FetchSpan cut from it. A file is not cut below a position that
    a live span may show: `shared` says whether one may.
    """
    cdef readonly int64_t size
    cdef int64_t spans
    cdef object identity
    cdef uint8_t* data
    cdef FileOps ops
    cdef readonly File file
    cdef PopulateJob job

    @staticmethod
    cdef Mapping new(FileOps ops, File file, int64_t size)
    # Whether a span of this file lives, cut from this mapping or an older one (of a log that was
    # closed since, say).
    cdef bint shared(self)
    # Lets the descriptor go where the mapping does not need it: indexes are only looked into.
    cdef void close_file(self) noexcept
    # Asks the helper thread to make [pos, pos + size) writable without faults.
    cdef void populate(self, int64_t pos, int64_t size) noexcept
    # 1: the last request is done, 0: under way or none, -1: the kernel refused. Tells once.
    cdef int poll(self) noexcept
    # Returns once the helper thread touches nothing of this mapping.
    cdef void cancel(self) noexcept


cdef class FetchSpan:
    """Whole batches of one segment, without a copy: a read-only buffer over the mapping."""
    cdef Mapping mapping
    cdef readonly int64_t base_offset     # of the first batch, which may begin below the offset asked for
    cdef readonly int64_t next_offset     # one past the last batch
    cdef readonly int64_t position        # of the first batch in the file
    cdef readonly int64_t size

    @staticmethod
    cdef FetchSpan new(Mapping mapping, int64_t position, int64_t size, int64_t base_offset,
                       int64_t next_offset)
