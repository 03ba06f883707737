"""The real file system."""

from kcore._native.fileops cimport FileOps


cdef class PosixOps(FileOps):
    pass
