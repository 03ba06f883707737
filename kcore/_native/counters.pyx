"""Live-object counters (counters.pxd): one integer a kind, read by the tests' tear-down."""

from libc.stdint cimport int64_t

_NAMES = ("mappings", "segments", "views", "logs", "buffers")

cdef int64_t _counts[COUNTER_KINDS]


cdef void counter_up(Counter which) noexcept nogil:
    _counts[<int>which] += 1


cdef void counter_down(Counter which) noexcept nogil:
    _counts[<int>which] -= 1


def live():
    """How many objects of each kind are alive now."""
    cdef int i
    return {_NAMES[i]: _counts[i] for i in range(<int>COUNTER_KINDS)}
