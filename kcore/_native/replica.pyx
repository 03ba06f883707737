"""What a partition shows of itself to those who serve it natively: see replica.pxd."""

cdef class Replica:
    pass
