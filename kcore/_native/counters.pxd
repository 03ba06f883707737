"""Live objects that hold a resource, counted so that tests can show that none leaks."""

cdef enum Counter:
    COUNTER_MAPPINGS = 0
    COUNTER_SEGMENTS = 1
    COUNTER_VIEWS = 2
    COUNTER_LOGS = 3
    COUNTER_BUFFERS = 4  # buffers of callers that a decoded object keeps open
    COUNTER_KINDS = 5

# Both need the GIL or a lock of the caller's: a counter is a plain integer.
cdef void counter_up(Counter which) noexcept nogil
cdef void counter_down(Counter which) noexcept nogil
