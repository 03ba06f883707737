"""Mappings and spans: see mapping.pxd for who owns what."""

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from libc.string cimport memset

cdef extern from "mapping_impl.h" nogil:
    void populate_submit(PopulateJob* job, uint8_t* addr, int64_t size)
    int populate_poll(PopulateJob* job)
    void populate_cancel(PopulateJob* job)
    int populate_threads()


# Live mappings of each file of this process, by FileOps.identity.
cdef dict _mappings = {}
cdef int64_t _live = 0


# Without the collector: its tp_clear would take `ops` away before __dealloc__ needs it, and a
# mapping holds nothing that could close a cycle.
@cython.final
@cython.no_gc
cdef class Mapping:
    def __init__(self):
        raise TypeError("mappings are made by segments")

    @staticmethod
    cdef Mapping new(FileOps ops, File file, int64_t size):
        global _live
        cdef Mapping m = Mapping.__new__(Mapping)
        memset(&m.job, 0, sizeof(PopulateJob))
        m.ops = ops
        m.file = file
        m.data = ops.map(file, size)
        m.size = size
        _live += 1
        m.identity = ops.identity(file)
        _mappings[m.identity] = _mappings.get(m.identity, 0) + 1
        return m

    cdef bint shared(self):
        return self.spans > 0 or _mappings[self.identity] > 1

    cdef void close_file(self) noexcept:
        if self.file.fd >= 0:
            self.file = None

    cdef void populate(self, int64_t pos, int64_t size) noexcept:
        populate_submit(&self.job, self.data + pos, size)

    cdef int poll(self) noexcept:
        return populate_poll(&self.job)

    cdef void cancel(self) noexcept:
        with nogil:
            populate_cancel(&self.job)

    def __dealloc__(self):
        global _live
        if self.data != NULL:
            _live -= 1
            self.cancel()
            if self.identity is not None:
                left = _mappings[self.identity] - 1
                if left:
                    _mappings[self.identity] = left
                else:
                    del _mappings[self.identity]
            if self.ops is not None:
                self.ops.unmap(self.data, self.size)
            self.data = NULL


@cython.final
@cython.no_gc
@cython.freelist(64)
cdef class FetchSpan:
    def __init__(self):
        raise TypeError("spans come from Log.read")

    @staticmethod
    cdef FetchSpan new(Mapping mapping, int64_t position, int64_t size, int64_t base_offset,
                       int64_t next_offset):
        cdef FetchSpan span = FetchSpan.__new__(FetchSpan)
        span.mapping = mapping
        mapping.spans += 1
        span.position = position
        span.size = size
        span.base_offset = base_offset
        span.next_offset = next_offset
        return span

    def __dealloc__(self):
        if self.mapping is not None:
            self.mapping.spans -= 1

    def __getbuffer__(self, Py_buffer* view, int flags):
        PyBuffer_FillInfo(view, self, self.mapping.data + self.position, self.size, 1, flags)

    def __len__(self):
        return self.size

    @property
    def fd(self):
        """The file's descriptor, or -1 in memory; valid while the span lives."""
        return self.mapping.file.fd

    def __bytes__(self):
        return (<const char*>(self.mapping.data + self.position))[:self.size]

    def __repr__(self):
        return (f"<FetchSpan offsets {self.base_offset}..{self.next_offset} "
                f"{self.size} bytes at {self.position}>")


def live_mappings():
    """How many there are in this process; each takes one of `vm.max_map_count`, and one of a log
    a descriptor."""
    return _live


def helper_threads():
    """How many populate threads run right now: 0 or 1. For tests and metrics."""
    return populate_threads()
