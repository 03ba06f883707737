"""Assertions that exist only in a debug build. See debug.h."""

cdef extern from "debug.h" nogil:
    const int KCORE_DEBUG
    void KCORE_ASSERT(bint condition)
