"""The abstract FileOps: see fileops.pxd for the contract of each operation."""

import os


cdef class File:
    def __init__(self):
        raise TypeError("files come from FileOps.open")

    def __repr__(self):
        return f"<File {self.path!r} fd={self.fd}>"


cdef class FileOps:
    """Base of the two file systems. Methods that a subclass leaves out raise NotImplementedError."""

    cdef File open(self, str path, bint create):
        raise NotImplementedError

    cdef int pwrite(self, File f, const uint8_t* data, int64_t size, int64_t pos) except -1:
        raise NotImplementedError

    cdef int pwritev(self, File f, const Part* parts, int count, int64_t size,
                     int64_t pos) except -1:
        cdef int i
        for i in range(count):
            self.pwrite(f, <const uint8_t*>parts[i].data, <int64_t>parts[i].size, pos)
            pos += <int64_t>parts[i].size
        return 0

    cdef int sync(self, File f) except -1:
        raise NotImplementedError

    cdef int preallocate(self, File f, int64_t size) except -1:
        raise NotImplementedError

    cdef int truncate(self, File f, int64_t size) except -1:
        raise NotImplementedError

    cdef int64_t size(self, File f) except -1:
        raise NotImplementedError

    cdef uint8_t* map(self, File f, int64_t size) except NULL:
        raise NotImplementedError

    cdef void unmap(self, uint8_t* data, int64_t size) noexcept:
        pass

    cdef object identity(self, File f):
        raise NotImplementedError

    cdef bint maps_ahead(self):
        return False

    cdef bint stores_safely(self, File f):
        return False

    cdef bint wants_populate(self):
        return False

    cpdef list list(self, str directory):
        raise NotImplementedError

    cpdef bint exists(self, str path):
        raise NotImplementedError

    cpdef int64_t file_size(self, str path) except -1:
        raise NotImplementedError

    cpdef int64_t modified_ms(self, str path) except -1:
        raise NotImplementedError

    cpdef bytes read(self, str path):
        raise NotImplementedError

    cpdef make_dirs(self, str directory):
        raise NotImplementedError

    cpdef rename(self, str source, str target):
        raise NotImplementedError

    cpdef unlink(self, str path):
        raise NotImplementedError

    cpdef sync_dir(self, str directory):
        raise NotImplementedError

    cpdef store(self, str path, bytes data):
        """Replaces a small file whole: written aside, synced, renamed over, directory synced (D2)."""
        cdef str aside = path + ".tmp"
        if self.exists(aside):
            self.unlink(aside)
        cdef File f = self.open(aside, True)
        self.pwrite(f, <const uint8_t*><char*>data, len(data), 0)
        self.sync(f)
        self.rename(aside, path)
        self.sync_dir(os.path.dirname(path))
