"""The one door from the engine to a file system: a table of operations, called per file operation.

`posixops.PosixOps` is the real one, `simops.MemoryOps` the in-memory mode and the crash simulator.
Everything raises OSError with an errno; what an errno means for a log is decided in `segment`.
"""

from libc.stdint cimport int64_t, uint8_t

cdef extern from "<sys/uio.h>" nogil:
    ctypedef struct Part "struct iovec":
        void* data "iov_base"
        size_t size "iov_len"

cdef enum:
    PARTS_MAX = 16


cdef class File:
    """An open file. The descriptor lives as long as the object: whoever may still sync or send
    from it (a flush on another thread, a span) holds a reference, so nobody closes it under them.
    """
    cdef readonly str path
    cdef readonly int fd            # -1 where there is no descriptor


cdef class FileOps:
    # Opens for reading and writing; `create` makes an empty file and refuses one that is there.
    cdef File open(self, str path, bint create)
    # Writes all of it or raises; after an error the bytes from `pos` on are unknown.
    cdef int pwrite(self, File f, const uint8_t* data, int64_t size, int64_t pos) except -1
    # The same with bytes that lie apart: up to PARTS_MAX parts, `size` bytes together.
    cdef int pwritev(self, File f, const Part* parts, int count, int64_t size,
                     int64_t pos) except -1
    # fdatasync, without the GIL.
    cdef int sync(self, File f) except -1
    # Makes [0, size) exist with blocks behind it: a full disk is an error here, never a SIGBUS.
    cdef int preallocate(self, File f, int64_t size) except -1
    cdef int truncate(self, File f, int64_t size) except -1
    cdef int64_t size(self, File f) except -1
    # Maps [0, size); `size` may pass the end of the file where `maps_ahead` says so: the pages
    # then become usable as the file grows below them. NULL is an error.
    cdef uint8_t* map(self, File f, int64_t size) except NULL
    cdef void unmap(self, uint8_t* data, int64_t size) noexcept
    cdef bint maps_ahead(self)
    # Equal for two handles of one file, whatever its name is by now.
    cdef object identity(self, File f)
    # Whether stores through a mapping of this file can never fail once its blocks exist.
    cdef bint stores_safely(self, File f)
    # Whether mapped pages need to be populated by the helper thread before a cheap store.
    cdef bint wants_populate(self)

    cpdef list list(self, str directory)
    cpdef bint exists(self, str path)
    cpdef int64_t file_size(self, str path) except -1
    cpdef int64_t modified_ms(self, str path) except -1
    cpdef bytes read(self, str path)
    cpdef make_dirs(self, str directory)
    cpdef rename(self, str source, str target)
    cpdef unlink(self, str path)
    cpdef sync_dir(self, str directory)
    cpdef store(self, str path, bytes data)
